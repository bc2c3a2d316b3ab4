package fault

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"

	"tunneldirector/integration/spaces"
)

// path is a namespace as a Cut names it: never "", which is the machine's own.
func path(s spaces.Space) string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), int(s.NS)) }

// pair are two machines on a wire; the first one is to be cut off, and has a VIP of each family on its loopback.
func pair(t *testing.T) (here, there spaces.Space) {
	t.Helper()
	s := spaces.New(t, 2)
	spaces.Wire(s[0], "eth0", s[1], "eth0")
	s[0].Give("eth0", "192.0.2.1/24", "2001:db8::1/64")
	s[1].Give("eth0", "192.0.2.2/24", "192.0.2.3/24", "2001:db8::2/64", "2001:db8::3/64")
	s[0].Give("lo", "198.51.100.1/32", "2001:db8:1::1/128")
	s[1].Route("198.51.100.1/32", "192.0.2.1")
	s[1].Route("2001:db8:1::1/128", "2001:db8::1")
	return s[0], s[1]
}

// passes tells whether a datagram gets from an address in one namespace to another one in another; it is sent so many times.
func passes(t *testing.T, from spaces.Space, source string, to spaces.Space, destination string, times int) bool {
	t.Helper()
	socket := func(in spaces.Space, address string, port uint16) (c *net.UDPConn) {
		var err error
		in.Do(func() {
			c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(address), port)))
		})
		check(t, err)
		return c
	}
	l, c := socket(to, destination, 7), socket(from, source, 0)
	defer l.Close()
	defer c.Close()
	for range times {
		_, _ = c.WriteTo([]byte("hello"), l.LocalAddr()) // what is cut may say so
		check(t, l.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
		if _, _, err := l.ReadFrom(make([]byte, 10)); err == nil {
			return true
		}
	}
	return false
}

// A way is one that packets may go.
type way struct{ from, to string }

// want wants packets to pass, or to be lost, on each way; an address of here is the first machine's.
func want(t *testing.T, what string, here, there spaces.Space, pass bool, ways ...way) {
	t.Helper()
	of := func(a string) spaces.Space {
		switch a {
		case "192.0.2.2", "192.0.2.3", "2001:db8::2", "2001:db8::3":
			return there
		}
		return here
	}
	times := 1
	if pass {
		times = 50 // the first one may be before a neighbour is known
	}
	for _, w := range ways {
		if got := passes(t, of(w.from), w.from, of(w.to), w.to, times); got != pass {
			t.Errorf("%s: from %s to %s passes: %t, want %t", what, w.from, w.to, got, pass)
		}
	}
}

var (
	inside  = []way{{"192.0.2.1", "198.51.100.1"}, {"2001:db8::1", "2001:db8:1::1"}}
	across  = []way{{"192.0.2.1", "192.0.2.2"}, {"192.0.2.2", "192.0.2.1"}, {"2001:db8::1", "2001:db8::2"}, {"2001:db8::2", "2001:db8::1"}}
	others  = []way{{"192.0.2.1", "192.0.2.3"}, {"192.0.2.3", "192.0.2.1"}, {"2001:db8::1", "2001:db8::3"}, {"2001:db8::3", "2001:db8::1"}}
	toVIP   = []way{{"192.0.2.2", "198.51.100.1"}, {"2001:db8::2", "2001:db8:1::1"}}
	fromVIP = []way{{"198.51.100.1", "192.0.2.2"}, {"2001:db8:1::1", "2001:db8::2"}}
)

func TestCut(t *testing.T) {
	here, there := pair(t)
	all := func(lists ...[]way) (out []way) {
		for _, l := range lists {
			out = append(out, l...)
		}
		return out
	}
	everything := all(inside, across, others, toVIP, fromVIP)
	for _, tt := range []struct {
		name       string
		cut        *Cut
		pass, lost []way
	}{
		{"host loss", HostLoss(path(here)), inside, all(across, others, toVIP, fromVIP)},
		{"link cut", LinkCut(path(here), netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("2001:db8:1::1")), all(inside, across, others, fromVIP), toVIP},
		{"partition", partition(here, "192.0.2.2", "2001:db8::2"), all(inside, others), all(across, toVIP, fromVIP)},
	} {
		want(t, tt.name+", before", here, there, true, everything...)
		check(t, tt.cut.Do(t.Context(), "f-1", time.Minute))
		once := rules(t, here)
		check(t, tt.cut.Do(t.Context(), "f-1", time.Minute))
		if twice := rules(t, here); once == 0 || twice != once {
			t.Errorf("%s: %d rules, and %d when it is made again", tt.name, once, twice)
		}
		want(t, tt.name, here, there, true, tt.pass...)
		want(t, tt.name, here, there, false, tt.lost...)
		check(t, tt.cut.Undo(t.Context(), "another"))
		want(t, tt.name+", when another one is undone", here, there, false, tt.lost...)
		for range 2 {
			check(t, tt.cut.Undo(t.Context(), "f-1"))
		}
		want(t, tt.name+", undone", here, there, true, everything...)
		here.Do(func() {
			if list, err := (&nftables.Conn{}).ListTables(); err != nil || len(list) > 0 {
				t.Errorf("%s: %d tables are left: %v", tt.name, len(list), err)
			}
		})
	}
}

// rules counts all that a namespace has.
func rules(t *testing.T, s spaces.Space) (n int) {
	t.Helper()
	s.Do(func() {
		conn := &nftables.Conn{}
		chains, err := conn.ListChains()
		check(t, err)
		for _, c := range chains {
			list, err := conn.GetRules(c.Table, c)
			check(t, err)
			n += len(list)
		}
	})
	return n
}

func partition(here spaces.Space, others ...string) *Cut {
	var addrs []netip.Addr
	for _, a := range others {
		addrs = append(addrs, netip.MustParseAddr(a))
	}
	c := Partition(addrs...)
	c.Spaces = []string{path(here)}
	return c
}

// A host that is lost does not answer ARP either, or its neighbours would go on sending to it.
func TestCutARP(t *testing.T) {
	here, there := pair(t)
	c := HostLoss(path(here))
	check(t, c.Do(t.Context(), "f-1", time.Minute))
	want(t, "cut", here, there, false, across...)
	there.Do(func() {
		list, err := netlink.NeighList(there.Link("eth0").Attrs().Index, netlink.FAMILY_V4)
		check(t, err)
		for _, n := range list {
			if n.IP.String() == "192.0.2.1" && len(n.HardwareAddr) > 0 {
				t.Errorf("the other machine has a neighbour %v", n)
			}
		}
	})
	check(t, c.Undo(t.Context(), "f-1"))
}

// The kernel ends a cut by itself, also if nobody is left who would.
func TestCutEnds(t *testing.T) {
	here, there := pair(t)
	const lasts = 8 * time.Second // in which a slow machine has looked, too
	check(t, HostLoss(path(here)).Do(t.Context(), "f-1", lasts))
	made := time.Now()
	want(t, "cut", here, there, false, across...)
	time.Sleep(time.Until(made.Add(lasts + 500*time.Millisecond)))
	want(t, "after its time", here, there, true, across...)
}

func TestCutRefused(t *testing.T) {
	here, there := pair(t)
	for name, c := range map[string]*Cut{
		"nothing": {}, "no VIPs": LinkCut(path(here)), "all and some": {All: true, To: hosts([]netip.Addr{netip.MustParseAddr("192.0.2.1")})},
		"all addresses": {Peers: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}}, "no address": LinkCut(path(here), netip.Addr{}),
	} {
		c.Spaces = []string{path(here)}
		if err := c.Do(t.Context(), "f-1", time.Minute); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	want(t, "refused", here, there, true, across...)
	gone := HostLoss("/proc/self/fd/4000")
	if err := gone.Do(t.Context(), "f-1", time.Minute); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a namespace that is not there: %v", err)
	}
	check(t, gone.Undo(t.Context(), "f-1")) // the cut went with it
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
