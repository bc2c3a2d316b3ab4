package ipvs

import (
	"fmt"
	"math/rand/v2"
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
	services := map[netip.AddrPort]*service{}
	for _, v := range list {
		if !v.ours {
			if mine := p.vips[v.key.Addr()]; mine != nil && slices.Contains(mine.ports, v.key.Port()) {
				return notOurs(v.key)
			}
			continue
		}
		s := &service{key: v.key, hash: v.hash, dests: map[dest]int{}, at: map[kind]dest{}}
		for d, st := range v.dests {
			s.dests[d] = st.weight
			p.label = max(p.label, label(d.addr.Port())&^1)
		}
		services[v.key] = s
	}
	p.services = services
	if p.label == 0 { // nothing of ours: what an earlier life left may wait in the kernel for a destination with its old label
		p.label = label(2 * (1 + rand.N(1<<14)))
	}
	return nil
}

func notOurs(key netip.AddrPort) error {
	return fmt.Errorf("virtual service UDP %v is in the kernel and is not ours (keepalived, or ipvsadm by hand): take it out, or run the director with plane: shadow until then", key)
}

// readPaths takes down nexthop objects and pair addresses, and of all tables the covers.
func (p *Plane) readPaths() error {
	now := paths{nexthops: map[uint32]route.Nexthop{}, routes: map[netip.Addr]uint32{}, covers: map[route.Route]struct{}{}}
	if err := p.readPairs(&now); err != nil {
		return err
	}
	for r, err := range p.routes.Routes(0) {
		if err != nil {
			return fmt.Errorf("read our routes: %w", err)
		}
		if r.Metric == metricCover && r.Table != pairTable {
			now.covers[r] = struct{}{}
		}
	}
	p.paths = now
	return nil
}

// readPairs takes down what leads to real servers.
func (p *Plane) readPairs(now *paths) error {
	for n, err := range p.routes.Nexthops() {
		if err != nil {
			return fmt.Errorf("read our nexthop objects: %w", err)
		}
		now.nexthops[n.ID] = n
	}
	for r, err := range p.routes.Routes(pairTable) {
		if err != nil {
			return fmt.Errorf("read the pairs' routes: %w", err)
		}
		if !r.Prefix.IsSingleIP() {
			continue
		}
		now.routes[r.Prefix.Addr()] = r.Nexthop
		pr, _, ok := pairOfNexthop(r.Nexthop)
		if number, in := p.book.numberOf(r.Prefix.Addr()); ok && in {
			p.book.adopt(pr, number)
		}
	}
	return nil
}
