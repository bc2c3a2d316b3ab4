package route

import (
	"context"
	"errors"
	"iter"
	"maps"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tunneldirector/integration/spaces"
)

// subnets are n canonical /24 prefixes out of 10.0.0.0/8, or /64 out of 2001:db8::/32.
func subnets(n int, v6 bool) iter.Seq[netip.Prefix] {
	return func(yield func(netip.Prefix) bool) {
		for i := range n {
			p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24)
			if n > 1<<16 {
				p = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 12), byte(i >> 4), byte(i << 4)}), 28)
			}
			if v6 {
				a := netip.MustParseAddr("2001:db8::").As16()
				a[4], a[5], a[6], a[7] = byte(i>>24), byte(i>>16), byte(i>>8), byte(i)
				p = netip.PrefixFrom(netip.AddrFrom16(a), 64)
			}
			if !yield(p) {
				return
			}
		}
	}
}

// fill leads n subnets of each family to real server 0, within covers, and shows packets from the target the way.
func (l *lab) fill(t testing.TB, n int) (nexthops []Nexthop, routes []Route) {
	t.Helper()
	for i := range pairs {
		nexthops = append(nexthops, nexthop(uint32(0x7d000001+i), false, 0), nexthop(uint32(0x7e000001+i), true, 0))
	}
	for _, v6 := range []bool{false, true} {
		base, cover := uint32(0x7d000001), prefix("10.0.0.0/8")
		if v6 {
			base, cover = 0x7e000001, prefix("2001:db8::/32")
		}
		routes = append(routes, Route{table, cover, 0, 20})
		i := uint32(0)
		for p := range subnets(n, v6) {
			routes = append(routes, Route{table, p, base + i%pairs, 10})
			i++
		}
	}
	must(t, l.t.SetNexthops(t.Context(), nexthops))
	must(t, l.t.SetRoutes(t.Context(), routes))
	must(t, l.t.SetRules(t.Context(), []Rule{{Priority: 7401, IIF: "in0", Table: table}, {Priority: 7401, V6: true, IIF: "in0", Table: table}}))
	return nexthops, routes
}

// pairs is how many nexthops of each family a table has.
const pairs = 64

// catch listens on port 4500 of an address in s.
func catch(s spaces.Space, a netip.Addr) *net.UDPConn {
	s.T.Helper()
	var c *net.UDPConn
	s.Do(func() {
		var err error
		c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, 4500)))
		must(s.T, err)
	})
	s.T.Cleanup(func() { c.Close() })
	return c
}

// dial opens a socket in s that sends to port 4500 of a.
func connect(s spaces.Space, a netip.Addr) net.Conn {
	s.T.Helper()
	var c net.Conn
	s.Do(func() {
		var err error
		c, err = net.Dial("udp", netip.AddrPortFrom(a, 4500).String())
		must(s.T, err)
	})
	s.T.Cleanup(func() { c.Close() })
	return c
}

// arrives sends datagrams until one arrives, for as long as it may take.
func arrives(t testing.TB, from net.Conn, at *net.UDPConn, within time.Duration) bool {
	t.Helper()
	drain(t, at)
	for end := time.Now().Add(within); time.Now().Before(end); {
		from.Write([]byte("?")) // the network may be unreachable for a while, and say so
		must(t, at.SetReadDeadline(time.Now().Add(10*time.Millisecond)))
		if _, err := at.Read(make([]byte, 1)); err == nil {
			return true
		}
	}
	return false
}

// drain forgets what has arrived, and says how much that was.
func drain(t testing.TB, c *net.UDPConn) (n int) {
	t.Helper()
	for {
		must(t, c.SetReadDeadline(time.Now().Add(time.Millisecond)))
		if _, err := c.Read(make([]byte, 1)); err != nil {
			return n
		}
		n++
	}
}

// heal sets nexthops whenever their link is up, as a plane does, until the test ends.
func (l *lab) heal(t testing.TB, nexthops []Nexthop) {
	updates, stop := make(chan netlink.LinkUpdate), make(chan struct{})
	must(t, netlink.LinkSubscribe(updates, stop))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for u := range updates {
			if u.Attrs().Name != "rs0" || u.IfInfomsg.Flags&unix.IFF_LOWER_UP == 0 {
				continue
			}
			if err := l.t.SetNexthops(context.Background(), nexthops); err != nil && !errors.Is(err, ErrDown) {
				t.Errorf("heal: %v", err)
			}
		}
	}()
	t.Cleanup(func() {
		close(stop)
		<-ended
	})
}

// lost waits until the kernel has taken all nexthops away.
func (l *lab) lost(t testing.TB) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if !slices.ContainsFunc(l.nexthops(t), func(n Nexthop) bool { return n.Gateway.IsValid() }) {
			return
		}
	}
	t.Fatal("the nexthops were never taken away")
}

var inside = []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("2001:db8::1")}

// A cable is pulled and put back. Meanwhile packets for the subnets reach nobody, though a default route is there.
func TestHeal(t *testing.T) {
	l := newLab(t)
	world := l.world(t)
	nexthops, routes := l.fill(t, 10_000)
	outside := []netip.Addr{netip.MustParseAddr("172.16.0.1"), netip.MustParseAddr("2001:db9::1")}
	var send []net.Conn
	var rs, leak []*net.UDPConn
	for i, a := range inside {
		l.rs[0].Give("lo", netip.PrefixFrom(a, a.BitLen()).String())
		world.Give("lo", netip.PrefixFrom(a, a.BitLen()).String(), netip.PrefixFrom(outside[i], a.BitLen()).String())
		send, rs, leak = append(send, connect(l.target, a)), append(rs, catch(l.rs[0], a)), append(leak, catch(world, a))
		if !arrives(t, connect(l.target, outside[i]), catch(world, outside[i]), 5*time.Second) {
			t.Fatalf("%v is not reached by the default route", outside[i])
		}
		if !arrives(t, send[i], rs[i], 5*time.Second) {
			t.Fatalf("%v is not reached", a)
		}
	}
	l.director.Sysctl("net/ipv6/conf/rs0/keep_addr_on_down", "1")
	l.heal(t, nexthops)
	for _, pull := range []struct {
		name      string
		out, back func()
	}{
		{"a cable", func() { l.wires.Down("d") }, func() { l.wires.Up("d") }},
		{"the link set down", func() { l.director.Down("rs0") }, func() { l.director.Up("rs0") }},
	} {
		pull.out()
		l.lost(t)
		for i, c := range send {
			for range 200 {
				c.Write([]byte("?"))
			}
			if n := drain(t, leak[i]); n > 0 {
				t.Errorf("%s: %d packets for %v left by the default route", pull.name, n, inside[i])
			}
		}
		pull.back()
		start := time.Now()
		for i, c := range send {
			if !arrives(t, c, rs[i], 5*time.Second) {
				t.Fatalf("%s: %v is not reached 5 s after it was put back", pull.name, inside[i])
			}
		}
		t.Logf("%s: healed after %v", pull.name, time.Since(start).Round(time.Millisecond))
		if got := l.routes(t, 0); len(got) != len(routes) {
			t.Errorf("%s: %d routes are left of %d", pull.name, len(got), len(routes))
		}
	}
}

// A route that the kernel has cached follows too: it is how IPVS keeps the way to a destination.
func TestReplaceReachesCachedRoutes(t *testing.T) {
	l := newLab(t)
	for i, a := range []netip.Addr{netip.MustParseAddr("100.64.0.9"), netip.MustParseAddr("2001:db8:7::9")} {
		v6 := i == 1
		var at []*net.UDPConn
		for _, rs := range l.rs {
			rs.Give("lo", netip.PrefixFrom(a, a.BitLen()).String())
			at = append(at, catch(rs, a))
		}
		id := uint32(i + 1)
		must(t, l.t.SetNexthops(t.Context(), []Nexthop{nexthop(id, v6, 0)}))
		must(t, l.t.SetRoutes(t.Context(), []Route{{table, netip.PrefixFrom(a, a.BitLen()), id, 10}}))
		must(t, l.t.SetRules(t.Context(), []Rule{{Priority: 7400, V6: v6, IIF: "lo", To: netip.PrefixFrom(a, a.BitLen()), Table: table}}))
		send := connect(l.director, a)
		for _, rs := range []int{0, 1, 0, 1} {
			must(t, l.t.SetNexthops(t.Context(), []Nexthop{nexthop(id, v6, rs)}))
			if !arrives(t, send, at[rs], time.Second) || drain(t, at[1-rs]) > 0 {
				t.Fatalf("%v: the first packets after a replacement did not all go to real server %d", a, rs)
			}
		}
		must(t, l.t.SetNexthops(t.Context(), []Nexthop{{ID: id, V6: v6, Blackhole: true}}))
		if arrives(t, send, at[1], 100*time.Millisecond) || drain(t, at[0]) > 0 {
			t.Errorf("%v: a packet came through a blackhole", a)
		}
		must(t, l.t.SetNexthops(t.Context(), []Nexthop{nexthop(id, v6, 1)}))
		l.wires.Down("d")
		l.lost(t)
		if arrives(t, send, at[1], 100*time.Millisecond) {
			t.Errorf("%v: a packet came through a cut wire", a)
		}
		l.wires.Up("d")
		waitCarrier(l.director, "rs0", true)
		must(t, l.t.SetNexthops(t.Context(), []Nexthop{nexthop(id, v6, 0)}))
		if !arrives(t, send, at[0], 2*time.Second) || drain(t, at[1]) > 0 {
			t.Errorf("%v: not reached after the wire was mended", a)
		}
	}
}

// More destinations have packets at once than net.ipv6.route.max_size (4,096 before Linux 6.3) has room for: the kernel's
// copies of routes belong to nexthop objects.
func TestManyDestinations(t *testing.T) {
	l := newLab(t)
	const n = 5000
	l.fill(t, n)
	l.rs[0].Do(func() {
		dst, err := netlink.ParseIPNet("2001:db8::/32")
		must(t, err)
		lo := l.rs[0].Link("lo").Attrs().Index
		must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: lo, Dst: dst, Type: unix.RTN_LOCAL, Table: unix.RT_TABLE_LOCAL, Priority: 1 << 20}))
	})
	at := catch(l.rs[0], netip.IPv6Unspecified())
	var send *net.UDPConn
	l.target.Do(func() {
		var err error
		send, err = net.ListenUDP("udp6", nil)
		must(t, err)
	})
	defer send.Close()
	first := connect(l.target, netip.MustParseAddr("2001:db8::7"))
	if !arrives(t, first, at, 5*time.Second) {
		t.Fatal("the first subnet is not reached")
	}
	drain(t, at)
	missing := map[netip.Addr]bool{}
	for p := range subnets(n, true) {
		missing[p.Addr().Next()] = true
	}
	take := func() { // what has come; each packet says where it was sent
		buf := make([]byte, 64)
		for {
			must(t, at.SetReadDeadline(time.Now().Add(20*time.Millisecond)))
			k, err := at.Read(buf)
			if err != nil {
				return
			}
			a, _ := netip.AddrFromSlice(buf[:k])
			delete(missing, a)
		}
	}
	for end := time.Now().Add(20 * time.Second); len(missing) > 0 && time.Now().Before(end); { // a machine that is short of time drops some
		sent := 0
		for _, a := range slices.Collect(maps.Keys(missing)) {
			_, err := send.WriteToUDPAddrPort(a.AsSlice(), netip.AddrPortFrom(a, 4500))
			must(t, err)
			if sent++; sent%100 == 0 {
				take()
			}
		}
		take()
	}
	if len(missing) > 0 {
		t.Errorf("%d of %d destinations were not reached", len(missing), n)
	}
}

// A nexthop that comes or goes while ours are read is no fault.
func TestReadWhileChanged(t *testing.T) {
	l := newLab(t)
	list := make([]Nexthop, 600)
	for i := range list {
		list[i] = nexthop(uint32(i+1), i%2 == 0, i%2)
	}
	must(t, l.t.SetNexthops(t.Context(), list))
	other := open(t)
	began := time.Now()
	l.nexthops(t)
	pause := max(3*time.Millisecond, 5*time.Since(began)) // where reading is slow, not every one is in vain
	stop, done := make(chan bool), make(chan error)
	go func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				close(done)
				return
			case <-time.After(pause):
			}
			n := nexthop(1000, false, i%2)
			if i%4 < 2 {
				n = Nexthop{ID: n.ID, Blackhole: true}
			}
			if err := other.SetNexthops(context.Background(), []Nexthop{n}); err != nil {
				done <- err
				return
			}
		}
	}()
	for range 300 {
		if got := len(l.nexthops(t)); got < len(list) {
			t.Fatalf("%d of %d nexthops are read", got, len(list))
		}
	}
	close(stop)
	must(t, <-done)
}
