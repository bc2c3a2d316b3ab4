package ipvs

import (
	"context"
	"fmt"
	"net/netip"

	"tunneldirector/director/plane"
)

// Compare tells what the kernel has for a packet's endpoint that differs from what it should. It reads IPVS's connection table until
// it has seen all of it, which for a large table takes long: ctx ends it, with an error.
func (p *Plane) Compare(ctx context.Context, pk plane.Packet, f func(plane.Difference)) error {
	if pk.Inner != nil {
		return nil // an error about a tunnel goes where the tunnel goes
	}
	x := p.expected(pk)
	a := audit{f: func(d plane.Difference) bool { f(d); return true }, more: true}
	n := 0
	for e, err := range p.conns() {
		if n++; err == nil && n%1000 == 0 {
			err = ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("read IPVS's connection table: %w", err)
		}
		if e.Client.Addr() == pk.Src && e.VIP.Addr() == pk.Dst && (e.Client.Port() == 0 || e.Client.Port() == pk.SrcPort) {
			a.entry(p, &x, e)
		}
	}
	for k, d := range x.entries {
		a.differ(&a.sum.Missing, k.String(), p.say(d), "nothing")
	}
	return nil
}

// expected is what there must be of the entries that a packet can meet.
func (p *Plane) expected(pk plane.Packet) expectation {
	p.mu.Lock()
	defer p.mu.Unlock()
	x := expectation{entries: map[hold]dest{}, forced: map[netip.AddrPort]map[netip.AddrPort]bool{}, seen: map[hold]struct{}{}}
	for _, s := range p.services {
		v := p.vips[s.key.Addr()]
		if v == nil || v.addr != pk.Dst {
			continue
		}
		x.forced[s.key] = map[netip.AddrPort]bool{}
		for d := range s.dests {
			x.forced[s.key][d.addr] = true
		}
		for _, e := range v.near(pk) {
			if t, ok := v.get(e); ok {
				if d, ok := s.at[kind{t, e.Port() != 0}]; ok {
					x.entries[hold{e, s.key}] = d
				}
			}
		}
	}
	return x
}
