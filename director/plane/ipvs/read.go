package ipvs

import (
	"fmt"
	"net/netip"
	"slices"

	"tunneldirector/director/plane/ipvs/route"
)

// read takes down what of ours is in the kernel: services with their destinations, nexthop objects, pair addresses.
func (p *Plane) read() error {
	if err := p.readTimeout(); err != nil {
		return err
	}
	if err := p.readServices(); err != nil {
		return err
	}
	return p.readPaths()
}

func (p *Plane) readServices() error {
	list, err := p.lvs.Read()
	if err != nil {
		return fmt.Errorf("read IPVS's services: %w", err)
	}
	p.services = map[netip.AddrPort]*service{}
	for _, v := range list {
		if !v.ours {
			if mine := p.vips[v.key.Addr()]; mine != nil && slices.Contains(mine.ports, v.key.Port()) {
				return fmt.Errorf("virtual service UDP %v is in the kernel and is not ours (keepalived, or ipvsadm by hand): take it out, or run the director with plane: shadow until then", v.key)
			}
			continue
		}
		s := &service{key: v.key, hash: v.hash, dests: map[dest]int{}, at: map[kind]dest{}}
		for d, st := range v.dests {
			s.dests[d] = st.weight
			p.label = max(p.label, label(d.addr.Port())&^1)
		}
		p.services[v.key] = s
	}
	return nil
}

func (p *Plane) readPaths() error {
	p.paths = paths{nexthops: map[uint32]route.Nexthop{}, routes: map[netip.Addr]uint32{}, covers: map[route.Route]struct{}{}}
	for n, err := range p.routes.Nexthops() {
		if err != nil {
			return fmt.Errorf("read our nexthop objects: %w", err)
		}
		p.paths.nexthops[n.ID] = n
	}
	for r, err := range p.routes.Routes(0) {
		switch {
		case err != nil:
			return fmt.Errorf("read our routes: %w", err)
		case r.Table == pairTable && r.Prefix.IsSingleIP():
			p.paths.routes[r.Prefix.Addr()] = r.Nexthop
			pr, _, ok := pairOfNexthop(r.Nexthop)
			if number, in := p.book.numberOf(r.Prefix.Addr()); ok && in {
				p.book.adopt(pr, number)
			}
		case r.Metric == metricCover && r.Table != pairTable:
			p.paths.covers[r] = struct{}{}
		}
	}
	return nil
}
