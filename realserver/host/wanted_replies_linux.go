package host

import (
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// toward is the interface of a next hop.
func (p *plan) toward(gw netip.Addr) (string, error) {
	for _, h := range p.all {
		if h.device == p.in.Interface && h.prefix.Contains(gw) {
			return h.device, nil
		}
	}
	ways, err := p.nl.RouteGet(gw.AsSlice())
	if err != nil || len(ways) == 0 || ways[0].Gw != nil {
		return "", fmt.Errorf("the gateway %v is on no interface's subnet", gw)
	}
	l, err := p.nl.LinkByIndex(ways[0].LinkIndex)
	if err != nil {
		return "", fmt.Errorf("the interface of gateway %v: %w", gw, err)
	}
	return l.Attrs().Name, nil
}

// replies have ways of their own where a gateway is given.
func (p *plan) replies(v6 bool) error {
	gw := of(p.in.Via, v6)
	if !gw.IsValid() {
		return nil
	}
	device, err := p.toward(gw)
	if err != nil {
		return err
	}
	const why = "replies leave by the gateway that was given for them"
	for _, h := range p.all {
		if h.device == device && h.prefix.Addr().Is6() == v6 && !h.prefix.IsSingleIP() && h.scope == unix.RT_SCOPE_UNIVERSE {
			p.want(want{piece: route{h.prefix.Masked(), p.table}, value: way(device, netip.Addr{}, netip.Addr{}), why: why})
		}
	}
	sources := slices.DeleteFunc(slices.Clone(p.in.VIPs), func(a netip.Addr) bool { return a.Is6() != v6 })
	if p.in.Mark == 0 {
		p.want(want{piece: p.byDefault(v6), value: way(device, gw, netip.Addr{}), why: why})
	}
	if p.in.ShareL2 {
		own, err := p.own(v6)
		if err != nil {
			return err
		}
		sources = append(sources, own)
	}
	for _, a := range sources {
		r := rule{a.String(), v6, p.table}
		p.want(want{piece: r, value: r.want(), why: why})
	}
	return nil
}

func (p *plan) byDefault(v6 bool) route {
	if v6 {
		return route{netip.PrefixFrom(netip.IPv6Unspecified(), 0), p.table}
	}
	return route{netip.PrefixFrom(netip.IPv4Unspecified(), 0), p.table}
}

// marked makes the VIP the source of what is marked. The kernel takes it for a route's only when it is there.
func (p *plan) marked(v6 bool) error {
	gw := of(p.in.Via, v6)
	if p.in.Mark == 0 || !gw.IsValid() || !p.in.has(v6) {
		return nil
	}
	device, err := p.toward(gw)
	if err != nil {
		return err
	}
	p.want(want{piece: p.byDefault(v6), value: way(device, gw, of(p.in.VIPs, v6)), why: "replies leave by the gateway that was given for them"})
	r := rule{fmt.Sprintf("mark:%d", p.in.Mark), v6, p.table}
	p.want(want{piece: r, value: r.want(), why: "marked packets, whose sender left the source open, have the VIP for it"})
	return nil
}
