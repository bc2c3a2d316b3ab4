package ecmp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"tunneldirector/integration/daemon"
	"tunneldirector/integration/lab"
	"tunneldirector/integration/spaces"
)

// Two directors at work, and WireGuard through both: one is stopped, and the router leaves it out while packets flow on.
func TestDirectors(t *testing.T) {
	spaces.Root(t)
	program, env := bird(t) // it and the director may take minutes to get: before there is a lab that waits
	binary := filepath.Join(t.TempDir(), "director")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "../../cmd/director").CombinedOutput(); err != nil {
		t.Fatalf("build the director: %v\n%s", err, out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	l, err := lab.New(context.WithoutCancel(ctx), lab.Options{Directors: 2, Sites: 4, SiteNamespaces: 2, RealServers: 2, IPv6: true})
	must(t, err)
	t.Cleanup(func() { must(t, l.Close()) })
	all := directors(ctx, t, l, binary)
	must(t, all[0].Apply(ctx))
	for _, s := range l.Sites {
		must(t, all[0].Push(ctx, s))
	}
	routers(t, l, program, env)
	hops(ctx, t, l, 30*time.Second, 2, 3)
	must(t, l.Establish(ctx))

	const pause = 20 * time.Millisecond
	var pings []*lab.Pinger
	for _, s := range l.Sites {
		p, err := l.StartPing(ctx, s.NS, s.Inside[0], l.Target.Inner.Addrs[0], pause, 0)
		must(t, err)
		pings = append(pings, p)
	}
	time.Sleep(2 * time.Second)
	must(t, all[0].Signal(syscall.SIGSTOP))
	t.Logf("a director's daemon is stopped: the router leaves it out after %.2f s", hops(ctx, t, l, 30*time.Second, 3).Seconds())
	time.Sleep(2 * time.Second)
	must(t, all[0].Signal(syscall.SIGCONT))
	t.Logf("it goes on: the router has it again after %.2f s", hops(ctx, t, l, 30*time.Second, 2, 3).Seconds())
	time.Sleep(time.Second)
	for i, p := range pings {
		echoes, err := p.Stop()
		must(t, err)
		lost, outage := lab.CountLost(echoes), lab.Outage(echoes, pause)
		t.Logf("site %d: %d of %d packets lost, all for %.2f s", i+1, lost, len(echoes), outage.Seconds())
		if outage > 5*time.Second {
			t.Errorf("nothing came through from site %d for %v", i+1, outage)
		}
	}
}

// directors starts the lab's directors as one cluster in which all hold every VIP.
func directors(ctx context.Context, t *testing.T, l *lab.Lab, binary string) (all []*daemon.Daemon) {
	t.Helper()
	dir := t.TempDir()
	authority, err := daemon.NewAuthority(dir)
	must(t, err)
	for _, on := range l.Directors {
		settings, err := authority.Member(l, on, daemon.Membership{More: "  addresses: all"})
		must(t, err)
		own := filepath.Join(dir, on.Title)
		must(t, os.Mkdir(own, 0o755))
		d, err := daemon.New(l, daemon.Options{Binary: binary, Dir: own, On: on, Settings: settings, Log: t.Output()})
		must(t, err)
		must(t, on.Sysctl(map[string]string{"ipv4/conf/" + on.Sites.Name + "/arp_ignore": "1", "ipv4/conf/" + on.Sites.Name + "/arp_announce": "2"}))
		must(t, d.Launch())
		all = append(all, d)
	}
	for _, d := range all {
		must(t, d.Ready(ctx))
	}
	return all
}

// routers starts BIRD beside the directors and on the router, with the lab's addresses in the examples' files.
func routers(t *testing.T, l *lab.Lab, program string, env []string) {
	t.Helper()
	// The lab's router looks for the VIPs on the wire, where they are silent.
	must(t, l.Router.Run(func() error {
		var errs []error
		for i, a := range l.VIPs {
			dst := &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}
			list, err := netlink.RouteListFiltered([]int{netlink.FAMILY_V4, netlink.FAMILY_V6}[i], &netlink.Route{Dst: dst}, netlink.RT_FILTER_DST)
			errs = append(errs, err)
			for _, route := range list {
				errs = append(errs, netlink.RouteDel(&route))
			}
		}
		return errors.Join(errs...)
	}))
	run := func(ns *lab.Namespace, file string, own [2]netip.Addr) {
		text := string(example(t, file))
		o := l.Directors
		text = strings.NewReplacer("198.51.100.0/24{", lab.VIP4.String()+"/32{", "2001:db8:1::/64{", lab.VIP6.String()+"/128{",
			"192.0.2.11 as", o[0].Sites.Addrs[0].String()+" as", "192.0.2.12 as", o[1].Sites.Addrs[0].String()+" as",
			"2001:db8::11 as", o[0].Sites.Addrs[1].String()+" as", "2001:db8::12 as", o[1].Sites.Addrs[1].String()+" as",
			"MINE4 = 192.0.2.11;", fmt.Sprintf("MINE4 = %s;", own[0]), "MINE6 = 2001:db8::11;", fmt.Sprintf("MINE6 = %s;", own[1]),
			" = 192.0.2.1;", fmt.Sprintf(" = %s;", l.Router.Outer.Addrs[0]), " = 2001:db8::1;", fmt.Sprintf(" = %s;", l.Router.Outer.Addrs[1])).Replace(text)
		dir := t.TempDir()
		conf := filepath.Join(dir, "bird.conf")
		must(t, os.WriteFile(conf, []byte(text), 0o600))
		p := l.Command(ns, program, "-f", "-c", conf, "-s", filepath.Join(dir, "ctl"))
		p.Cmd.Env, p.Cmd.Stdout, p.Cmd.Stderr = env, t.Output(), t.Output()
		must(t, p.Start())
	}
	run(l.Router.Namespace, "bird-router.conf", [2]netip.Addr(l.Router.Outer.Addrs))
	for _, d := range l.Directors {
		run(d.Namespace, "bird-director.conf", [2]netip.Addr(d.Sites.Addrs))
	}
}

// hops waits until the router spreads both VIPs over these directors, by their numbers on the segment.
func hops(ctx context.Context, t *testing.T, l *lab.Lab, limit time.Duration, hosts ...int) time.Duration {
	t.Helper()
	begin := time.Now()
	for {
		got := map[netip.Addr][]string{}
		must(t, l.Router.Run(func() error {
			for _, a := range l.VIPs {
				list, err := nextHops(a)
				if err != nil {
					return err
				}
				got[a] = list
			}
			return nil
		}))
		all := true
		for i, a := range l.VIPs {
			var want []string
			for _, n := range hosts {
				want = append(want, l.Directors[n-2].Sites.Addrs[i].String())
			}
			slices.Sort(want)
			all = all && slices.Equal(got[a], want)
		}
		if all {
			return time.Since(begin)
		}
		if time.Since(begin) > limit || ctx.Err() != nil {
			t.Fatalf("after %v the next hops are %v, want directors %v", limit, got, hosts)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
