package ipvs

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"time"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
	"tunneldirector/director/plane/ipvs/conntab"
	"tunneldirector/director/plane/ipvs/gate"
	"tunneldirector/director/plane/ipvs/inject"
	"tunneldirector/director/plane/ipvs/route"
	"tunneldirector/director/plane/planetest"
)

// A kernel is a slow and plain twin of what the plane uses: IPVS's services and connection table with what
// ip_vs_proc_conn, ip_vs_conn_in_get and ip_vs_in make of them, nexthop objects, routes and rules, and the gate's rules.
type kernel struct {
	now      time.Time
	services map[netip.AddrPort]*kernelService
	trash    map[kernelTrash]*kernelDest
	conns    []*kernelConn // newest first
	nexthops map[uint32]route.Nexthop
	routes   []route.Route
	rules    []route.Rule
	gate     gate.Wanted
	sent     int    // entries, in all
	ensured  []bool // the tunnel devices that were asked for, IPv6's or not

	shown   chan plane.Sample      // what the gate shows
	moved   map[netip.Addr][6]byte // neighbours with another MAC address than theirs; zero: none is known
	watched []string               // what it was told to show beside, in words, at each call

	fail   func(what string) error // what is to go wrong; nil: nothing
	astray bool                    // the way to real servers is another than theirs
	hidden bool                    // an entry that is replaced lives on below the new one, as when a packet held it at that moment
}

type kernelService struct {
	hash  bool
	ours  bool
	dests map[netip.AddrPort]*kernelDest
}

type kernelTrash struct{ service, dest netip.AddrPort }

type kernelDest struct {
	method    affinity.Method
	weight    int
	available bool
}

type kernelConn struct {
	inject.Conn
	dest    *kernelDest // bound to; nil: its own method holds
	expires time.Time
}

func newKernel() *kernel {
	return &kernel{now: time.Unix(1_000_000, 0), services: map[netip.AddrPort]*kernelService{}, trash: map[kernelTrash]*kernelDest{}, nexthops: map[uint32]route.Nexthop{},
		shown: make(chan plane.Sample, 10)}
}

func (k *kernel) failing(what string) error {
	if k.fail == nil {
		return nil
	}
	return k.fail(what)
}

// pass lets time go by: what expires is gone.
func (k *kernel) pass(d time.Duration) {
	k.now = k.now.Add(d)
	k.conns = slices.DeleteFunc(k.conns, func(c *kernelConn) bool { return !c.expires.After(k.now) })
}

// find is ip_vs_conn_in_get: the newest entry with these ports, else with any client port.
func (k *kernel) find(client, vip netip.AddrPort) *kernelConn {
	for _, port := range []uint16{client.Port(), 0} {
		want := netip.AddrPortFrom(client.Addr(), port)
		for _, c := range k.conns {
			if c.Client == want && c.VIP == vip {
				return c
			}
		}
	}
	return nil
}

// Send is ip_vs_proc_conn, for each.
func (k *kernel) Send(_ context.Context, conns []inject.Conn) error {
	if err := k.failing("send"); err != nil {
		return err
	}
	for _, c := range conns {
		if err := c.Check(); err != nil {
			return err
		}
		k.sent++
		old := k.find(c.Client, c.VIP)
		if old != nil && old.Dest == c.Dest {
			old.expires = k.now.Add(c.Timeout)
			continue
		}
		if old != nil && !k.hidden {
			k.conns = slices.DeleteFunc(k.conns, func(o *kernelConn) bool { return o == old })
		}
		n := &kernelConn{Conn: c, expires: k.now.Add(c.Timeout)}
		if s := k.services[c.VIP]; s != nil {
			n.dest = s.dests[c.Dest]
		}
		k.conns = slices.Insert(k.conns, 0, n)
	}
	return nil
}

func (k *kernel) Close() error { return nil }

func (k *kernel) UDPTimeout() (time.Duration, error) { return 5 * time.Minute, nil }

func (k *kernel) Change(c change) error {
	if err := k.failing("change"); err != nil {
		return err
	}
	s := k.services[c.key]
	switch {
	case c.act == putService && s == nil:
		k.services[c.key] = &kernelService{hash: c.hash, ours: true, dests: map[netip.AddrPort]*kernelDest{}}
		return nil
	case c.act == putService && !c.known:
		return notOurs(c.key)
	case c.act == putService:
		s.hash = c.hash
		return nil
	case s == nil:
		return errors.New("no such service")
	}
	trash := func(a netip.AddrPort, d *kernelDest) {
		d.available = false
		k.trash[kernelTrash{c.key, a}] = d
		delete(s.dests, a)
	}
	switch c.act {
	case cutService:
		for a, d := range s.dests {
			trash(a, d)
		}
		delete(k.services, c.key)
	case putDest:
		d := s.dests[c.dest.addr]
		if d == nil {
			if d = k.trash[kernelTrash{c.key, c.dest.addr}]; d == nil { // __ip_vs_trash_get_dest: what was bound to it is again
				d = &kernelDest{}
			}
			delete(k.trash, kernelTrash{c.key, c.dest.addr})
			s.dests[c.dest.addr] = d
		}
		d.available, d.method, d.weight = true, c.dest.method, c.weight
	case cutDest:
		if d := s.dests[c.dest.addr]; d != nil {
			trash(c.dest.addr, d)
		}
	}
	return nil
}

func (k *kernel) Read() ([]virtual, error) {
	var out []virtual
	for key, s := range k.services {
		v := virtual{key: key, ours: s.ours, hash: s.hash, dests: map[dest]state{}}
		for a, d := range s.dests {
			st := state{weight: d.weight}
			for _, c := range k.conns {
				if c.dest == d {
					st.active++
				}
			}
			v.dests[dest{a, d.method}] = st
		}
		out = append(out, v)
	}
	return out, nil
}

func (k *kernel) SetNexthops(_ context.Context, list []route.Nexthop) error {
	if err := k.failing("nexthops"); err != nil {
		return err
	}
	for _, n := range list {
		k.nexthops[n.ID] = n
	}
	return nil
}

func (k *kernel) DeleteNexthops(_ context.Context, ids []uint32) error {
	for _, id := range ids {
		if i := slices.IndexFunc(k.routes, func(r route.Route) bool { return r.Nexthop == id }); i >= 0 {
			return fmt.Errorf("delete nexthop object %#x: %v leads to it: %w", id, k.routes[i], route.ErrInUse)
		}
		delete(k.nexthops, id)
	}
	return nil
}

func sameRoute(a, b route.Route) bool {
	return a.Table == b.Table && a.Prefix == b.Prefix && a.Metric == b.Metric
}

func (k *kernel) SetRoutes(_ context.Context, list []route.Route) error {
	if err := k.failing("routes"); err != nil {
		return err
	}
	for _, r := range list {
		if _, ok := k.nexthops[r.Nexthop]; !ok && r.Nexthop != 0 {
			return fmt.Errorf("route %v: no nexthop object %d", r.Prefix, r.Nexthop)
		}
		k.routes = append(slices.DeleteFunc(k.routes, func(o route.Route) bool { return sameRoute(o, r) }), r)
	}
	return nil
}

func (k *kernel) DeleteRoutes(_ context.Context, list []route.Route) error {
	for _, r := range list {
		k.routes = slices.DeleteFunc(k.routes, func(o route.Route) bool { return sameRoute(o, r) })
	}
	return nil
}

func (k *kernel) SetRules(_ context.Context, rules []route.Rule) error {
	k.rules = slices.Clone(rules)
	return nil
}

func (k *kernel) Nexthops() iter.Seq2[route.Nexthop, error] {
	return func(yield func(route.Nexthop, error) bool) {
		for _, n := range k.nexthops {
			if !yield(n, nil) {
				return
			}
		}
	}
}

func (k *kernel) Routes(table uint32) iter.Seq2[route.Route, error] {
	return func(yield func(route.Route, error) bool) {
		for _, r := range slices.Clone(k.routes) {
			if table != 0 && r.Table != table {
				continue
			}
			if !yield(r, nil) {
				return
			}
		}
	}
}

func (k *kernel) EnsureTunnel(v6 bool) error {
	k.ensured = append(k.ensured, v6)
	return k.failing("tunnel")
}

func (k *kernel) Survey() error { return nil }

func (k *kernel) Connected(netip.Addr) (string, bool) { return "rs0", true }

func (k *kernel) Leaves(netip.Addr) bool { return !k.astray }

// Neighbours are planetest's machines, and all that the test moved.
func (k *kernel) Neighbours() (map[netip.Addr][6]byte, error) {
	out := map[netip.Addr][6]byte{}
	for _, h := range planetest.DefaultHosts() {
		for _, a := range h.Addrs {
			out[a] = [6]byte(h.MAC)
		}
	}
	for a, mac := range k.moved {
		if out[a] = mac; mac == [6]byte{} {
			delete(out, a)
		}
	}
	return out, k.failing("neighbours")
}

// returns tells whether the gate cuts what comes from a MAC address and leaves to an address.
func (k *kernel) returns(mac [6]byte, to netip.Addr) bool {
	return slices.Contains(k.gate.Neighbours, gate.Neighbour{Addr: to, MAC: mac})
}

func (k *kernel) Watch(ctx context.Context, _ func()) error {
	<-ctx.Done()
	return nil
}

// table is what conntab.Read tells.
func (k *kernel) table() iter.Seq2[conntab.Entry, error] {
	return func(yield func(conntab.Entry, error) bool) {
		for _, c := range k.conns {
			if !yield(conntab.Entry{Protocol: protoUDP, Client: c.Client, VIP: c.VIP, Dest: c.Dest, Synced: true}, nil) {
				return
			}
		}
	}
}

// A filter is the gate of a kernel; it is a type of its own because Set and Close are taken.
type filter struct{ k *kernel }

func (f filter) Seal(context.Context, string) error { return nil }

func (f filter) Set(_ context.Context, w gate.Wanted) (bool, error) {
	if err := f.k.failing("gate"); err != nil {
		return false, err
	}
	f.k.gate = w
	return true, nil
}

func (f filter) Counters() (map[plane.Reason]uint64, plane.Traffic, error) {
	return nil, plane.Traffic{}, nil
}

func (f filter) Shows() error { return nil }

func (f filter) Close() error { return nil }

// A lens shows what comes by the gate of a kernel.
type lens struct{ k *kernel }

func (l lens) Bind() error { return l.k.failing("bind") }

func (l lens) Read(ctx context.Context, f func(plane.Sample)) error {
	for {
		if err := l.k.failing("read"); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case s := <-l.k.shown:
			f(s)
		}
	}
}

func (l lens) Watch(w plane.Watch, interfaces []string, lasts time.Duration) error {
	if err := l.k.failing("watch"); err != nil {
		return err
	}
	l.k.watched = append(l.k.watched, fmt.Sprint(w.Src, interfaces, lasts))
	return nil
}

func (l lens) Close() error { return nil }

// A hop is where a packet leaves to.
type hop struct {
	to     netip.Addr // the machine, or the outer destination
	method affinity.Method
	hashed bool
}

// tunnel is the way of a packet to a VIP, from the gate on; ok is false if it is dropped.
func (k *kernel) tunnel(p plane.Packet) (hop, bool) {
	port := p.DstPort
	if p.Proto != protoUDP {
		port = 0
	}
	allowed := slices.ContainsFunc(k.gate.Services, func(a gate.Allowed) bool {
		return a.VIP == p.Dst && a.Proto == p.Proto && a.Lo <= port && port <= a.Hi
	})
	client, vip := netip.AddrPortFrom(p.Src, p.SrcPort), netip.AddrPortFrom(p.Dst, p.DstPort)
	if p.Proto != protoUDP {
		client, vip = netip.AddrPortFrom(p.Src, portIKE), netip.AddrPortFrom(p.Dst, portIKE)
		if slices.Contains(k.gate.NoPort, gate.Source{VIP: p.Dst, Addr: p.Src}) {
			return hop{}, false
		}
	}
	if !allowed {
		return hop{}, false
	}
	c := k.find(client, vip)
	switch s := k.services[vip]; {
	case c == nil && s != nil && s.hash && p.Proto == protoUDP:
		return hop{hashed: true}, true
	case c == nil || c.dest != nil && !c.dest.available:
		return hop{}, false
	}
	method := c.Method
	if c.dest != nil {
		method = c.dest.method
	}
	if method != affinity.DR {
		return hop{to: c.Dest.Addr(), method: method}, true
	}
	return k.lookup("lo", c.Dest.Addr())
}

// lookup is a look into the tables that the rules lead to.
func (k *kernel) lookup(iif string, a netip.Addr) (hop, bool) {
	rules := slices.Clone(k.rules)
	slices.SortStableFunc(rules, func(a, b route.Rule) int { return int(a.Priority) - int(b.Priority) })
	for _, rule := range rules {
		if rule.IIF != iif || rule.V6 != a.Is6() || rule.To.IsValid() && !rule.To.Contains(a) {
			continue
		}
		best, found := route.Route{}, false
		for _, r := range k.routes {
			if r.Table != rule.Table || !r.Prefix.Contains(a) || r.Prefix.Addr().Is6() != a.Is6() {
				continue
			}
			longer := r.Prefix.Bits() - best.Prefix.Bits()
			if !found || longer > 0 || longer == 0 && r.Metric < best.Metric {
				best, found = r, true
			}
		}
		if !found {
			continue
		}
		n := k.nexthops[best.Nexthop]
		switch {
		case best.Nexthop == 0 || n.Blackhole:
			return hop{}, false
		case n.Encap.IsValid():
			return hop{to: n.Encap, method: affinity.IPIP}, true
		}
		return hop{to: n.Gateway}, true
	}
	return hop{}, false
}
