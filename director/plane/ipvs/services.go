package ipvs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"tunneldirector/director/plane"
)

// A virtual is an IPVS virtual service as it is in the kernel.
type virtual struct {
	key   netip.AddrPort // VIP and UDP port
	ours  bool           // it carries our mark
	hash  bool           // it schedules unknown endpoints, packet by packet
	dests map[dest]state
}

// A state is what the kernel says of a destination.
type state struct {
	weight  int
	active  int // connection entries bound to it: those that were sent
	other   int // those that packets made
	packets uint32
	bytes   uint64
}

// A change is one thing to change about IPVS's services. If dest is valid it is about a destination of the service.
type change struct {
	act    act
	key    netip.AddrPort
	hash   bool
	known  bool // of putService: it is there and ours; else one that is there is not, and is refused
	dest   dest
	weight int
}

type act uint8

const (
	putService act = iota // or change its flags
	cutService
	putDest // or change its weight
	cutDest
)

// A service is a virtual service of ours.
type service struct {
	key   netip.AddrPort
	label label
	hash  bool
	dests map[dest]int  // that are in the kernel -> weight
	at    map[kind]dest // where pins' entries have been sent
	// moving: entries are on their way to a new label, and those that are not there yet need the old one's destinations.
	moving bool
}

// wanted are the destinations that s must have: those of its pins' kinds, and those that unknown endpoints are spread over.
func (p *Plane) wanted(s *service, ring map[kind]int) (at map[kind]dest, dests map[dest]int) {
	at, dests = map[kind]dest{}, map[dest]int{}
	for k := range p.kindsAt(s.key) {
		if k.target.Drop == plane.DropNoPort {
			continue
		}
		d := p.destOf(k, s.key, s.label)
		at[k] = d
		dests[d] += 0
	}
	for k, slots := range ring {
		d := p.destOf(k, s.key, ringLabel)
		if !p.isNowhere(d) {
			dests[d] += slots
		}
	}
	return at, dests
}

// kindsAt are the kinds of pins at a service's VIP.
func (p *Plane) kindsAt(key netip.AddrPort) map[kind]int {
	if v := p.vips[key.Addr()]; v != nil {
		return v.kinds
	}
	return nil
}

// isNowhere tells whether d is where packets are dropped.
func (p *Plane) isNowhere(d dest) bool {
	n, ok := p.book.numberOf(d.addr.Addr())
	return ok && n == 0
}

// virtuals makes the services that the configuration asks for, with the destinations that their pins need, and sends the pins of kinds
// that have to go elsewhere than they went. Destinations that nothing needs any more stay until sweep.
func (p *Plane) virtuals(ctx context.Context) error {
	for _, v := range p.vips {
		for _, port := range v.ports {
			key := netip.AddrPortFrom(v.addr, port)
			if err := p.virtual(ctx, v, key); err != nil {
				return fmt.Errorf("virtual service UDP %v: %w", key, err)
			}
		}
	}
	return nil
}

func (p *Plane) virtual(ctx context.Context, v *vip, key netip.AddrPort) error {
	ring := p.ring(key)
	s := p.services[key]
	if s == nil {
		s = &service{key: key, dests: map[dest]int{}}
	}
	if s.label == 0 {
		p.label = p.label.next(p.labelUsed)
		s.label, s.at = p.label, map[kind]dest{}
	}
	if _, known := p.services[key]; !known || s.hash != (len(ring) > 0) {
		if err := p.lvs.Change(change{act: putService, key: key, hash: len(ring) > 0, known: known}); err != nil {
			return err
		}
		s.hash = len(ring) > 0
		p.services[key] = s
	}
	at, dests := p.wanted(s, ring)
	for d, weight := range dests {
		if have, ok := s.dests[d]; ok && have == weight {
			continue
		}
		if err := p.lvs.Change(change{act: putDest, key: key, dest: d, weight: weight}); err != nil {
			return err
		}
		s.dests[d] = weight
	}
	for d, weight := range s.dests { // stale ones get no new endpoints
		if _, ok := dests[d]; !ok && weight > 0 {
			if err := p.lvs.Change(change{act: putDest, key: key, dest: d}); err != nil {
				return err
			}
			s.dests[d] = 0
		}
	}
	return p.follow(ctx, v, s, at)
}

// follow sends the entries of all pins of the kinds that go elsewhere now than they were sent. Those of a new kind are sent by whoever
// set them, but of a service that has none yet.
func (p *Plane) follow(ctx context.Context, v *vip, s *service, at map[kind]dest) error {
	moved := map[kind]dest{}
	for k, d := range at {
		if was, ok := s.at[k]; ok && was != d || len(s.at) == 0 {
			moved[k] = d
		}
	}
	if len(moved) > 0 {
		if err := p.sendKinds(ctx, v, s, moved); err != nil {
			return err
		}
	}
	s.at = at
	return nil
}

// sweepServices takes out destinations that nothing needs, and with them the entries that may still be bound to them, and
// services that the configuration does not have any more.
func (p *Plane) sweepServices(ctx context.Context) error {
	var errs []error
	for _, key := range slices.SortedFunc(maps.Keys(p.services), netip.AddrPort.Compare) {
		s := p.services[key]
		if v := p.vips[key.Addr()]; v == nil || !slices.Contains(v.ports, key.Port()) {
			err := p.buryService(ctx, s)
			if err == nil {
				err = p.lvs.Change(change{act: cutService, key: key})
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("remove virtual service UDP %v: %w", key, err))
				continue
			}
			delete(p.services, key)
			continue
		}
		_, dests := p.wanted(s, p.ring(key))
		for d := range s.dests {
			if _, ok := dests[d]; ok || s.moving {
				continue
			}
			if err := p.lvs.Change(change{act: cutDest, key: key, dest: d}); err != nil {
				errs = append(errs, err)
				continue
			}
			delete(s.dests, d)
		}
	}
	return errors.Join(errs...)
}

// ring is how many slots of the ring of unknown endpoints each target has at a service; empty if they are dropped.
func (p *Plane) ring(key netip.AddrPort) map[kind]int {
	slots := map[kind]int{}
	for _, s := range p.config.Services {
		if !serves(s, key) {
			continue
		}
		for _, t := range s.Ring {
			slots[kind{target: t}]++
		}
		if len(slots) > 0 {
			break
		}
	}
	return slots
}

// serves tells whether UDP packets to key belong to s.
func serves(s plane.Service, key netip.AddrPort) bool {
	if !slices.Contains(s.VIPs, key.Addr()) {
		return false
	}
	for _, m := range s.Match {
		if m.Proto == protoUDP && m.Lo <= key.Port() && key.Port() <= m.Hi {
			return true
		}
	}
	return false
}

// labelUsed tells whether destinations in the kernel may have l.
func (p *Plane) labelUsed(l label) bool {
	for _, s := range p.services {
		for d := range s.dests {
			if port := label(d.addr.Port()); port&^1 == l {
				return true
			}
		}
	}
	return false
}
