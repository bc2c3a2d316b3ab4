package affinity

import (
	"fmt"
	"net/netip"
	"slices"
)

// LearnedOwner owns the tunnels that nobody announced and agents reported. It is not a name that a token may have.
const LearnedOwner = "(learned)"

// MaxRoamed is how many endpoints a tunnel has besides those it was announced with.
const MaxRoamed = 2

// Learned tells whether a tunnel was reported by an agent, and announced by nobody.
func (t *Tunnel) Learned() bool { return t.Owner == LearnedOwner }

// Claimed are the endpoints that a tunnel wants packets from: those it was announced with, and those it roamed to.
func (t *Tunnel) Claimed() []Endpoint {
	if len(t.Roamed) == 0 {
		return t.Endpoints
	}
	out := slices.Clone(t.Endpoints)
	for _, ep := range t.Roamed {
		if !slices.Contains(out, ep) {
			out = append(out, ep)
		}
	}
	return out
}

// EndpointFaults are what is wrong with a tunnel's endpoints in this table, claims apart.
func (t *Table) EndpointFaults(tun *Tunnel, reserved []netip.Prefix) []Fault {
	only := Tunnel{ID: tun.ID, Service: tun.Service, Endpoints: tun.Endpoints}
	var out []Fault
	for i, ep := range only.Endpoints {
		out = append(out, siteAddr(fmt.Sprintf("endpoints[%d]", i), ep.Addr())...)
	}
	return append(out, t.tunnelFaults(&only, reserved)...)
}

// PortsAt tells whether tunnels hold ports of an address at a VIP.
func (t *Table) PortsAt(vip, addr netip.Addr) bool {
	num, ok := t.vips[vip]
	return ok && t.anyPort(claim{space: num, addr: bitsOf(addr)})
}

// yields tells whether a claim gives way to a tunnel's: what was only learned never displaces what was announced.
func (t *Table) yields(h claim, to *Tunnel) bool {
	holder, ok := t.Tunnel(h.id)
	if !ok || to.Learned() {
		return false
	}
	return holder.Learned() || len(holder.Roamed) > 0 && endpointIndex(holder, h) < 0 && t.endpointClaimed(holder, h)
}

// endpointClaimed tells whether a claim is one of a tunnel's endpoints, rather than of its subnets.
func (t *Table) endpointClaimed(tun *Tunnel, c claim) (is bool) {
	t.eachEndpointClaim(tun.ID, tun, func(x claim) { is = is || x == c })
	return is
}

// MakeWay calls f for what has to change before a tunnel can hold what it asks for: learned tunnels at one of its endpoints, to be
// deleted; those with one of its subnets, and tunnels that roamed to one of its endpoints, as they are without. f may change the
// table.
func (t *Table) MakeWay(tun *Tunnel, f func(other *Tunnel, deleted bool)) {
	if tun.Learned() {
		return
	}
	var learned, roamed, less []*Tunnel
	look := func(of claims, c claim, subnet bool) {
		of.each(c.key(), func(h claim) bool {
			if h.id == tun.ID || !t.yields(h, tun) {
				return true
			}
			other, _ := t.Tunnel(h.id)
			same := func(o *Tunnel) bool { return o.ID == other.ID }
			switch {
			case slices.ContainsFunc(learned, same) || slices.ContainsFunc(roamed, same) || slices.ContainsFunc(less, same):
			case other.Learned() && subnet:
				less = append(less, other)
			case other.Learned():
				learned = append(learned, other)
			default:
				roamed = append(roamed, other)
			}
			return true
		})
	}
	t.eachEndpointClaim(tun.ID, &Tunnel{ID: tun.ID, Service: tun.Service, Endpoints: tun.Endpoints}, func(c claim) { look(t.endpoints, c, false) })
	t.eachSubnetClaim(tun.ID, tun, func(c claim) { look(t.subnets, c, true) })
	for _, other := range learned {
		f(other, true)
	}
	for _, other := range less {
		next := *other
		next.Subnets = slices.DeleteFunc(slices.Clone(other.Subnets), func(p netip.Prefix) bool { return slices.Contains(tun.Subnets, p) })
		f(&next, false)
	}
	for _, other := range roamed {
		next := *other
		next.Roamed = slices.DeleteFunc(slices.Clone(other.Roamed), func(ep Endpoint) bool { return slices.Contains(tun.Endpoints, ep) })
		f(&next, false)
	}
}
