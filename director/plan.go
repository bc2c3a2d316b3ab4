package director

import (
	"cmp"
	"context"
	"net/netip"
	"slices"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
)

// Stamp is not below the stamp of any record that there is now.
func (d *Director) Stamp() affinity.Stamp { return affinity.Stamp(d.stamp.Load()) }

// Scratch is a copy of the current table that is the caller's own, and the prefixes that tunnels must not touch.
func (d *Director) Scratch(context.Context) (*affinity.Table, []netip.Prefix, error) {
	return d.Table().Clone(), *d.reserved.Load(), nil
}

// RebalancePlan lists the moves that would bring each real server of a service ("": of all) to its share of the expected
// bandwidth, the biggest groups first. Repin leaves alone what is up when its turn comes. Where nobody can tell what is
// not, it refuses.
func (d *Director) RebalancePlan(_ context.Context, service string) ([]affinity.Op, error) {
	t := d.Table()
	if _, ok := t.Service(service); !ok && service != "" {
		return nil, affinity.Refuse(affinity.NotFound, "service "+service, affinity.Fault{Field: "service", Value: service, Problem: "is not a service", Remedy: "director service list"})
	}
	if _, watches := d.o.Plane.(plane.Observer); !watches {
		return nil, affinity.Refuse(affinity.Conflict, "rebalancing", affinity.Fault{Field: "plane", Value: d.o.PlaneKind, Problem: "sees no packets, so nobody can tell which tunnels are not up",
			Remedy: "move groups one by one: director repin"})
	}
	var ops []affinity.Op
	for _, s := range t.Services() {
		if service == "" || s.Name == service {
			ops = append(ops, rebalance(t, s)...)
		}
	}
	return ops, nil
}

// share is a real server in a rebalance.
type share struct {
	name     string
	index    affinity.Index
	weight   float64
	capacity uint32
	tunnels  uint32
	load     float64 // bit/s expected
}

// rebalance moves groups from those that have more than their share to those that have less.
func rebalance(t *affinity.Table, s *affinity.Service) []affinity.Op {
	mean := t.ServiceLoad(s.Num).Mean()
	var shares []*share
	at := map[affinity.Index]*share{}
	var total, weights float64
	for _, rs := range t.RealServers() {
		l, ok := t.LifeOf(rs.Name)
		if !ok || !l.Alive || rs.Admin != affinity.Active || rs.Weight == 0 || !slices.Contains(rs.Services, s.Name) {
			continue
		}
		sum := t.Load(l.Index)
		x := &share{rs.Name, l.Index, float64(rs.Weight), rs.Capacity, sum.Tunnels, sum.Bits(mean)}
		shares, at[l.Index] = append(shares, x), x
		total, weights = total+x.load, weights+x.weight
	}
	if len(shares) < 2 {
		return nil
	}
	fair := func(x *share) float64 { return total * x.weight / weights }
	var ops []affinity.Op
	for _, g := range movable(t, s, mean) {
		from := at[g.pin.Primary]
		to := slices.MinFunc(shares, func(a, b *share) int { return cmp.Compare(a.load-fair(a), b.load-fair(b)) })
		if from == nil || from == to || from.load-fair(from) < g.bits || to.load+g.bits > fair(to)+g.bits/2 || to.capacity > 0 && to.tunnels+g.tunnels > to.capacity {
			continue
		}
		from.load, to.load = from.load-g.bits, to.load+g.bits
		from.tunnels, to.tunnels = from.tunnels-g.tunnels, to.tunnels+g.tunnels
		ops = append(ops, affinity.Repin{Group: g.pin.Group, To: to.name, Why: affinity.WhyRebalanced, Idle: true})
	}
	return ops
}

type movableGroup struct {
	pin     affinity.Pin
	bits    float64
	tunnels uint32
}

// movable are the groups of a service by expected bandwidth, the biggest first.
func movable(t *affinity.Table, s *affinity.Service, mean uint64) []movableGroup {
	var out []movableGroup
	t.Pins("", func(p affinity.Pin) bool {
		tunnels := t.GroupTunnels(p.Group)
		if p.Primary == 0 || len(tunnels) == 0 || slices.ContainsFunc(tunnels, func(tun *affinity.Tunnel) bool { return tun.Service != s.Name }) {
			return true
		}
		g := movableGroup{pin: p, tunnels: uint32(len(tunnels))}
		for _, tun := range tunnels {
			if tun.Bandwidth == 0 {
				g.bits += float64(mean)
			}
			g.bits += float64(tun.Bandwidth)
		}
		out = append(out, g)
		return true
	})
	slices.SortStableFunc(out, func(a, b movableGroup) int { return cmp.Compare(b.bits, a.bits) })
	return out
}
