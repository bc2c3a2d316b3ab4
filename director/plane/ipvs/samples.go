package ipvs

import (
	"context"
	"sync"
	"time"

	"tunneldirector/director/plane"
	"tunneldirector/director/plane/frame"
)

// relisten is how long Samples waits before it tries again to listen to the gate.
const relisten = time.Second

// Samples calls f for some of the packets that the gate drops, and for those that are watched, until ctx ends.
//
// Why a packet was dropped is the gate's own word. What became of one that is watched the kernel does not tell: its reason, side,
// service and real server are Foretold: what Lookup makes of the beginning of it (malformed if it cannot be read). It is shown once
// more, with the true reason, if the gate drops it. What IPVS, routes and the kernel itself drop without the gate (both dead, in no
// tunnel's subnet, too big) is not shown but to a watch. Fragments to a VIP are whole again where the gate drops them, and what goes
// to a subnet has one hop less.
func (p *Plane) Samples(ctx context.Context, f func(plane.Sample)) error {
	for ctx.Err() == nil {
		if p.listen() {
			err := p.log.Read(ctx, func(s plane.Sample) { f(p.explain(s)) })
			if ctx.Err() != nil {
				return nil
			}
			p.warn(listening, err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(relisten):
		}
	}
	return nil
}

// listening is what Warnings call it.
const listening = "take samples of packets"

// listen has the gate's packets wait for Samples, and says so if it cannot.
func (p *Plane) listen() bool {
	err := p.log.Bind()
	p.warn(listening, err)
	return err == nil
}

// explain adds what the table knows of a packet.
func (p *Plane) explain(s plane.Sample) plane.Sample {
	switch {
	case s.Watched:
		s = p.foretell(s)
		s.Foretold = true
	case s.Reason == plane.DropUnknown, s.Reason == plane.DropNoPort: // what is dropped for another reason had no service yet
		if d, err := p.decide(s); err == nil && d.Reason == s.Reason {
			s.Service = d.Service
		}
	case s.Reason == plane.DropLoop:
		s = p.returned(s)
	}
	if s.Side == plane.SubnetSide {
		s.Tenant = p.tenantOf(s.Interface)
	}
	return s
}

// foretell adds what will become of a packet that is watched.
func (p *Plane) foretell(s plane.Sample) plane.Sample {
	d, err := p.decide(s)
	if err != nil {
		s.Reason = plane.DropMalformed
		return s
	}
	s.Reason, s.Side, s.Service, s.RealServer = d.Reason, d.Side, d.Service, d.RealServer
	return s
}

// decide asks the table about a packet by the beginning of it. It fails if that contradicts itself, or if the interface has
// another name by now.
func (p *Plane) decide(s plane.Sample) (plane.Decision, error) {
	pk, err := frame.Parse(s.Head)
	if err != nil {
		return plane.Decision{}, err
	}
	pk.Interface, pk.From = s.Interface, p.senderOf(s.Head)
	return p.Lookup(pk)
}

// tenantOf is the number of the tenant that an interface tells; 0 is the default one.
func (p *Plane) tenantOf(ifname string) uint16 {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, i := range p.o.Interfaces {
		for _, t := range p.config.Tenants {
			if i.Name == ifname && i.Tenant == t.Name {
				return t.Num
			}
		}
	}
	return 0
}

// Drops counts what the gate dropped, since its table was made.
func (p *Plane) Drops() (map[plane.Reason]uint64, error) {
	drops, _, err := p.gate.Counters()
	return drops, err
}

// A watch is what the kernel was told to show beside drops.
type watch struct {
	sync.Mutex
	there bool // the kernel may have it; an earlier run may have left one
	until time.Time
}

// Watch has packets that come in by the plane's interfaces and fit w shown, at most 200 a second. The kernel ends it in time,
// also if the daemon has died.
func (p *Plane) Watch(w plane.Watch, until time.Time) error {
	p.watch.Lock()
	defer p.watch.Unlock()
	var names []string
	for _, i := range p.o.Interfaces {
		names = append(names, i.Name)
	}
	lasts := until.Sub(p.clock())
	if err := p.log.Watch(w, names, lasts); err != nil {
		return err
	}
	p.watch.there, p.watch.until = lasts > 0, until
	return nil
}

// endWatch takes out a watch that is over: it shows nothing any more, but packets still ask whether it does.
func (p *Plane) endWatch(context.Context) error {
	p.watch.Lock()
	defer p.watch.Unlock()
	if !p.watch.there || p.clock().Before(p.watch.until) {
		return nil
	}
	if err := p.log.Watch(plane.Watch{}, nil, 0); err != nil {
		return err
	}
	p.watch.there = false
	return nil
}
