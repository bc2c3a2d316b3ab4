package affinity

import (
	"fmt"
	"net/netip"
	"slices"
)

// CheckService tells whether a service may be put into the table of a director that has these addresses.
func (t *Table) CheckService(s *Service, own []netip.Addr) *Refusal {
	faults := append(s.Faults(), t.preferred(s)...)
	for i, v := range s.VIPs {
		field := fmt.Sprintf("vips[%d]", i)
		faults = append(faults, t.addressInUse(field, v, "")...)
		faults = append(faults, t.gatewayInUse(field, v, nil)...)
		if slices.Contains(own, v) {
			faults = append(faults, Fault{field, v.String(), "is an address of the director", "an address of its own: what comes to a VIP never reaches the director itself"})
		}
		if n := t.rulesAt(v, s); n > MaxRules {
			faults = append(faults, Fault{field, v.String(), fmt.Sprintf("would have %d protocol lines with those of other services", n), fmt.Sprintf("at most %d at one VIP", MaxRules)})
		}
	}
	for _, o := range t.services {
		if o.Name == s.Name {
			continue
		}
		for i, a := range s.Match {
			if b := slices.IndexFunc(o.Match, a.overlaps); b >= 0 && sharesVIP(s, o) {
				faults = append(faults, Fault{fmt.Sprintf("protocols[%d]", i), a.String(), "overlaps " + o.Match[b].String() + " of service " + o.Name + " at the same VIP", "another port or another VIP"})
			}
		}
	}
	old := t.services[s.Name]
	if old == nil && len(t.services) >= MaxServices {
		faults = append(faults, Fault{"name", s.Name, fmt.Sprintf("there are %d services already", MaxServices), "delete one first"})
	}
	for _, r := range t.servers {
		if old != nil && old.Method != s.Method && slices.Contains(r.Services, s.Name) && len(r.Services) > 1 {
			faults = append(faults, Fault{"method", s.Method.String(), "real server " + r.Name + " serves others by " + old.Method.String(), "all services of a real server have one forwarding method"})
		}
	}
	if len(faults) > 0 {
		return &Refusal{Invalid, "service " + s.Name, faults}
	}
	return t.checkMoved(old, s)
}

// rulesAt counts the matches at a VIP, with s in the place of what has its name.
func (t *Table) rulesAt(v netip.Addr, s *Service) int {
	n := len(s.Match)
	for _, o := range t.services {
		if o.Name != s.Name && slices.Contains(o.VIPs, v) {
			n += len(o.Match)
		}
	}
	return n
}

func sharesVIP(a, b *Service) bool {
	return slices.ContainsFunc(a.VIPs, func(v netip.Addr) bool { return slices.Contains(b.VIPs, v) })
}

// checkMoved refuses a change of VIPs or method by which tunnels would lose or contest claims, or not be allowed.
func (t *Table) checkMoved(old, s *Service) *Refusal {
	if old == nil {
		return nil
	}
	field, value, moved := "vips", "", !slices.Equal(old.VIPs, s.VIPs)
	switch {
	case moved:
	case s.Method == Masq && old.Method != Masq: // which not all endpoints may have
		field, value = "method", s.Method.String()
	default:
		return nil
	}
	probe := t.Clone()
	probe.PutService(s)
	var faults []Fault
	probe.Tunnels("", func(tun *Tunnel) bool {
		if tun.Service == s.Name {
			for _, f := range probe.tunnelFaults(tun, nil) {
				faults = append(faults, Fault{field, value, "tunnel " + tun.ID + ", " + f.Field + " " + f.Value + ": " + f.Problem, "change that tunnel first"})
			}
			if !moved {
				return len(faults) < 8
			}
			for _, c := range probe.Contested(tun) {
				faults = append(faults, Fault{field, value, "tunnel " + tun.ID + " would be contested: " + c, "change one of them first"})
			}
		}
		return len(faults) < 8
	})
	if faults == nil {
		return nil
	}
	return &Refusal{Conflict, "service " + s.Name, faults}
}

// addressInUse says what an address that is to be a VIP or a real server's is already.
func (t *Table) addressInUse(field string, a netip.Addr, realServer string) []Fault {
	var out []Fault
	if realServer == "" {
		for _, r := range t.servers {
			if slices.Contains(r.Addrs, a) {
				out = append(out, Fault{field, a.String(), "is the address of real server " + r.Name, "an address of its own"})
			}
		}
	} else if slices.Contains(t.VIPs(), a) {
		out = append(out, Fault{field, a.String(), "is a VIP", "the real server's own address"})
	}
	t.ByEndpoint(a, func(tun *Tunnel) bool {
		out = append(out, Fault{field, a.String(), "is an endpoint of tunnel " + tun.ID, "an address of its own"})
		return false
	})
	t.BySubnet(nil, a, func(tun *Tunnel) bool {
		out = append(out, Fault{field, a.String(), "is in a subnet of tunnel " + tun.ID, "an address outside the tunnels' subnets"})
		return false
	})
	return out
}

// CheckDeleteService refuses the deletion of a service in use.
func (t *Table) CheckDeleteService(name string) *Refusal {
	s, ok := t.services[name]
	if !ok {
		return Refuse(NotFound, "service "+name, Fault{"name", name, "is not a service", "one of " + known(t.services)})
	}
	if n := t.ServiceLoad(s.Num).Tunnels; n > 0 {
		return Refuse(Conflict, "service "+name, Fault{"name", name, fmt.Sprintf("has %d tunnels", n), "delete them first"})
	}
	for _, r := range t.servers {
		if slices.Contains(r.Services, name) {
			return Refuse(Conflict, "service "+name, Fault{"name", name, "is served by real server " + r.Name, "change or remove that first"})
		}
	}
	return nil
}

// CheckTenant tells whether a tenant may be put into the table.
func (t *Table) CheckTenant(n *Tenant, reserved []netip.Prefix) *Refusal {
	faults := n.Faults()
	for i, p := range n.Covers {
		faults = append(faults, t.covered(fmt.Sprintf("covers[%d]", i), p, n, reserved)...)
	}
	for i, a := range n.Gateways {
		field := fmt.Sprintf("gateways[%d]", i)
		faults = append(faults, t.addressInUse(field, a, "")...)
		faults = append(faults, t.gatewayInUse(field, a, n)...)
		if slices.Contains(t.VIPs(), a) {
			faults = append(faults, Fault{field, a.String(), "is a VIP", "an address of its own"})
		}
		for _, o := range t.Tenants() {
			if c := slices.IndexFunc(o.Covers, func(p netip.Prefix) bool { return p.Contains(a) }); c >= 0 && o.Name != n.Name {
				faults = append(faults, Fault{field, a.String(), "lies in the covering prefix " + o.Covers[c].String() + " of tenant " + nameOr(o.Name, "default"), "an address of the target hosts' network: what is covered is behind tunnels"})
			}
		}
	}
	if t.tenants[n.Name] == nil && len(t.tenants) >= MaxTenants {
		faults = append(faults, Fault{"name", n.Name, fmt.Sprintf("there are %d tenants already", MaxTenants), "delete one first"})
	}
	if len(faults) > 0 {
		return &Refusal{Invalid, "tenant " + n.Name, faults}
	}
	if old := t.tenants[n.Name]; old != nil && !slices.Equal(old.Covers, n.Covers) {
		return t.checkCovers(n)
	}
	return nil
}

func (t *Table) checkCovers(n *Tenant) *Refusal {
	var r *Refusal
	t.Tunnels("", func(tun *Tunnel) bool {
		for _, p := range tun.Subnets {
			inside := func(c netip.Prefix) bool { return c.Bits() <= p.Bits() && c.Contains(p.Addr()) }
			if tun.Tenant == n.Name && !slices.ContainsFunc(n.Covers, inside) {
				r = Refuse(Conflict, "tenant "+nameOr(n.Name, "default"), Fault{"covers", "", fmt.Sprintf("subnet %s of tunnel %s would be outside", p, tun.ID), "keep it covered, or delete the tunnel first"})
				return false
			}
		}
		return true
	})
	return r
}

// CheckDeleteTenant refuses the deletion of a tenant in use.
func (t *Table) CheckDeleteTenant(name string) *Refusal {
	if _, ok := t.tenants[name]; !ok {
		return Refuse(NotFound, "tenant "+nameOr(name, "default"), Fault{"name", name, "is not a tenant", "one of " + known(t.tenants)})
	}
	for _, rs := range t.servers {
		if _, named := rs.VLANs[name]; named {
			return Refuse(Conflict, "tenant "+nameOr(name, "default"), Fault{"name", name, "has a VLAN on real server " + rs.Name, "take it away there first"})
		}
	}
	var r *Refusal
	t.Tunnels("", func(tun *Tunnel) bool {
		if tun.Tenant == name && (name != "" || len(tun.Subnets) > 0) {
			r = Refuse(Conflict, "tenant "+nameOr(name, "default"), Fault{"name", name, "has tunnel " + tun.ID, "delete its tunnels first"})
		}
		return r == nil
	})
	return r
}

// CheckRealServer tells whether a real server may be put into the table.
func (t *Table) CheckRealServer(r *RealServer, reserved []netip.Prefix) *Refusal {
	faults := r.Faults()
	for i, a := range r.Addrs {
		field := fmt.Sprintf("addresses[%d]", i)
		faults = append(faults, t.addressInUse(field, a, r.Name)...)
		faults = append(faults, t.gatewayInUse(field, a, nil)...)
		for _, p := range reserved {
			if p.IsSingleIP() && p.Addr() == a {
				faults = append(faults, Fault{field, a.String(), "is an address of the director", "the real server's own address"})
			}
		}
		for _, o := range t.servers {
			if o.Name != r.Name && slices.Contains(o.Addrs, a) {
				faults = append(faults, Fault{field, a.String(), "is the address of real server " + o.Name, "each real server has its own address; several instances on one host take one each"})
			}
		}
	}
	var first *Service
	for i, name := range r.Services {
		s, ok := t.services[name]
		switch {
		case !ok:
			faults = append(faults, Fault{fmt.Sprintf("services[%d]", i), name, "is not a service", "one of " + known(t.services)})
		case first != nil && first.Method != s.Method:
			faults = append(faults, Fault{fmt.Sprintf("services[%d]", i), name, "is forwarded by " + s.Method.String() + ", " + first.Name + " by " + first.Method.String(), "all services of a real server have one forwarding method; make two real servers"})
		case first == nil:
			first = s
		}
	}
	for name := range r.VLANs {
		if _, ok := t.tenants[name]; !ok {
			faults = append(faults, Fault{"vlans." + name, name, "is not a tenant", "one of " + known(t.tenants)})
		}
	}
	if len(faults) > 0 {
		return &Refusal{Invalid, "real server " + r.Name, faults}
	}
	return t.checkServed(r)
}

// checkServed refuses to take a service away from a real server that tunnels of that service are pinned to.
func (t *Table) checkServed(r *RealServer) *Refusal {
	old, ok := t.servers[r.Name]
	if !ok {
		return nil
	}
	for _, s := range old.Services {
		if !slices.Contains(r.Services, s) && t.pinnedTo(r.Name) {
			return Refuse(Conflict, "real server "+r.Name, Fault{"services", s, "tunnels are pinned here", "drain and repin them first, then take the service away"})
		}
	}
	for tenant, tag := range old.VLANs {
		if r.VLANs[tenant] != tag && t.pinnedTo(r.Name) {
			return Refuse(Conflict, "real server "+r.Name, Fault{"vlans." + tenant, fmt.Sprint(r.VLANs[tenant]), fmt.Sprintf("was %d, and tunnels are pinned here that may be told apart by it", tag), "drain and repin them first, then change it"})
		}
	}
	return nil
}

// pinnedTo tells whether any pin names any incarnation of a real server.
func (t *Table) pinnedTo(name string) bool {
	for i, l := range t.lives {
		if l.RealServer == name && t.Named(i) {
			return true
		}
	}
	return false
}

// Named tells whether any tunnel's pin names an index.
func (t *Table) Named(i Index) (named bool) {
	t.Pairs(func(p, b Index, l Load) { named = named || (p == i || b == i) && l.Tunnels > 0 })
	return named
}
