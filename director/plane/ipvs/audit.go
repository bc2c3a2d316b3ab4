package ipvs

import (
	"context"
	"fmt"
	"net/netip"

	"tunneldirector/director/plane"
	"tunneldirector/director/plane/ipvs/conntab"
	"tunneldirector/director/plane/ipvs/route"
)

// Audit reads IPVS's connection table and our routes, and compares them with what is held, entry by entry. Older kernels walk
// their table again for each piece that is read, so that 100,000 entries take minutes there; nothing waits for it. What changes
// meanwhile may show up as a difference.
func (p *Plane) Audit(ctx context.Context, f func(plane.Difference) bool) (plane.Audited, error) {
	a := audit{f: f, more: true}
	x := p.snapshot()
	for e, err := range p.conns() {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return a.sum, fmt.Errorf("read IPVS's connection table: %w", err)
		}
		if a.entry(p, &x, e); !a.more {
			return a.sum, nil
		}
	}
	for k, d := range x.entries {
		a.differ(&a.sum.Missing, k.String(), p.say(d), "nothing")
	}
	for r, err := range p.routes.Routes(0) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return a.sum, fmt.Errorf("read our routes: %w", err)
		}
		a.route(x.subnets, r)
	}
	for k, want := range x.subnets {
		a.differ(&a.sum.Missing, k.say(), sayRoute(want), "nothing")
	}
	return a.sum, nil
}

// An audit is one under way.
type audit struct {
	f    func(plane.Difference) bool
	more bool
	sum  plane.Audited
}

// differ counts a difference, and tells it while it is listened to.
func (a *audit) differ(count *uint64, key, want, have string) {
	if !a.more {
		return
	}
	*count++
	a.more = a.f(plane.Difference{Key: key, Want: want, Have: have})
}

// A hold is a connection entry's key.
type hold struct{ client, vip netip.AddrPort }

func (h hold) String() string {
	if h.client.Port() == 0 {
		return fmt.Sprintf("endpoint %v, any port, at UDP %v", h.client.Addr(), h.vip)
	}
	return fmt.Sprintf("endpoint %v at UDP %v", h.client, h.vip)
}

// A path is a route's key.
type path struct {
	table  uint32
	prefix netip.Prefix
}

func (p path) say() string {
	return fmt.Sprintf("subnet %v of tenant number %d", p.prefix, p.table-tenantTable)
}

// An expectation is what the kernel must have of pins.
type expectation struct {
	entries map[hold]dest
	subnets map[path]route.Route
	forced  map[netip.AddrPort]map[netip.AddrPort]bool // destinations in force, by service
	seen    map[hold]struct{}                          // of the connection table
}

// snapshot takes down what there must be, piece by piece, so that nothing waits for it.
func (p *Plane) snapshot() expectation {
	x := expectation{map[hold]dest{}, map[path]route.Route{}, map[netip.AddrPort]map[netip.AddrPort]bool{}, map[hold]struct{}{}}
	for shard := range shards {
		p.snapShard(&x, shard)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.services {
		x.forced[s.key] = map[netip.AddrPort]bool{}
		for d := range s.dests {
			x.forced[s.key][d.addr] = true
		}
	}
	for k, t := range p.subnets.targets {
		r := subnetRoute(k, t)
		x.subnets[path{r.Table, r.Prefix}] = r
	}
	return x
}

func (p *Plane) snapShard(x *expectation, shard int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.services {
		v := p.vips[s.key.Addr()]
		if v == nil {
			continue
		}
		for e, t := range v.pins[shard] {
			if d, ok := s.at[kind{t, e.Port() != 0}]; ok {
				x.entries[hold{e, s.key}] = d
			}
		}
	}
}

// entry compares one that the kernel has, and takes it off what is wanted. What leads to a destination that was taken out is
// without effect, and so is the second of a key: the first is the newer, which packets find.
func (a *audit) entry(p *Plane, x *expectation, e conntab.Entry) {
	k := hold{e.Client, e.VIP}
	if _, again := x.seen[k]; again || e.Protocol != protoUDP || !x.forced[e.VIP][e.Dest] {
		return
	}
	x.seen[k] = struct{}{}
	want, ok := x.entries[k]
	switch {
	case !ok:
		a.differ(&a.sum.Surplus, k.String(), "nothing", p.sayAddr(e.Dest))
	case want.addr != e.Dest:
		delete(x.entries, k)
		a.differ(&a.sum.Other, k.String(), p.say(want), p.sayAddr(e.Dest))
	default:
		delete(x.entries, k)
		a.sum.Equal++
	}
}

func (a *audit) route(wanted map[path]route.Route, r route.Route) {
	k := path{r.Table, r.Prefix}
	want, ok := wanted[k]
	switch {
	case r.Table < tenantTable || r.Table > tenantTable+maxTenants || r.Metric != metricSubnet:
	case !ok:
		a.differ(&a.sum.Surplus, k.say(), "nothing", sayRoute(r))
	case want.Nexthop != r.Nexthop:
		delete(wanted, k)
		a.differ(&a.sum.Other, k.say(), sayRoute(want), sayRoute(r))
	default:
		delete(wanted, k)
		a.sum.Equal++
	}
}

func sayRoute(r route.Route) string {
	if r.Nexthop == 0 {
		return "a drop"
	}
	pr, _, _ := pairOfNexthop(r.Nexthop)
	return fmt.Sprintf("pair of real servers %d and %d", pr.primary, pr.backup)
}

func (p *Plane) say(d dest) string { return p.sayAddr(d.addr) }

// sayAddr names the real server behind a destination's address.
func (p *Plane) sayAddr(addr netip.AddrPort) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := addr.Addr()
	if n, ok := p.book.numberOf(a); ok {
		pr, known := p.book.pairs[n]
		switch {
		case n == 0:
			return "a drop"
		case !known:
			return fmt.Sprintf("pair address %v, of nobody", a)
		}
		return fmt.Sprintf("%s, backup %s (%v)", p.name(pr.primary), p.name(pr.backup), a)
	}
	for i, rs := range p.servers {
		for _, b := range rs.Addrs {
			if a == b {
				return fmt.Sprintf("%s (%v)", p.name(i), a)
			}
		}
	}
	return a.String()
}
