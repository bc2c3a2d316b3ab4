package ipvs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"tunneldirector/director/plane/ipvs/inject"
)

// The proof that the kernel has what it was sent is a count: a destination tells how many entries are bound to it, and the pins tell
// how many there must be.
//
//	too few     twice in a row: the pins of the kinds that go there are sent again
//	too many    for longer than an entry can linger at the destination that it was sent from: the service is sent again whole under a
//	            new label, and the old label's destinations are taken out with whatever is bound to them; once in a while at most
//	altered     what somebody took out, put in or changed among services and destinations: all is programmed anew
type proof struct {
	short   map[netip.AddrPort]map[dest]bool      // which destinations the last look found to have too few
	surplus map[netip.AddrPort]map[dest]time.Time // since when each has had too many
	renewed map[netip.AddrPort]time.Time
	repairs uint64
}

const (
	// renewRest is how long a service is left alone after it was sent again whole.
	renewRest = 10 * time.Minute
	// surplusAge is from when on too many entries are no others' remains.
	surplusAge = inject.LingerTime + 15*time.Second
)

// prove compares, and repairs what two looks in a row found off. What was left half-done is done anew first.
func (p *Plane) prove(ctx context.Context) error {
	surplus, err := p.look(ctx)
	if err != nil {
		return err
	}
	for _, key := range surplus {
		if err := p.renewService(ctx, key); err != nil {
			return fmt.Errorf("send the pins of virtual service UDP %v under a new label: %w", key, err)
		}
	}
	return nil
}

// look repairs what is quickly repaired, and tells which services have entries that nobody pinned.
func (p *Plane) look(ctx context.Context) (surplus []netip.AddrPort, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.due {
		return nil, p.renew(ctx, newWork())
	}
	if !p.guarded {
		return nil, nil
	}
	if err := p.virtuals(ctx); err != nil { // a death whose entries could not be sent
		return nil, p.owing(err)
	}
	list, err := p.lvs.Read()
	if err != nil {
		return nil, fmt.Errorf("read IPVS's services: %w", err)
	}
	p.count(list)
	have := map[netip.AddrPort]virtual{}
	for _, v := range list {
		have[v.key] = v
	}
	for key, s := range p.services {
		v, ok := have[key]
		if what := altered(s, v); !ok || what != "" {
			return nil, p.lost(ctx, key, what)
		}
		short, old := p.amiss(s, p.offBy(s, v))
		if last, ok := p.proof.renewed[key]; old && (!ok || p.clock().Sub(last) >= renewRest) {
			surplus = append(surplus, key)
			continue
		}
		if err := p.resend(ctx, s, short); err != nil {
			return nil, p.owing(err)
		}
	}
	return surplus, nil
}

// altered tells what of a service is not as it was put; "" if all is.
func altered(s *service, v virtual) string {
	switch {
	case !v.ours:
		return "the service"
	case v.hash != s.hash:
		return "the scheduler"
	}
	for d, weight := range s.dests {
		if st, ok := v.dests[d]; !ok || st.weight != weight {
			return fmt.Sprintf("destination %v", d.addr)
		}
	}
	for d := range v.dests {
		if _, ok := s.dests[d]; !ok {
			return fmt.Sprintf("destination %v, which is nobody's", d.addr)
		}
	}
	return ""
}

// lost is for what somebody changed in the kernel: everything is programmed anew.
func (p *Plane) lost(ctx context.Context, key netip.AddrPort, what string) error {
	p.o.Logger.Warn("somebody changed what is the director's in IPVS; programming all anew", "service", key, "changed", what)
	p.proof.repairs++
	return p.renew(ctx, newWork())
}

// want is how many entries each destination of s must have.
func (p *Plane) want(s *service) map[dest]int {
	n := map[dest]int{}
	for k, count := range p.kindsAt(s.key) {
		if d, ok := s.at[k]; ok {
			n[d] += count
		}
	}
	return n
}

// offBy is how many entries too many (or, negative, too few) each destination has. Where unknown endpoints are scheduled packet by packet,
// each packet under way is an entry, but no active one.
func (p *Plane) offBy(s *service, v virtual) map[dest]int {
	off := map[dest]int{}
	want := p.want(s)
	for d, st := range v.dests {
		conns := st.active
		if !s.hash {
			conns += st.other
		}
		if n := conns - want[d]; n != 0 {
			off[d] = n
		}
	}
	return off
}

// amiss tells which kinds have had too few entries twice in a row where they go, and whether any destination has had too many for long.
func (p *Plane) amiss(s *service, off map[dest]int) (short map[kind]dest, old bool) {
	now := p.clock()
	few, many := map[dest]bool{}, map[dest]time.Time{}
	short = map[kind]dest{}
	for d, n := range off {
		if n > 0 {
			since, ok := p.proof.surplus[s.key][d]
			if !ok {
				since = now
			}
			many[d], old = since, old || now.Sub(since) >= surplusAge
			continue
		}
		few[d] = true
		if !p.proof.short[s.key][d] {
			continue
		}
		for k, at := range s.at {
			if at == d {
				short[k] = at
			}
		}
	}
	p.proof.short[s.key], p.proof.surplus[s.key] = few, many
	if old || len(short) > 0 {
		p.o.Logger.Warn("IPVS has not as many entries as there are pins", "service", s.key, "too few", -sum(off, -1), "too many", sum(off, 1))
	}
	return short, old
}

func (p *Plane) resend(ctx context.Context, s *service, short map[kind]dest) error {
	if len(short) == 0 {
		return nil
	}
	p.proof.repairs++
	return p.sendKinds(ctx, p.vips[s.key.Addr()], s, short)
}

func sum(off map[dest]int, sign int) (n int) {
	for _, d := range slices.Collect(maps.Values(off)) {
		if d*sign > 0 {
			n += d
		}
	}
	return n
}

// renewService moves a service's entries to a new label, shard by shard, so that a death does not wait for it.
func (p *Plane) renewService(ctx context.Context, key netip.AddrPort) error {
	if err := p.relabel(ctx, key); err != nil {
		return err
	}
	for shard := range shards {
		if err := p.refreshShard(ctx, shard); err != nil {
			return p.settle(ctx, key, err)
		}
	}
	return p.settle(ctx, key, nil)
}

// relabel gives a service a new label, and says that its entries are to go there. The old label's destinations stay until settle.
func (p *Plane) relabel(ctx context.Context, key netip.AddrPort) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.services[key]
	if s == nil || s.moving {
		return nil
	}
	p.proof.repairs++
	p.label = p.label.next(p.labelUsed)
	s.label = p.label
	at, dests := p.wanted(s, p.ring(key))
	for d, weight := range dests {
		if err := p.lvs.Change(change{act: putDest, key: key, dest: d, weight: weight}); err != nil {
			return p.owing(err)
		}
		s.dests[d] = weight
	}
	s.at, s.moving = at, true
	return nil
}

// settle ends a move: with it the old destinations go, or all is programmed anew.
func (p *Plane) settle(ctx context.Context, key netip.AddrPort, err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.services[key]; s != nil {
		s.moving = false
	}
	if err == nil {
		err = errors.Join(p.virtuals(ctx), p.sweepServices(ctx))
		p.proof.renewed[key] = p.clock()
		delete(p.proof.surplus, key)
	}
	return p.owing(err)
}
