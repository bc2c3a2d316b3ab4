package host

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"tunneldirector/realserver/space"
)

var (
	vip4 = netip.MustParseAddr("192.0.2.100")
	vip6 = netip.MustParseAddr("2001:db8::100")
)

// need skips where namespaces cannot be made or looked at; in CI that is a failure.
func need(t testing.TB) {
	t.Helper()
	var missing []string
	if os.Getuid() != 0 {
		missing = append(missing, "root (network namespaces)")
	}
	for _, program := range []string{"ip", "nft"} {
		if _, err := exec.LookPath(program); err != nil {
			missing = append(missing, program)
		}
	}
	switch {
	case len(missing) == 0:
	case os.Getenv("CI") == "true":
		t.Fatalf("this test needs %v, and CI has to have it", missing)
	default:
		t.Skipf("needs %v", missing)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A room is a network namespace of a test, by its name.
type room struct {
	testing.TB
	ns space.Space
}

var rooms atomic.Int32

// newRoom makes a namespace with lo up.
func newRoom(t testing.TB, name string) room {
	t.Helper()
	need(t)
	name = fmt.Sprintf("tdhost-%d-%d-%s", os.Getpid(), rooms.Add(1), name)
	runtime.LockOSThread()
	home, err := netns.Get()
	must(t, err)
	h, err := netns.NewNamed(name)
	must(t, errors.Join(err, netns.Set(home), home.Close()))
	runtime.UnlockOSThread()
	must(t, h.Close())
	t.Cleanup(func() { must(t, netns.DeleteNamed(name)) })
	r := room{t, space.Space(name)}
	r.ip("link set lo up")
	r.set("net/ipv6/conf/default/accept_dad", "0")
	return r
}

// in runs f there; f must not fail the test.
func (r room) in(f func(v *view) error) {
	r.Helper()
	must(r, look(r.ns, f))
}

// ip runs ip(8) there, several commands if there are several lines.
func (r room) ip(lines string) string {
	r.Helper()
	var all strings.Builder
	for line := range strings.Lines(lines) {
		out, err := exec.Command("ip", append([]string{"-n", string(r.ns)}, strings.Fields(line)...)...).Output()
		if err != nil {
			said := ""
			if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
				said = string(exit.Stderr)
			}
			r.Fatalf("ip %s: %v: %s", line, err, said)
		}
		all.Write(out)
	}
	return all.String()
}

func (r room) set(path, value string) {
	r.Helper()
	r.in(func(v *view) error { return v.set(path, value) })
}

func (r room) get(path string) (value string) {
	r.Helper()
	r.in(func(v *view) (err error) {
		value, err = v.setting(path)
		return err
	})
	return value
}

// wire joins two rooms by a veth pair.
func wire(a room, aName string, b room, bName string) {
	a.Helper()
	to, err := netns.GetFromName(string(b.ns))
	must(a, err)
	defer to.Close()
	a.in(func(v *view) error {
		return v.nl.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: aName}, PeerName: bName, PeerNamespace: netlink.NsFd(to)})
	})
	a.ip("link set " + aName + " up")
	b.ip("link set " + bName + " up")
}

// until waits for a word in what ip says.
func (r room) until(command, word string) {
	r.Helper()
	r.wait("ip "+command+": "+word, func() bool { return strings.Contains(r.ip(command), word) })
}

// settle waits until devices have their own IPv6 addresses.
func (r room) settle(devices ...string) {
	r.Helper()
	for _, d := range devices {
		r.until("-6 address show dev "+d, "fe80")
	}
	r.wait("no tentative address", func() bool { return r.ip("-6 address show tentative") == "" })
}

func (r room) wait(what string, there func() bool) {
	r.Helper()
	for end := time.Now().Add(10 * time.Second); !there(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			r.Fatal("there is no " + what)
		}
	}
}

// A site is a real server's host, a switch with a router and a director behind eth0, and targets behind eth1.
type site struct {
	rs, router, inner room
	file              string
}

func newSite(t testing.TB) site {
	t.Helper()
	s := site{newRoom(t, "rs"), newRoom(t, "router"), newRoom(t, "inner"), filepath.Join(t.TempDir(), "host.json")}
	wire(s.rs, "eth0", s.router, "rs0")
	wire(s.rs, "eth1", s.inner, "rs1")
	s.rs.ip(`address add 192.0.2.10/24 dev eth0
address add 2001:db8::10/64 dev eth0
address add 10.9.0.10/24 dev eth1
route add default via 192.0.2.1
route add default via 2001:db8::1
`)
	s.router.ip(`address add 192.0.2.1/24 dev rs0
address add 2001:db8::1/64 dev rs0
`)
	s.inner.ip("address add 10.9.0.1/24 dev rs1\n")
	s.rs.settle("eth0", "eth1")
	return s
}

// instance is one that most tests take.
func (s site) instance() Instance {
	return Instance{Name: "rs1", Space: s.rs.ns, VIPs: []netip.Addr{vip4, vip6}, Method: DR, Interface: "eth0"}
}

func (s site) host(t testing.TB, instances ...Instance) *Host {
	t.Helper()
	h, err := New(Config{Instances: instances, StateFile: s.file})
	must(t, err)
	return h
}

var (
	lifetimes = regexp.MustCompile(`(valid_lft|preferred_lft|expires) \S+`)
	moving    = regexp.MustCompile(`/(neigh/\w+/\w+|route/\w+|mc_forwarding|random|stable_secret|.*use_tempaddr_max)$`)
)

// snapshot is all that Revert has to bring back, but for a module's own devices.
func (r room) snapshot() []string {
	r.Helper()
	var out []string
	for _, command := range []string{"-o -d address show", "-o -d link show", "-4 -d route show table all", "-6 -d route show table all", "-4 -d rule show", "-6 -d rule show"} {
		for line := range strings.Lines(r.ip(command)) {
			line = regexp.MustCompile(`^\d+: (\S+)`).ReplaceAllString(lifetimes.ReplaceAllString(strings.TrimSpace(line), "$1"), command+": $1")
			if !strings.Contains(line, "tunl0") && !strings.Contains(line, "ip6tnl0") {
				out = append(out, line)
			}
		}
	}
	r.in(func(v *view) error {
		return filepath.WalkDir("/proc/sys/net", func(path string, e os.DirEntry, err error) error {
			if err != nil || e.IsDir() || moving.MatchString(path) || strings.Contains(path, "tunl0") || strings.Contains(path, "ip6tnl0") {
				return nil
			}
			b, err := os.ReadFile(path)
			if err == nil {
				out = append(out, path+" = "+string(b))
			}
			return nil
		})
	})
	rules, err := exec.Command("ip", "netns", "exec", string(r.ns), "nft", "list", "ruleset").Output()
	must(r, err)
	out = append(out, string(rules))
	slices.Sort(out)
	return out
}

// A dying context is cancelled after so many looks at it.
type dying struct {
	context.Context
	looks *int
}

func (d dying) Err() error {
	if *d.looks--; *d.looks < 0 {
		return context.Canceled
	}
	return nil
}
