package ecmp

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"tunneldirector/director/vip"
	"tunneldirector/integration/software"
	"tunneldirector/integration/spaces"
)

var (
	vip4 = netip.MustParseAddr("198.51.100.1")
	vip6 = netip.MustParseAddr("2001:db8:1::1")
	vips = []netip.Addr{vip4, vip6}
)

// lifetime is of the VIPs.
const lifetime = 6 * time.Second

// A rig is a router with two directors before it, and a host behind it from which the sites' packets come:
//
//	sites --up0-- router --lan0-- director 1, director 2
type rig struct {
	t             *testing.T
	program       string // BIRD
	env           []string
	router, sites spaces.Space
	directors     [2]*director
}

// A director is what of one matters to routers: addresses, and a router of its own.
type director struct {
	space  spaces.Space
	filter *vip.Filter
	hangs  atomic.Bool
	bird   *exec.Cmd

	mu     sync.Mutex
	holder *vip.Holder
}

func newRig(t *testing.T) *rig {
	program, env := bird(t) // before this thread is in a namespace, from which nothing can be downloaded
	s := spaces.New(t, 4)
	r := &rig{t: t, program: program, env: env, router: s[0], sites: s[1], directors: [2]*director{{space: s[2]}, {space: s[3]}}}
	r.router.Do(func() {
		must(t, netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "lan0"}}))
	})
	r.router.Up("lan0")
	spaces.Wire(r.router, "up0", r.sites, "eth0")
	for i, d := range r.directors {
		port := []string{"port1", "port2"}[i]
		spaces.Wire(r.router, port, d.space, "eth0")
		lan, link := r.router.Link("lan0"), r.router.Link(port)
		r.router.Do(func() { must(t, netlink.LinkSetMaster(link, lan)) })
		d.space.Give("eth0", []string{"192.0.2.11/24", "192.0.2.12/24"}[i], []string{"2001:db8::11/64", "2001:db8::12/64"}[i])
		d.space.Route("0.0.0.0/0", "192.0.2.1")
		d.space.Route("::/0", "2001:db8::1")
		d.space.Sysctl("net/ipv4/conf/eth0/arp_ignore", "1") // as `director check` wants it
		d.space.Sysctl("net/ipv4/conf/eth0/arp_announce", "2")
	}
	r.router.Give("lan0", "192.0.2.1/24", "2001:db8::1/64")
	r.router.Give("up0", "203.0.113.1/24", "2001:db8:9::1/64")
	for _, path := range []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", "net/ipv4/fib_multipath_hash_policy", "net/ipv6/fib_multipath_hash_policy"} {
		r.router.Sysctl(path, "1")
	}
	r.sites.Give("eth0", "203.0.113.2/24", "2001:db8:9::2/64")
	r.sites.Route("0.0.0.0/0", "203.0.113.1")
	r.sites.Route("::/0", "2001:db8:9::1")
	return r
}

// hold opens what a director holds by, and renews it until the test ends or the director hangs.
func (r *rig) hold(d *director) {
	r.t.Helper()
	d.space.Do(func() {
		var err error
		d.filter, err = vip.OpenFilter()
		must(r.t, err)
		d.holder, err = vip.OpenHolder(vip.Config{Tunnel: []string{"eth0"}}, d.filter, slog.New(slog.DiscardHandler))
		must(r.t, err)
	})
	r.decide(d)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(vip.RenewEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if d.hangs.Load() {
					continue
				}
				d.mu.Lock()
				_, err := d.holder.Renew(ctx)
				d.mu.Unlock()
				if err != nil && ctx.Err() == nil {
					r.t.Errorf("renew: %v", err)
				}
			}
		}
	}()
	r.t.Cleanup(func() {
		cancel()
		<-done
		must(r.t, d.holder.Close())
		must(r.t, d.filter.Close())
	})
}

// decide is a director's decision to hold the VIPs, silently as all do.
func (r *rig) decide(d *director) {
	r.t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.space.Do(func() {
		_, err := d.holder.Hold(r.t.Context(), vip.Wanted{VIPs: vips}, vip.Held{VIPs: vips, Lifetime: lifetime, Silent: true})
		must(r.t, err)
	})
}

// birds gets BIRD and starts it everywhere.
func (r *rig) birds() {
	r.t.Helper()
	r.start(r.router, r.program, r.env, example(r.t, "bird-router.conf"))
	for i := range r.directors {
		r.revive(i, r.program, r.env)
	}
}

// bird is the program, and what it needs of the environment.
func bird(t *testing.T) (program string, env []string) {
	t.Helper()
	paths, env, err := software.Unpack(t.Context(), filepath.Join("..", "..", "build", "vm"), slog.New(slog.NewTextHandler(t.Output(), nil)), []string{"bird2"}, "usr/sbin/bird")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("no BIRD:", err)
	}
	return paths[0], env
}

// revive starts the BIRD of a director, whose file has two lines of its own.
func (r *rig) revive(i int, program string, env []string) {
	text := example(r.t, "bird-director.conf")
	if i == 1 {
		for old, own := range map[string]string{"MINE4 = 192.0.2.11;": "MINE4 = 192.0.2.12;", "MINE6 = 2001:db8::11;": "MINE6 = 2001:db8::12;"} {
			if !bytes.Contains(text, []byte(old)) {
				r.t.Fatalf("the example has no line %q", old)
			}
			text = bytes.Replace(text, []byte(old), []byte(own), 1)
		}
	}
	r.directors[i].bird = r.start(r.directors[i].space, program, env, text)
}

func example(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "examples", "ecmp", name))
	must(t, err)
	return text
}

// start starts BIRD in a namespace until the test ends.
func (r *rig) start(s spaces.Space, program string, env []string, text []byte) *exec.Cmd {
	r.t.Helper()
	dir := r.t.TempDir()
	file := filepath.Join(dir, "bird.conf")
	must(r.t, os.WriteFile(file, text, 0o600))
	cmd := exec.Command(program, "-f", "-c", file, "-s", filepath.Join(dir, "ctl"))
	cmd.Env, cmd.Stdout, cmd.Stderr = env, r.t.Output(), r.t.Output()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	s.Do(func() { must(r.t, cmd.Start()) }) // on the test's own thread, which lives as long as the test
	r.t.Cleanup(func() {
		_ = cmd.Process.Kill() // dead already where the test killed it
		_ = cmd.Wait()
	})
	return cmd
}

// nextHops are the directors over which the router spreads a VIP's packets.
func (r *rig) nextHops(a netip.Addr) (hops []string) {
	r.t.Helper()
	r.router.Do(func() {
		var err error
		hops, err = nextHops(a)
		must(r.t, err)
	})
	return hops
}

// nextHops are those of an address's own route in the namespace of the calling thread, sorted.
func nextHops(a netip.Addr) (hops []string, err error) {
	family := netlink.FAMILY_V4
	if a.Is6() {
		family = netlink.FAMILY_V6
	}
	dst := &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}
	routes, err := netlink.RouteListFiltered(family, &netlink.Route{Dst: dst}, netlink.RT_FILTER_DST)
	for _, route := range routes {
		if route.Gw != nil {
			hops = append(hops, route.Gw.String())
		}
		for _, h := range route.MultiPath {
			hops = append(hops, h.Gw.String())
		}
	}
	slices.Sort(hops)
	return hops, err
}

// until waits for the routers to spread over these directors, by their last digits, and tells how long it took.
func (r *rig) until(begin time.Time, limit time.Duration, last ...string) (took map[netip.Addr]time.Duration) {
	r.t.Helper()
	want := map[netip.Addr][]string{}
	for _, digits := range last {
		want[vip4] = append(want[vip4], "192.0.2."+digits)
		want[vip6] = append(want[vip6], "2001:db8::"+digits)
	}
	took = map[netip.Addr]time.Duration{}
	for len(took) < len(vips) {
		for _, a := range vips {
			if _, done := took[a]; !done && slices.Equal(r.nextHops(a), want[a]) {
				took[a] = time.Since(begin)
			}
		}
		if time.Since(begin) > limit {
			r.t.Fatalf("after %v the next hops are %v and %v, want %v", limit, r.nextHops(vip4), r.nextHops(vip6), want)
		}
		time.Sleep(5 * time.Millisecond)
	}
	return took
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
