package route

import (
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"tunneldirector/integration/spaces"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// waitCarrier waits until a link has a carrier, or none, as the kernel's users see it.
func waitCarrier(s spaces.Space, name string, want bool) {
	s.T.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		state := s.Link(name).Attrs().OperState
		if (state == netlink.OperUp) == want {
			return
		}
	}
	s.T.Fatalf("%s: carrier %t never came", name, want)
}

// A lab: target --in0-- director --rs0-- wires (a bridge) -- two real servers. The test is in the director.
type lab struct {
	director, target, wires spaces.Space
	rs                      [2]spaces.Space
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
	s := spaces.New(t, 5)
	l := &lab{director: s[0], target: s[1], rs: [2]spaces.Space{s[2], s[3]}}
	wires := s[4]
	l.wires = wires
	spaces.Wire(l.director, "in0", l.target, "eth0")
	wires.Do(func() { must(t, netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br"}})) })
	wires.Up("br")
	for name, s := range map[string]spaces.Space{"d": l.director, "r0": l.rs[0], "r1": l.rs[1]} {
		own := "eth0"
		if name == "d" {
			own = "rs0"
		}
		spaces.Wire(wires, name, s, own)
		port, br := wires.Link(name), wires.Link("br")
		wires.Do(func() { must(t, netlink.LinkSetMaster(port, br)) })
	}
	l.director.Give("in0", "203.0.113.1/24", "2001:db8:9::1/64")
	l.target.Give("eth0", "203.0.113.2/24", "2001:db8:9::2/64")
	l.director.Give("rs0", "192.0.2.1/24", "2001:db8:2::1/64")
	for i, rs := range l.rs {
		rs.Give("eth0", gateways4[i].String()+"/24", gateways6[i].String()+"/64")
		rs.Route("203.0.113.0/24", "192.0.2.1")
		rs.Route("2001:db8:9::/64", "2001:db8:2::1")
	}
	l.target.Route("0.0.0.0/0", "203.0.113.1")
	l.target.Route("::/0", "2001:db8:9::1")
	l.director.Sysctl("net/ipv4/ip_forward", "1")
	l.director.Sysctl("net/ipv6/conf/all/forwarding", "1")
	l.t = open(t)
	return l
}

// world is where the director's default routes lead.
func (l *lab) world(t testing.TB) spaces.Space {
	t.Helper()
	w := spaces.New(t, 1)[0]
	l.director.Enter()
	spaces.Wire(l.director, "wan0", w, "eth0")
	l.director.Give("wan0", "198.51.100.1/24", "2001:db8:a::1/64")
	w.Give("eth0", "198.51.100.2/24", "2001:db8:a::2/64")
	l.director.Route("0.0.0.0/0", "198.51.100.2")
	l.director.Route("::/0", "2001:db8:a::2")
	return w
}

func open(t testing.TB) *Tables {
	t.Helper()
	tables, err := Open()
	must(t, err)
	t.Cleanup(func() { must(t, tables.Close()) })
	return tables
}
