package route

import (
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A space is a network namespace of a test.
type space struct {
	t  testing.TB
	ns netns.NsHandle
}

// newSpaces makes n namespaces and leaves the test, on a thread of its own, in the first.
func newSpaces(t testing.TB, n int) []space {
	t.Helper()
	if os.Getuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("this test needs root, and CI has to have it")
		}
		t.Skip("needs root (network namespaces)")
	}
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	var out []space
	for range n {
		ns, err := netns.New()
		must(t, err)
		t.Cleanup(func() { ns.Close() })
		s := space{t, ns}
		must(t, os.WriteFile("/proc/sys/net/ipv6/conf/default/accept_dad", []byte("0"), 0o644))
		s.up("lo")
		out = append(out, s)
	}
	must(t, netns.Set(out[0].ns))
	return out
}

// do runs f in s, on the test's thread.
func (s space) do(f func()) {
	s.t.Helper()
	back, err := netns.Get()
	must(s.t, err)
	defer back.Close()
	must(s.t, netns.Set(s.ns))
	defer func() { must(s.t, netns.Set(back)) }()
	f()
}

func (s space) link(name string) (l netlink.Link) {
	s.t.Helper()
	s.do(func() {
		var err error
		l, err = netlink.LinkByName(name)
		must(s.t, err)
	})
	return l
}

func (s space) up(name string) {
	s.t.Helper()
	l := s.link(name)
	s.do(func() { must(s.t, netlink.LinkSetUp(l)) })
}

func (s space) down(name string) {
	s.t.Helper()
	l := s.link(name)
	s.do(func() { must(s.t, netlink.LinkSetDown(l)) })
}

// wire joins two namespaces by a veth pair.
func wire(a space, aName string, b space, bName string) {
	a.t.Helper()
	a.do(func() {
		must(a.t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: aName}, PeerName: bName, PeerNamespace: netlink.NsFd(b.ns)}))
	})
	a.up(aName)
	b.up(bName)
}

// give adds an address; IPv6 without duplicate address detection.
func (s space) give(ifname string, prefixes ...string) {
	s.t.Helper()
	l := s.link(ifname)
	s.do(func() {
		for _, p := range prefixes {
			a, err := netlink.ParseAddr(p)
			must(s.t, err)
			if a.IP.To4() == nil {
				a.Flags = unix.IFA_F_NODAD
			}
			must(s.t, netlink.AddrAdd(l, a))
		}
	})
}

// via routes a prefix, in the main table.
func (s space) via(prefix, gateway string) {
	s.t.Helper()
	s.do(func() {
		dst, err := netlink.ParseIPNet(prefix)
		must(s.t, err)
		must(s.t, netlink.RouteAdd(&netlink.Route{Dst: dst, Gw: net.ParseIP(gateway)}))
	})
}

func (s space) sysctl(path, value string) {
	s.t.Helper()
	s.do(func() { must(s.t, os.WriteFile("/proc/sys/"+path, []byte(value), 0o644)) })
}

// waitCarrier waits until a link has a carrier, or none, as the kernel's users see it.
func (s space) waitCarrier(name string, want bool) {
	s.t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		state := s.link(name).Attrs().OperState
		if (state == netlink.OperUp) == want {
			return
		}
	}
	s.t.Fatalf("%s: carrier %t never came", name, want)
}

// A lab: target --in0-- director --rs0-- wires (a bridge) -- two real servers. The test is in the director.
type lab struct {
	director, target, wires space
	rs                      [2]space
	t                       *Tables
}

// Addresses of the lab; the subnets behind the tunnels are on both real servers' loopback.
var (
	gateways4 = [2]netip.Addr{netip.MustParseAddr("192.0.2.11"), netip.MustParseAddr("192.0.2.12")}
	gateways6 = [2]netip.Addr{netip.MustParseAddr("2001:db8:2::11"), netip.MustParseAddr("2001:db8:2::12")}
)

const table = 7401

func newLab(t testing.TB) *lab {
	t.Helper()
	s := newSpaces(t, 5)
	l := &lab{director: s[0], target: s[1], rs: [2]space{s[2], s[3]}}
	wires := s[4]
	l.wires = wires
	wire(l.director, "in0", l.target, "eth0")
	wires.do(func() { must(t, netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br"}})) })
	wires.up("br")
	for name, s := range map[string]space{"d": l.director, "r0": l.rs[0], "r1": l.rs[1]} {
		own := "eth0"
		if name == "d" {
			own = "rs0"
		}
		wire(wires, name, s, own)
		port, br := wires.link(name), wires.link("br")
		wires.do(func() { must(t, netlink.LinkSetMaster(port, br)) })
	}
	l.director.give("in0", "203.0.113.1/24", "2001:db8:9::1/64")
	l.target.give("eth0", "203.0.113.2/24", "2001:db8:9::2/64")
	l.director.give("rs0", "192.0.2.1/24", "2001:db8:2::1/64")
	for i, rs := range l.rs {
		rs.give("eth0", gateways4[i].String()+"/24", gateways6[i].String()+"/64")
		rs.via("203.0.113.0/24", "192.0.2.1")
		rs.via("2001:db8:9::/64", "2001:db8:2::1")
	}
	l.target.via("0.0.0.0/0", "203.0.113.1")
	l.target.via("::/0", "2001:db8:9::1")
	l.director.sysctl("net/ipv4/ip_forward", "1")
	l.director.sysctl("net/ipv6/conf/all/forwarding", "1")
	l.t = open(t)
	return l
}

// world is where the director's default routes lead.
func (l *lab) world(t testing.TB) space {
	t.Helper()
	w := newSpaces(t, 1)[0]
	must(t, netns.Set(l.director.ns))
	wire(l.director, "wan0", w, "eth0")
	l.director.give("wan0", "198.51.100.1/24", "2001:db8:a::1/64")
	w.give("eth0", "198.51.100.2/24", "2001:db8:a::2/64")
	l.director.via("0.0.0.0/0", "198.51.100.2")
	l.director.via("::/0", "2001:db8:a::2")
	return w
}

func open(t testing.TB) *Tables {
	t.Helper()
	tables, err := Open()
	must(t, err)
	t.Cleanup(func() { must(t, tables.Close()) })
	return tables
}
