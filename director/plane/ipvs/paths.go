package ipvs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"slices"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
	"tunneldirector/director/plane/ipvs/route"
)

// Routing tables of the plane: one for pair addresses, then one per tenant number. The rules that lead to them have the
// tables' numbers for priorities: after the local table, before main.
const (
	pairTable   = 7400
	tenantTable = 7401
)

// Metrics: a subnet's route beats the blackhole of a cover of the same prefix.
const (
	metricSubnet = 10
	metricCover  = 20
)

// paths are what the kernel holds of ours that packets are sent along.
type paths struct {
	nexthops map[uint32]route.Nexthop
	routes   map[netip.Addr]uint32    // pair address -> nexthop object
	covers   map[route.Route]struct{} // blackholes
}

// uses are the pairs that something names, with the families that they need.
func (p *Plane) uses() map[pair][2]bool {
	used := map[pair][2]bool{}
	use := func(t plane.Target, v6 bool) {
		if t.Drop != plane.None {
			return
		}
		families := used[pairOf(t)]
		if v6 {
			families[1] = true
		} else {
			families[0] = true
		}
		used[pairOf(t)] = families
	}
	for _, v := range p.vips {
		if len(v.ports) == 0 {
			continue
		}
		for k := range v.kinds {
			use(k.target, v.addr.Is6())
		}
	}
	for _, s := range p.config.Services {
		for _, t := range s.Ring {
			for _, a := range s.VIPs {
				use(t, a.Is6())
			}
		}
	}
	for u := range p.subnets.uses {
		use(u.target, u.v6)
	}
	return used
}

// point makes a nexthop object of each pair that is in use lead to who of it is alive, and the pair's address to the object.
func (p *Plane) point(ctx context.Context) error {
	var nexthops []route.Nexthop
	var routes []route.Route
	var full error
	for pr, families := range p.uses() {
		n, err := p.book.number(pr)
		full = cmp.Or(full, err) // whichever pair comes last, the one without is told
		for i, needed := range families {
			if !needed {
				continue
			}
			v6 := i == 1
			want := p.nexthop(pr, v6)
			if have, ok := p.paths.nexthops[want.ID]; !ok || have != want {
				nexthops = append(nexthops, want)
			}
			if a := p.book.addr(n, v6); n != 0 && p.paths.routes[a] != want.ID {
				routes = append(routes, route.Route{Table: pairTable, Prefix: netip.PrefixFrom(a, a.BitLen()), Nexthop: want.ID, Metric: metricSubnet})
			}
		}
	}
	p.warn("find addresses for pairs", full)
	if err := p.setNexthops(ctx, nexthops); err != nil {
		return fmt.Errorf("point %d pairs at real servers: %w", len(nexthops), err)
	}
	if len(routes) == 0 {
		return nil
	}
	if err := p.routes.SetRoutes(ctx, routes); err != nil {
		return fmt.Errorf("route %d pair addresses: %w", len(routes), err)
	}
	for _, r := range routes {
		p.paths.routes[r.Prefix.Addr()] = r.Nexthop
	}
	return nil
}

// setNexthops sets them. That a link is down is no error: packets are dropped until it is up and heal sets them again. What the kernel
// refuses otherwise becomes a blackhole, is told, and tried again by heal; it keeps no other pair from its real server.
func (p *Plane) setNexthops(ctx context.Context, nexthops []route.Nexthop) error {
	if len(nexthops) == 0 {
		return nil
	}
	p.ensureTunnels(slices.Values(nexthops)) // without them the nexthops are refused below, one by one
	err := p.routes.SetNexthops(ctx, nexthops)
	p.warn("reach real servers", err)
	if err == nil || errors.Is(err, route.ErrDown) {
		for _, n := range nexthops {
			p.paths.nexthops[n.ID] = n
		}
		return nil
	}
	for _, n := range nexthops {
		if err := p.routes.SetNexthops(ctx, []route.Nexthop{n}); err != nil && !errors.Is(err, route.ErrDown) {
			n = route.Nexthop{ID: n.ID, V6: n.V6, Blackhole: true}
			if err := p.routes.SetNexthops(ctx, []route.Nexthop{n}); err != nil {
				return err
			}
		}
		p.paths.nexthops[n.ID] = n
	}
	return nil
}

// ensureTunnels makes sure of the tunnel devices that nexthops need.
func (p *Plane) ensureTunnels(nexthops iter.Seq[route.Nexthop]) {
	needed := map[bool]error{}
	for n := range nexthops {
		if _, done := needed[n.V6]; n.Encap.IsValid() && !done {
			needed[n.V6] = p.routes.EnsureTunnel(n.V6)
		}
	}
	if len(needed) > 0 {
		p.warn("make the tunnel device", errors.Join(needed[false], needed[true]))
	}
}

// nexthop is what the object of a pair must be now.
func (p *Plane) nexthop(pr pair, v6 bool) route.Nexthop {
	n := route.Nexthop{ID: pr.nexthop(v6), V6: v6, Blackhole: true}
	rs, ok := p.servers.live(pr)
	if !ok {
		return n
	}
	a, ok := address(rs, v6)
	if !ok {
		return n
	}
	if rs.Method == affinity.IPIP {
		if !p.survey.Leaves(a) { // with its link down, say, it would leave by the default route: a customer's plaintext, by IPIP
			return n
		}
		return route.Nexthop{ID: n.ID, V6: v6, Encap: a}
	}
	if link, ok := p.survey.Connected(a); ok {
		return route.Nexthop{ID: n.ID, V6: v6, Gateway: a, Link: link}
	}
	return n
}

// sweepPaths takes out the pair addresses and nexthop objects that nothing leads to any more.
func (p *Plane) sweepPaths(ctx context.Context) error {
	wanted := map[uint32]bool{}
	used := p.uses()
	for pr, families := range used {
		for i, needed := range families {
			if needed {
				wanted[pr.nexthop(i == 1)] = true
			}
		}
	}
	var routes []route.Route
	var ids []uint32
	for a, id := range p.paths.routes {
		if !wanted[id] {
			routes = append(routes, route.Route{Table: pairTable, Prefix: netip.PrefixFrom(a, a.BitLen()), Nexthop: id, Metric: metricSubnet})
		}
	}
	for id := range p.paths.nexthops {
		if !wanted[id] {
			ids = append(ids, id)
		}
	}
	if len(routes) > 0 {
		if err := p.routes.DeleteRoutes(ctx, routes); err != nil {
			return fmt.Errorf("remove %d pair addresses: %w", len(routes), err)
		}
		for _, r := range routes {
			delete(p.paths.routes, r.Prefix.Addr())
		}
	}
	if len(ids) > 0 {
		if err := p.routes.DeleteNexthops(ctx, ids); err != nil {
			return fmt.Errorf("remove %d nexthop objects: %w", len(ids), err)
		}
		for _, id := range ids {
			delete(p.paths.nexthops, id)
		}
	}
	for pr := range p.book.numbers {
		if _, ok := used[pr]; !ok {
			p.book.free(pr)
		}
	}
	return nil
}
