package affinity

import (
	"fmt"
	"net/netip"
	"slices"
)

// CheckTunnel tells whether a tunnel may be put into the table as it is: nil, or what forbids it. Reserved are prefixes
// that are the director's own or connected to it. The warnings are of a tunnel that may be put.
func (t *Table) CheckTunnel(tun *Tunnel, by Actor, reserved []netip.Prefix, transient bool) (warnings []string, _ *Refusal) {
	object := "tunnel " + tun.ID
	if faults := append(tun.Faults(), t.tunnelFaults(tun, reserved)...); len(faults) > 0 {
		return nil, &Refusal{Invalid, object, faults}
	}
	if r := t.checkOwner(tun.ID, by); r != nil {
		return nil, r
	}
	if r := t.checkGeneration(tun.ID, tun.Generation, true); r != nil {
		return nil, r
	}
	if r := t.checkGroup(tun, by); r != nil {
		return nil, r
	}
	if !transient {
		if r := t.checkClaims(tun); r != nil {
			return nil, r
		}
	}
	return t.warnings(tun), nil
}

// checkGroup refuses one tunnel too many in a group, and one that is not its owner's.
func (t *Table) checkGroup(tun *Tunnel, by Actor) *Refusal {
	if tun.Group == "" {
		return nil
	}
	n, stranger := 0, ""
	t.members.Ascend(member{group: tun.GroupID()}, func(m member) bool {
		if m.group != tun.GroupID() || n >= MaxGroup {
			return false
		}
		if m.id != tun.ID {
			if n == 0 && !by.Any {
				if first, _ := t.Tunnel(m.id); first.Owner != by.Name {
					stranger = first.Owner
				}
			}
			n++
		}
		return true
	})
	if stranger != "" {
		return Refuse(Forbidden, "tunnel "+tun.ID, Fault{"group", tun.Group, "has tunnels of " + stranger, "choose a group name of your own"})
	}
	if n < MaxGroup {
		return nil
	}
	return Refuse(Invalid, "tunnel "+tun.ID, Fault{"group", tun.Group, fmt.Sprintf("has %d tunnels already", n), fmt.Sprintf("at most %d: a group is what moves together", MaxGroup)})
}

func (t *Table) checkOwner(id string, by Actor) *Refusal {
	old, ok := t.Tunnel(id)
	if ok && old.Owner != by.Name && !by.Any && !old.Learned() {
		return Refuse(Forbidden, "tunnel "+id, Fault{"id", id, "belongs to " + nameOr(old.Owner, "an operator"), "push it with that owner's token, or use another id"})
	}
	return nil
}

func nameOr(name, otherwise string) string {
	if name == "" {
		return otherwise
	}
	return name
}

// checkGeneration refuses what is older than what is known: a live record, or a tombstone.
func (t *Table) checkGeneration(id string, generation uint64, put bool) *Refusal {
	known, ok := t.Tunnel(id)
	if !ok {
		if known, ok = t.Tombstone(id); !ok {
			return nil
		}
	}
	spent := generation == known.Generation && put && known.GenClosed
	if generation == 0 || generation > known.Generation || generation == known.Generation && !spent {
		return nil
	}
	what := "is known"
	if known.Header.Deleted {
		what = "was deleted"
	}
	return Refuse(Stale, "tunnel "+id, Fault{"generation", fmt.Sprint(generation),
		fmt.Sprintf("generation %d %s already", known.Generation, what), fmt.Sprintf("a late retry needs nothing; a new push says %d or more, or no generation", known.Generation+1)})
}

// tunnelFaults are what is wrong with a tunnel in this table, claims apart.
func (t *Table) tunnelFaults(tun *Tunnel, reserved []netip.Prefix) []Fault {
	var out []Fault
	svc, ok := t.services[tun.Service]
	if !ok && tun.Service != "" {
		out = append(out, Fault{"service", tun.Service, "is not a service", "one of " + known(t.services)})
	}
	tenant, ok := t.tenants[tun.Tenant]
	if !ok {
		if tun.Tenant != "" || len(tun.Subnets) > 0 {
			out = append(out, Fault{"tenant", tun.Tenant, "is not a tenant", "declare it with its covering prefixes first (director apply, or PUT /v1/tenants/" + nameOr(tun.Tenant, "default") + ")"})
		}
	}
	for i, ep := range tun.Endpoints {
		field := fmt.Sprintf("endpoints[%d]", i)
		if svc != nil {
			out = append(out, t.endpointFaults(field, ep, svc)...)
		}
		for _, p := range reserved {
			if p.IsSingleIP() && p.Addr() == ep.Addr() {
				out = append(out, Fault{field, endpointText(ep), "is an address of the director", "the site's public address"})
			}
		}
	}
	for i, p := range tun.Subnets {
		if tenant != nil {
			out = append(out, t.subnetFaults(fmt.Sprintf("subnets[%d]", i), p, tenant, reserved)...)
		}
	}
	return out
}

func known[V any](m map[string]V) string {
	if len(m) == 0 {
		return "none yet: make one first"
	}
	names := ""
	for i, k := range slices.Sorted(func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}) {
		if i == 8 {
			return names + ", ..."
		}
		if i > 0 {
			names += ", "
		}
		names += nameOr(k, `""`)
	}
	return names
}

func (t *Table) endpointFaults(field string, ep Endpoint, svc *Service) []Fault {
	var out []Fault
	a := ep.Addr()
	if !slices.ContainsFunc(svc.VIPs, func(v netip.Addr) bool { return v.Is4() == a.Is4() }) {
		out = append(out, Fault{field, endpointText(ep), "service " + svc.Name + " has no VIP of this address family", "an address of the family of its VIPs"})
	}
	if slices.Contains(t.VIPs(), a) {
		out = append(out, Fault{field, endpointText(ep), "is a VIP", "the site's public address"})
	}
	for _, r := range t.servers {
		if slices.Contains(r.Addrs, a) {
			out = append(out, Fault{field, endpointText(ep), "is the address of real server " + r.Name, "the site's public address"})
		}
	}
	if ep.Port() != 0 && !slices.ContainsFunc(svc.Match, func(m Match) bool { return HasPorts(m.Proto) }) {
		out = append(out, Fault{field, endpointText(ep), "has a port, but service " + svc.Name + " has neither UDP nor TCP", "the address alone"})
	}
	if ep.Port() == 0 && svc.Method == Masq {
		out = append(out, Fault{field, endpointText(ep), "has no port, and service " + svc.Name + " has method masq: the kernel would make an entry of the first port that speaks, which nobody could move or delete",
			"address:port, from which the site sends; or method dr or tunnel"})
	}
	return out
}

func (t *Table) subnetFaults(field string, p netip.Prefix, tenant *Tenant, reserved []netip.Prefix) []Fault {
	var out []Fault
	if !slices.ContainsFunc(tenant.Covers, func(c netip.Prefix) bool { return c.Bits() <= p.Bits() && c.Contains(p.Addr()) }) {
		out = append(out, Fault{field, p.String(), "is outside the covering prefixes of tenant " + nameOr(tenant.Name, "default"), "extend the tenant's covers; inside them unknown destinations are dropped, outside they would leave by a default route"})
	}
	return append(out, t.covered(field, p, tenant, reserved)...)
}

// covered is what a subnet or a covering prefix of a tenant must not cover. Its own gateways are looked at with it.
func (t *Table) covered(field string, p netip.Prefix, of *Tenant, reserved []netip.Prefix) []Fault {
	var out []Fault
	overlap := func(what string, q netip.Prefix) {
		if p.Overlaps(q) {
			out = append(out, Fault{field, p.String(), "covers " + what, "only what is behind sites"})
		}
	}
	for _, q := range reserved {
		overlap("the director's own "+q.String(), q)
	}
	for _, s := range t.services {
		for _, v := range s.VIPs {
			overlap("VIP "+v.String(), netip.PrefixFrom(v, v.BitLen()))
		}
	}
	for _, r := range t.servers {
		for _, a := range r.Addrs {
			overlap("real server "+r.Name+" at "+a.String(), netip.PrefixFrom(a, a.BitLen()))
		}
	}
	for _, o := range t.tenants {
		for _, a := range o.Gateways {
			if o.Name != of.Name {
				overlap("gateway "+a.String()+" of tenant "+nameOr(o.Name, "default"), netip.PrefixFrom(a, a.BitLen()))
			}
		}
	}
	return out
}

// checkClaims refuses a tunnel that wants what another group holds, or that would take it away by being older.
func (t *Table) checkClaims(tun *Tunnel) *Refusal {
	var faults []Fault
	i := 0
	taken := func(c claims, field string, x claim, words string) {
		c.each(x.key(), func(h claim) bool {
			if h.id == tun.ID || t.groupID(h.id) == tun.GroupID() || t.yields(h, tun) {
				return true
			}
			faults = append(faults, Fault{field, words, "is held by tunnel " + h.id,
				"delete or change that tunnel first, or put both into one group"})
			return false
		})
	}
	t.eachEndpointClaim(tun.ID, tun, func(c claim) {
		if n := endpointIndex(tun, c); n >= 0 { // what it roamed to is not asked for
			taken(t.endpoints, fmt.Sprintf("endpoints[%d]", n), c, endpointWords(c))
		}
	})
	t.eachSubnetClaim(tun.ID, tun, func(c claim) {
		taken(t.subnets, fmt.Sprintf("subnets[%d]", i), c, prefixOf(c).String())
		i++
	})
	if faults == nil {
		return nil
	}
	return &Refusal{Conflict, "tunnel " + tun.ID, faults}
}

func endpointIndex(tun *Tunnel, c claim) int {
	return slices.IndexFunc(tun.Endpoints, func(ep Endpoint) bool { return bitsOf(ep.Addr()) == c.addr && ep.Port() == c.low })
}

// warnings are what a pusher should know of a tunnel that is accepted.
func (t *Table) warnings(tun *Tunnel) []string {
	svc := t.services[tun.Service]
	bare := func(a netip.Addr) bool {
		for _, v := range svc.VIPs {
			if v.Is4() == a.Is4() {
				if _, ok := t.endpoints.holder(claim{space: t.vips[v], addr: bitsOf(a)}); ok {
					return true
				}
			}
		}
		return slices.Contains(tun.Endpoints, netip.AddrPortFrom(a, 0))
	}
	var out []string
	for _, ep := range tun.Endpoints {
		if ep.Port() != 0 && !bare(ep.Addr()) {
			out = append(out, fmt.Sprintf("endpoint %s has a port: packets from %s that carry none (ESP, AH, GRE, later fragments) are dropped; push %s itself if the tunnel needs them",
				ep, ep.Addr(), ep.Addr()))
		}
	}
	if len(tun.Endpoints) == 0 && len(tun.Subnets) == 0 {
		out = append(out, "neither endpoints nor subnets: no packet can belong to the tunnel yet")
	}
	for _, name := range tun.SeparateFrom {
		if _, ok := t.tunnels.Get(name); !ok && !t.hasMembers(GroupID("@"+name)) {
			out = append(out, "separate_from: there is no tunnel or group "+name+" yet")
		}
	}
	return out
}

// CheckDelete tells whether a tunnel may be deleted.
func (t *Table) CheckDelete(id string, generation uint64, by Actor) *Refusal {
	if r := t.checkOwner(id, by); r != nil {
		return r
	}
	return t.checkGeneration(id, generation, false)
}
