package ipvs

import (
	"context"
	"fmt"
	"slices"

	"tunneldirector/director/plane"
	"tunneldirector/director/plane/ipvs/route"
)

// subnets are the pins of the subnet side.
type subnets struct {
	targets map[plane.SubnetKey]plane.Target
	uses    map[use]int // how many there are of each
	turned  bool        // a use came or went since this was cleared
}

type use struct {
	target plane.Target
	v6     bool
}

func newSubnets() *subnets {
	return &subnets{targets: map[plane.SubnetKey]plane.Target{}, uses: map[use]int{}}
}

func (s *subnets) set(k plane.SubnetKey, t plane.Target) {
	if was, ok := s.targets[k]; ok && was == t {
		return
	}
	s.drop(k)
	s.targets[k] = t
	u := use{t, k.Prefix.Addr().Is6()}
	if s.uses[u]++; s.uses[u] == 1 {
		s.turned = true
	}
}

func (s *subnets) drop(k plane.SubnetKey) bool {
	t, ok := s.targets[k]
	if !ok {
		return false
	}
	delete(s.targets, k)
	u := use{t, k.Prefix.Addr().Is6()}
	if s.uses[u]--; s.uses[u] == 0 {
		delete(s.uses, u)
		s.turned = true
	}
	return true
}

// subnetRoute is the route of a subnet.
func subnetRoute(k plane.SubnetKey, t plane.Target) route.Route {
	r := route.Route{Table: tenantTable + uint32(k.Tenant), Prefix: k.Prefix, Metric: metricSubnet}
	if t.Drop == plane.None {
		r.Nexthop = pairOf(t).nexthop(k.Prefix.Addr().Is6())
	}
	return r
}

// program sets and deletes the routes of subnets.
func (p *Plane) program(ctx context.Context, w *work) error {
	var set, cut []route.Route
	for k := range w.subnets {
		set = append(set, subnetRoute(k, p.subnets.targets[k]))
	}
	for k := range w.cut {
		cut = append(cut, route.Route{Table: tenantTable + uint32(k.Tenant), Prefix: k.Prefix, Metric: metricSubnet})
	}
	if len(set) > 0 {
		if err := p.routes.SetRoutes(ctx, set); err != nil {
			return fmt.Errorf("route %d subnets: %w", len(set), err)
		}
	}
	if len(cut) > 0 {
		if err := p.routes.DeleteRoutes(ctx, cut); err != nil {
			return fmt.Errorf("remove the routes of %d subnets: %w", len(cut), err)
		}
	}
	return nil
}

// sweepSubnets reads what routes of ours there are, and takes out those that nothing wants.
func (p *Plane) sweepSubnets(ctx context.Context) error {
	var cut []route.Route
	for r, err := range p.routes.Routes(0) {
		if err != nil {
			return fmt.Errorf("read our routes: %w", err)
		}
		if r.Table < tenantTable || r.Table > tenantTable+maxTenants {
			continue
		}
		tenant := uint16(r.Table - tenantTable)
		_, pinned := p.subnets.targets[plane.SubnetKey{Tenant: tenant, Prefix: r.Prefix}]
		_, cover := p.paths.covers[r]
		if r.Metric == metricSubnet && pinned || r.Metric == metricCover && cover {
			continue
		}
		cut = append(cut, r)
	}
	if len(cut) == 0 {
		return nil
	}
	if err := p.routes.DeleteRoutes(ctx, cut); err != nil {
		return fmt.Errorf("remove %d routes that nothing wants: %w", len(cut), err)
	}
	return nil
}

const maxTenants = 1<<16 - 1

// guardRoutes makes the blackholes of covering prefixes, then the rules that lead to the tables.
func (p *Plane) guardRoutes(ctx context.Context) error {
	want := map[route.Route]struct{}{}
	for _, t := range p.config.Tenants {
		for _, c := range t.Covers {
			want[route.Route{Table: tenantTable + uint32(t.Num), Prefix: c, Metric: metricCover}] = struct{}{}
		}
	}
	pairs := []route.Route{{Table: pairTable, Prefix: p.o.Pairs4.Masked(), Metric: metricCover}, {Table: pairTable, Prefix: p.o.Pairs6.Masked(), Metric: metricCover}}
	var set, cut []route.Route
	for r := range want {
		if _, have := p.paths.covers[r]; !have {
			set = append(set, r)
		}
	}
	for r := range p.paths.covers {
		if _, wanted := want[r]; !wanted {
			cut = append(cut, r)
		}
	}
	if err := p.routes.SetRoutes(ctx, append(set, pairs...)); err != nil {
		return fmt.Errorf("shut the covering prefixes: %w", err)
	}
	if err := p.routes.SetRules(ctx, p.rules()); err != nil {
		return fmt.Errorf("lead to the routing tables: %w", err)
	}
	if len(cut) > 0 {
		if err := p.routes.DeleteRoutes(ctx, cut); err != nil {
			return fmt.Errorf("open %d covering prefixes that no tenant has any more: %w", len(cut), err)
		}
	}
	p.paths.covers = want
	return nil
}

// rules lead the kernel's own lookups to the pair addresses, and what comes in by the subnet side to its tenant's table.
func (p *Plane) rules() []route.Rule {
	rules := []route.Rule{
		{Priority: pairTable, IIF: "lo", To: p.o.Pairs4.Masked(), Table: pairTable},
		{Priority: pairTable, V6: true, IIF: "lo", To: p.o.Pairs6.Masked(), Table: pairTable},
	}
	for _, i := range p.o.Interfaces {
		if i.Roles&plane.RoleSubnet == 0 {
			continue
		}
		num, ok := p.tenant(i.Tenant)
		if !ok {
			continue
		}
		for _, v6 := range []bool{false, true} {
			rules = append(rules, route.Rule{Priority: tenantTable + uint32(num), V6: v6, IIF: i.Name, Table: tenantTable + uint32(num)})
		}
	}
	return rules
}

// tenant is the number of a tenant by its name; the default tenant is always known.
func (p *Plane) tenant(name string) (uint16, bool) {
	i := slices.IndexFunc(p.config.Tenants, func(t plane.Tenant) bool { return t.Name == name })
	if i < 0 {
		return 0, name == ""
	}
	return p.config.Tenants[i].Num, true
}
