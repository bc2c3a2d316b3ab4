package ipvs

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"tunneldirector/director/plane"
	"tunneldirector/director/plane/ipvs/gate"
	"tunneldirector/director/plane/ipvs/route"
)

// guard shuts what is to be shut: the gate, the covering prefixes, and the rules that lead into our tables.
func (p *Plane) guard(ctx context.Context) error {
	p.noport = map[gate.Source]struct{}{}
	for _, v := range p.vips {
		for a := range v.spots {
			if v.splitsESP(a) {
				p.noport[gate.Source{VIP: v.addr, Addr: a}] = struct{}{}
			}
		}
	}
	if err := p.setGate(ctx); err != nil {
		return err
	}
	return p.guardRoutes(ctx)
}

// guardNoPort shuts out ESP and AH of addresses where IPVS would send them by a pin that they do not belong to.
func (p *Plane) guardNoPort(ctx context.Context, w *work) error {
	changed := false
	look := func(v *vip, a netip.Addr) {
		s := gate.Source{VIP: v.addr, Addr: a}
		if _, have := p.noport[s]; have == v.splitsESP(a) {
			return
		}
		changed = true
		if v.splitsESP(a) {
			p.noport[s] = struct{}{}
		} else {
			delete(p.noport, s)
		}
	}
	for _, m := range []map[*vip]map[netip.Addr]struct{}{w.fresh, w.gone} {
		for v, addrs := range m {
			for a := range addrs {
				look(v, a)
			}
		}
	}
	if !changed {
		return nil
	}
	return p.setGate(ctx)
}

// splitsESP tells whether ESP of a would be taken for a pin that is not its own: IPVS looks it up as UDP from port 500, which a
// pin by that port answers to, though what has no port belongs to the pin for any.
func (v *vip) splitsESP(a netip.Addr) bool {
	if !v.esp || v.spots[a] == 0 {
		return false
	}
	exact, ok := v.get(netip.AddrPortFrom(a, portIKE))
	if !ok {
		return false
	}
	bare, ok := v.get(netip.AddrPortFrom(a, 0))
	return !ok || bare != exact
}

func (p *Plane) setGate(ctx context.Context) error {
	var w gate.Wanted
	for _, i := range p.o.Interfaces {
		for role, list := range map[plane.Role]*[]string{plane.RoleTunnel: &w.Tunnel, plane.RoleSubnet: &w.Subnet, plane.RoleRealServers: &w.RealServers} {
			if i.Roles&role != 0 {
				*list = append(*list, i.Name)
			}
		}
	}
	w.RealServers = append(w.RealServers, route.Tunnel4, route.Tunnel6) // under method tunnel
	for _, s := range p.config.Services {
		for _, a := range s.VIPs {
			if !slices.Contains(w.VIPs, a) {
				w.VIPs = append(w.VIPs, a)
			}
			for _, m := range s.Match {
				w.Services = append(w.Services, gate.Allowed{VIP: a, Proto: m.Proto, Lo: m.Lo, Hi: m.Hi})
			}
		}
	}
	w.Own, w.NoPort = p.config.Own, slices.Collect(maps.Keys(p.noport))
	w.Neighbours = p.neighbours()
	if _, err := p.gate.Set(ctx, w); err != nil {
		return fmt.Errorf("set the gate before IPVS: %w", err)
	}
	p.guarded = true
	p.macs = map[netip.Addr][6]byte{}
	for _, n := range w.Neighbours {
		p.macs[n.Addr] = n.MAC
	}
	return nil
}
