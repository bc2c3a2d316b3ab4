//go:build linux

package xdp

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
)

// A record is a log that a test reads while it is written.
type record struct {
	mu sync.Mutex
	b  strings.Builder
}

func (r *record) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.b.Write(b)
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.b.String()
}

func (r *record) logger() *slog.Logger { return slog.New(slog.NewTextHandler(r, nil)) }

// eventually fails the test if what stays false.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

// says tells whether one of the warnings has all of these words.
func says(p *Plane, words ...string) bool {
	return slices.ContainsFunc(p.Warnings(), func(s string) bool {
		return !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(s, w) })
	})
}

func silent(p *Plane) func() bool { return func() bool { return len(p.Warnings()) == 0 } }

func setMTU(t *testing.T, l *lab, name string, mtu int) {
	t.Helper()
	in(t, l.director, func() error {
		i, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		return netlink.LinkSetMTU(i, mtu)
	})
}

// TestTunnelNeedsRoom: the lab's real server 3 is reached by IPIP over an interface as narrow as the sites' own.
func TestTunnelNeedsRoom(t *testing.T) {
	var log record
	l := newLabWith(t, func(o *Options) { o.Logger = log.logger() })
	eventually(t, "a warning for both families", func() bool {
		return says(l.p, "interface ra has an MTU of 1500", "needs 1540", "MTU of 1500 of interface tun", "rsA by IPIP", "ip link set dev ra mtu 1540")
	})
	setMTU(t, l, "ra", 1540)
	eventually(t, "room enough", silent(l.p))
	setMTU(t, l, "tun", 1510)
	eventually(t, "a warning for a wider tunnel side", func() bool { return says(l.p, "ra has an MTU of 1540", "needs 1550") })
	setMTU(t, l, "ra", 1600)
	eventually(t, "room enough again", silent(l.p))
	c := labConfig()
	c.RealServers[2].MTU = 1500
	must(t, l.p.Apply(t.Context(), plane.Update{Config: &c}))
	eventually(t, "a warning of the configured MTU", func() bool { return says(l.p, "by the configuration", "MTU of 1500", "needs 1550") })
	c.RealServers[2].MTU = 0
	must(t, l.p.Apply(t.Context(), plane.Update{Config: &c}))
	in(t, l.director, func() error {
		i, err := netlink.LinkByName("ra")
		if err != nil {
			return err
		}
		_, host, _ := net.ParseCIDR("10.9.1.1/32")
		return netlink.RouteAdd(&netlink.Route{LinkIndex: i.Attrs().Index, Dst: host, MTU: 1400, Scope: netlink.SCOPE_LINK})
	})
	eventually(t, "a warning of the route", func() bool { return says(l.p, "a route by interface ra has an MTU of 1400", "needs 1530") })
	eventually(t, "the program to know the route's MTU", func() bool {
		q := plane.Packet{Src: addr("198.51.100.1"), Dst: addr("192.0.2.3"), Proto: 50, Hops: 9, Size: 1381}
		d, err := l.p.Lookup(q)
		must(t, err)
		return d.Reason == plane.DropTooBig
	})
	if n := strings.Count(log.String(), `cause="interface ra has an MTU of 1500, but`); n != 2 { // that it came, that it went
		t.Errorf("said %d times:\n%s", n, log.String())
	}
}

// TestMTUOfManyIsOneSentence: and DR needs no room.
func TestMTUOfManyIsOneSentence(t *testing.T) {
	tun := iface{Interface: plane.Interface{Name: "tun", Roles: plane.RoleTunnel}, mtu: 1500}
	other := iface{Interface: plane.Interface{Name: "jumbo", Roles: plane.RoleSubnet}, mtu: 9000}
	rs := iface{Interface: plane.Interface{Name: "rs", Roles: plane.RoleRealServers}, mtu: 1519}
	c := newMTUCheck([]iface{tun, other, rs})
	for n := range 9 {
		s := plane.RealServer{Name: fmt.Sprint("rs", n), Addrs: []netip.Addr{addr("10.9.0.1")}, Method: affinity.IPIP}
		c.see(s, way{iface: rs, mtu: 1519}, false)
		c.see(s, way{iface: rs, mtu: 1519}, true) // it has no such address
		s.Method = affinity.DR
		c.see(s, way{iface: rs, mtu: 1400}, false)
	}
	want := "interface rs has an MTU of 1519, but method tunnel needs 1520 for the MTU of 1500 of interface tun and the outer header; " +
		"longer packets to rs0, rs1, rs2 and 6 more are dropped. ip link set dev rs mtu 1520, and the same on the way to them"
	if got := c.sentences(); len(got) != 1 || got[0] != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// TestInterfaceMadeAnew: each of the lab's wires is cut, and laid again.
func TestInterfaceMadeAnew(t *testing.T) {
	var log record
	l := newLabWith(t, func(o *Options) { o.Logger = log.logger() })
	serve(t, l.rsA, "A", 4500, 443)
	serve(t, l.rsB, "B", 4500, 443)
	for _, c := range []struct {
		name, net4, net6 string
		out              bool
	}{{"ra", "10.9.1", "2001:db8:91", true}, {"tun", "198.51.100", "2001:db8:51", false}} {
		ns := l.rsA
		if !c.out {
			ns = l.site
		}
		if got := l.ask(t, "192.0.2.1:4500", 200); got != "A 200" {
			t.Fatalf("before: %q", got)
		}
		index := portOf(l.p, c.name).index
		in(t, l.director, func() error {
			i, err := netlink.LinkByName(c.name)
			return errors.Join(err, netlink.LinkDel(i))
		})
		eventually(t, "that "+c.name+" is away", func() bool { return says(l.p, "interface "+c.name+" is away") })
		if c.out {
			q := plane.Packet{Src: addr("198.51.100.1"), Dst: addr("192.0.2.1"), Proto: 50, Hops: 9}
			if d, err := l.p.Lookup(q); err != nil || d.Reason != plane.DropNoNeighbour {
				t.Errorf("decided %v, %v", d.Reason, err)
			}
			before := noNeighbour(t, l.p)
			_, err := l.dial(t, "udp", "192.0.2.1:4500").Write([]byte("lost"))
			must(t, err)
			eventually(t, "the drop to be counted", func() bool { return noNeighbour(t, l.p) == before+1 })
		}
		wire(t, l.director, ns, c.name, c.net4, c.net6)
		eventually(t, "that all is well but for the MTU", func() bool { return len(l.p.Warnings()) == 1 && says(l.p, "method tunnel needs") })
		l.waitForNeighbours(t, 1, 2, 3)
		if now := portOf(l.p, c.name); now.index == index || now.away || l.p.Modes()[c.name] != "native" {
			t.Errorf("%s has index %d, had %d; mode %q", c.name, now.index, index, l.p.Modes()[c.name])
		}
		if got := l.ask(t, "192.0.2.1:4500", 200); got != "A 200" {
			t.Errorf("after: %q", got)
		}
		if !strings.Contains(log.String(), "interface is back, and the program on it\" interface="+c.name) {
			t.Errorf("%s came back unsaid:\n%s", c.name, log.String())
		}
	}
	l.close(t) // what is pinned now is taken over like anything else
	l.open(t)
	if got := l.ask(t, "192.0.2.1:4500", 200); got != "A 200" {
		t.Errorf("after a restart: %q", got)
	}
}

// TestInterfaceOnLeave: one that was in another namespace for a while comes back with the program on it, but the kernel has taken
// it out of the map of devices.
func TestInterfaceOnLeave(t *testing.T) {
	l := newLab(t)
	serve(t, l.rsA, "A", 4500, 443)
	elsewhere := newNS(t)
	move := func(from, to netns.NsHandle) {
		in(t, from, func() error {
			i, err := netlink.LinkByName("ra")
			return errors.Join(err, netlink.LinkSetNsFd(i, int(to)))
		})
	}
	move(l.director, elsewhere)
	eventually(t, "that ra is away", func() bool { return says(l.p, "interface ra is away") })
	move(elsewhere, l.director)
	in(t, l.director, func() error { return upWith("ra", "10.9.1.254/24", "2001:db8:91::fe/64") })
	eventually(t, "that all is well but for the MTU", func() bool { return len(l.p.Warnings()) == 1 && says(l.p, "method tunnel needs") })
	l.waitForNeighbours(t, 1, 2, 3)
	if got := l.ask(t, "192.0.2.1:4500", 200); got != "A 200" {
		t.Errorf("after: %q", got)
	}
}

// TestTenantsFollowInterface: the tags of an interface made anew tell the same tenants, also to the next configuration.
func TestTenantsFollowInterface(t *testing.T) {
	p := examplePlane(t)
	was := slices.Clone(p.ports.all())
	l, err := netlink.LinkByName("sub")
	must(t, err)
	must(t, netlink.LinkDel(l))
	h, err := netlink.NewHandle()
	must(t, err)
	defer h.Close()
	refit := func() []string {
		now, err := findPorts(h, p.ports.all())
		must(t, err)
		s, err := p.refit(now)
		must(t, err)
		return s
	}
	if s := refit(); len(s) != 1 || !strings.Contains(s[0], "interface sub is away") {
		t.Errorf("said %q", s)
	}
	c := example()
	must(t, p.Apply(t.Context(), plane.Update{Config: &c})) // while it is away
	agree(t, p, c, exampleEntries())
	veth(t, "sub", "subx")
	p.options.FixOffloads = false
	if s := refit(); len(s) != 1 || !strings.Contains(s[0], "interface sub was made anew") || !strings.Contains(s[0], "ethtool -K sub rxvlan off") {
		t.Errorf("said %q", s)
	}
	p.options.FixOffloads = true
	if s := refit(); len(s) != 0 {
		t.Errorf("said %q", s)
	}
	if portOf(p, "sub").index == was[1].index {
		t.Fatal("the same index: nothing is tested")
	}
	agree(t, p, c, exampleEntries())
	must(t, p.Apply(t.Context(), plane.Update{Config: &c}))
	agree(t, p, c, exampleEntries())
	frame, err := buildFrame(plane.Packet{Src: addr("203.0.113.1"), Dst: addr("10.1.0.1"), Proto: 50, Hops: 9, VLAN: 7}, macOf(p, "sub"), siteMAC)
	must(t, err)
	if action, _ := run(t, p, "sub", frame); action != xdpRedirect {
		t.Errorf("action %d", action)
	}
	vlans, err := readSmall[forwardVlanKey, uint32](p.o.TdVlans)
	must(t, err)
	for k := range vlans {
		if k.Ifindex == uint32(was[1].index) {
			t.Errorf("the old index still tells tenants: %+v", k)
		}
	}
}

// TestRealServerElsewhere: a route that leads to no interface for real servers is explained. Frames to real servers have no tag
// of their own, so a VLAN of such an interface will not do either.
func TestRealServerElsewhere(t *testing.T) {
	n := &network{out: map[int]iface{4: {Interface: plane.Interface{Name: "ra"}, index: 4}}}
	attrs := func(name string, parent int) netlink.LinkAttrs {
		return netlink.LinkAttrs{Name: name, Index: 9, ParentIndex: parent}
	}
	for _, c := range []struct {
		name  string
		l     netlink.Link
		words []string
	}{
		{"VLAN of one", &netlink.Vlan{LinkAttrs: attrs("ra.30", 4), VlanId: 30}, []string{"10.9.30.1", "ra.30, VLAN 30 of interface ra", "without a tag", "role real-servers"}},
		{"VLAN of another", &netlink.Vlan{LinkAttrs: attrs("x.30", 5), VlanId: 30}, []string{"10.9.30.1", "interface x.30, which has not the role real-servers", "ip route get 10.9.30.1"}},
		{"another", &netlink.Veth{LinkAttrs: attrs("y", 4)}, []string{"10.9.30.1", "interface y, which has not the role real-servers"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := elsewhere(addr("10.9.30.1"), c.l, n)
			for _, w := range c.words {
				if err == nil || !strings.Contains(err.Error(), w) {
					t.Errorf("%q does not say %q", err, w)
				}
			}
		})
	}
}

func portOf(p *Plane, name string) iface {
	list := p.ports.all()
	return list[slices.IndexFunc(list, func(i iface) bool { return i.Name == name })]
}

func noNeighbour(t *testing.T, p *Plane) uint64 {
	t.Helper()
	s, err := p.Stats()
	must(t, err)
	return s.Reasons[plane.DropNoNeighbour]
}
