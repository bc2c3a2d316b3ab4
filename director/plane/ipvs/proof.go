package ipvs

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"tunneldirector/affinity"
)

// The proof that the kernel has what it was sent is a count: a destination tells how many entries are bound to it, and the pins tell
// how many there must be. Two looks in a row have to agree before anything is done, since entries die by timers.
//
//	too few     the pins of the kinds that go there are sent again
//	too many    the service is sent again whole under a new label, and the old label's destinations are taken out with
//	            whatever is bound to them; at most every five minutes
type proof struct {
	off     map[netip.AddrPort]map[dest]int // how far off the last look found each destination
	renewed map[netip.AddrPort]time.Time
	repairs uint64
}

const renewRest = 5 * time.Minute

// want is how many entries each destination of s must have.
func (p *Plane) want(s *service) map[dest]int {
	n := map[dest]int{}
	for k, count := range p.vips[s.key.Addr()].kinds {
		if d, ok := s.at[k]; ok {
			n[d] += count
		}
	}
	return n
}

// prove compares, and repairs what two looks in a row found off.
func (p *Plane) prove(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	list, err := p.lvs.Read()
	if err != nil {
		return fmt.Errorf("read IPVS's services: %w", err)
	}
	have := map[netip.AddrPort]virtual{}
	for _, v := range list {
		if v.ours {
			have[v.key] = v
		}
	}
	off := map[netip.AddrPort]map[dest]int{}
	for key, s := range p.services {
		v, ok := have[key]
		if !ok {
			return p.lost(ctx, fmt.Sprintf("virtual service UDP %v", key))
		}
		for d := range s.dests {
			if _, ok := v.dests[d]; !ok {
				return p.lost(ctx, fmt.Sprintf("destination %v of virtual service UDP %v", d.addr, key))
			}
		}
		off[key] = p.offBy(s, v)
		if err := p.mend(ctx, s, steady(off[key], p.proof.off[key])); err != nil {
			return err
		}
	}
	p.proof.off = off
	return nil
}

// lost is for what somebody took out of the kernel: everything is programmed anew.
func (p *Plane) lost(ctx context.Context, what string) error {
	p.o.Logger.Warn("somebody took out what is the director's; programming all anew", "lost", what)
	p.proof.repairs++
	return p.renew(ctx, newWork())
}

// offBy is how many entries too many (or, negative, too few) each destination has. Under masq an entry for any port becomes one for a
// port and leaves its place free, so that too many are no fault there.
func (p *Plane) offBy(s *service, v virtual) map[dest]int {
	off := map[dest]int{}
	want := p.want(s)
	for d, st := range v.dests {
		if n := st.conns - want[d]; n < 0 || n > 0 && d.method != affinity.Masq {
			off[d] = n
		}
	}
	return off
}

// steady are the destinations that were off the same way twice, by the lesser of the two.
func steady(now, before map[dest]int) map[dest]int {
	out := map[dest]int{}
	for d, n := range now {
		switch b := before[d]; {
		case n > 0 && b > 0:
			out[d] = min(n, b)
		case n < 0 && b < 0:
			out[d] = max(n, b)
		}
	}
	return out
}

func (p *Plane) mend(ctx context.Context, s *service, off map[dest]int) error {
	short := map[kind]dest{}
	surplus := false
	for d, n := range off {
		if n > 0 {
			surplus = true
			continue
		}
		for k, at := range s.at {
			if at == d {
				short[k] = at
			}
		}
	}
	v := p.vips[s.key.Addr()]
	if now := p.clock(); surplus && now.Sub(p.proof.renewed[s.key]) >= renewRest {
		p.o.Logger.Warn("IPVS has entries that nobody pinned; sending the service's pins again under a new label", "service", s.key, "surplus", sum(off))
		p.proof.renewed[s.key] = now
		p.proof.repairs++
		s.label, s.at = 0, map[kind]dest{}
		if err := p.virtual(ctx, v, s.key); err != nil {
			return err
		}
		return p.sweepServices(ctx)
	}
	if len(short) == 0 {
		return nil
	}
	p.o.Logger.Warn("IPVS has fewer entries than pins; sending them again", "service", s.key, "missing", -sum(off))
	p.proof.repairs++
	return p.sendKinds(ctx, v, s, short)
}

func sum(off map[dest]int) (n int) {
	for _, d := range slices.Collect(maps.Values(off)) {
		n += d
	}
	return n
}
