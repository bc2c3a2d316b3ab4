package ipvs

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
	"tunneldirector/director/plane/ipvs/inject"
)

// batch is how many entries are handed to the injector at once.
const batch = 8192

// How long an entry in a grave lives. What it replaced may linger below it for a minute, if a packet was on its way through at that moment, and
// would be seen again if the grave were gone. But one for a port has to make way for a pin for any
// port; there the proof finds what lingered.
const (
	graveTime  = inject.LingerTime + 5*time.Second
	graveShort = time.Second
)

// A sender gathers entries and hands them on in batches, in order.
type sender struct {
	ctx   context.Context
	to    injector
	conns []inject.Conn
	err   error
}

func (s *sender) add(c inject.Conn) {
	if s.conns = append(s.conns, c); len(s.conns) >= batch {
		s.flush()
	}
}

func (s *sender) flush() {
	if s.err == nil && len(s.conns) > 0 {
		s.err = s.to.Send(s.ctx, s.conns)
	}
	s.conns = s.conns[:0]
}

func (s *sender) done() error {
	s.flush()
	return s.err
}

// entry is the connection entry of endpoint e under a service. One for a port lives no longer than a UDP packet would let it: if
// a daemon that died never deleted it, it stands before the pin for any port until then, and leads nowhere.
func (p *Plane) entry(e, service netip.AddrPort, d dest) inject.Conn {
	c := inject.Conn{Client: e, VIP: service, Dest: d.addr, Method: d.method, Timeout: p.o.Timeout}
	if e.Port() != 0 {
		c.Timeout = p.shortest()
	}
	return c
}

// shortest is how long an entry lives at least after it was sent.
func (p *Plane) shortest() time.Duration {
	if p.udpTimeout >= time.Second {
		return min(p.o.Timeout, p.udpTimeout)
	}
	return p.o.Timeout
}

// sendKinds sends the entries under s of all pins of some kinds.
func (p *Plane) sendKinds(ctx context.Context, v *vip, s *service, to map[kind]dest) error {
	out := sender{ctx: ctx, to: p.inject}
	for i := range v.pins {
		p.sendShard(&out, v, s, i, to)
	}
	return out.done()
}

// sendShard sends a shard's pins of some kinds: those by port before those for any port, because the kernel drops the latter
// when it first sees one of the former (ip_vs_proc_conn finds it in its place), and an address with a pin by port gets its pin for any port again.
func (p *Plane) sendShard(out *sender, v *vip, s *service, shard int, to map[kind]dest) {
	again := map[netip.AddrPort]dest{}
	for e, t := range v.pins[shard] {
		if d, ok := to[kind{t, true}]; ok && e.Port() != 0 {
			out.add(p.entry(e, s.key, d))
			bare := netip.AddrPortFrom(e.Addr(), 0)
			if bt, ok := v.get(bare); ok && bt.Drop != plane.DropNoPort {
				if _, comes := to[kind{target: bt}]; !comes {
					again[bare] = s.at[kind{target: bt}]
				}
			}
		}
	}
	for e, d := range again {
		if d.addr.IsValid() {
			out.add(p.entry(e, s.key, d))
		}
	}
	for e, t := range v.pins[shard] {
		if d, ok := to[kind{target: t}]; ok && e.Port() == 0 {
			out.add(p.entry(e, s.key, d))
		}
	}
}

// sendAddrs sends the entries of all pins of some addresses.
func (p *Plane) sendAddrs(ctx context.Context, v *vip, addrs map[netip.Addr]struct{}) error {
	out := sender{ctx: ctx, to: p.inject}
	for a := range addrs {
		pins := v.at(a)
		for _, port := range v.ports {
			key := netip.AddrPortFrom(v.addr, port)
			s := p.services[key]
			if s == nil {
				return fmt.Errorf("send pins: virtual service UDP %v is missing", key)
			}
			for _, e := range pins {
				t, _ := v.get(e)
				d, ok := s.at[kind{t, e.Port() != 0}]
				if !ok && t.Drop != plane.DropNoPort {
					return fmt.Errorf("send pins: virtual service UDP %v has no destination for them", key)
				}
				if ok {
					out.add(p.entry(e, s.key, d))
				}
			}
		}
	}
	return out.done()
}

// bury ends the entries of endpoints that are not pinned any more, under all services that the kernel has at their VIP. The pins
// that their addresses still have are sent again after them: the kernel may have taken one for the entry that was to end.
func (p *Plane) bury(ctx context.Context) error {
	for addr, graves := range p.graves {
		var services []*service
		for key, s := range p.services {
			if key.Addr() == addr {
				services = append(services, s)
			}
		}
		var gone []netip.AddrPort
		left := map[netip.Addr]struct{}{}
		for e := range graves {
			gone = append(gone, e)
			left[e.Addr()] = struct{}{}
		}
		if len(services) > 0 && len(gone) > 0 {
			if err := p.buryUnder(ctx, services, gone); err != nil {
				return fmt.Errorf("end the entries of %d endpoints at %v: %w", len(gone), addr, err)
			}
			if err := p.sendAddrs(ctx, p.vipAt(addr), left); err != nil {
				return err
			}
		}
		delete(p.graves, addr)
	}
	return nil
}

// buryUnder sends entries into a grave, and closes it.
func (p *Plane) buryUnder(ctx context.Context, services []*service, gone []netip.AddrPort) error {
	p.label = p.label.next(p.labelUsed)
	graves := make([]change, len(services))
	out := sender{ctx: ctx, to: p.inject}
	for i, s := range services {
		d := dest{netip.AddrPortFrom(p.book.addr(0, s.key.Addr().Is6()), uint16(p.label)), affinity.DR}
		graves[i] = change{act: putDest, key: s.key, dest: d}
		if err := p.lvs.Change(graves[i]); err != nil {
			return err
		}
		s.dests[d] = 0
		for _, e := range gone {
			c := p.entry(e, s.key, d)
			if c.Timeout = graveTime; e.Port() != 0 {
				c.Timeout = graveShort
			}
			out.add(c)
		}
	}
	if err := out.done(); err != nil {
		return err
	}
	for i, s := range services {
		graves[i].act = cutDest
		if err := p.lvs.Change(graves[i]); err != nil {
			return err
		}
		delete(s.dests, graves[i].dest)
	}
	return nil
}

// buryService ends entries of a service that is about to go, and with it its destinations and what is bound to them. But a dead entry for a
// port would stand before a later pin for any port, should the service come back; and under masq, where destinations have no label, all would be
// back with it.
func (p *Plane) buryService(ctx context.Context, s *service) error {
	v := p.vips[s.key.Addr()]
	if v == nil {
		return nil
	}
	whole := false
	for d := range s.dests {
		whole = whole || d.method == affinity.Masq
	}
	var gone []netip.AddrPort
	for e := range v.all() {
		if whole || e.Port() != 0 {
			gone = append(gone, e)
		}
	}
	if len(gone) == 0 {
		return nil
	}
	return p.buryUnder(ctx, []*service{s}, gone)
}
