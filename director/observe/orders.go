package observe

import (
	"cmp"
	"slices"
	"time"

	"tunneldirector/director/agent"
)

//	            sent, agent says            seen established (adopt)
//	Unsent ──▶ Queued ──▶ Trying ─────────▶ Done
//	   ▲                    ├─────────────▶ Waiting   the site has to dial
//	   └── stream breaks    └─────────────▶ Failed
//
// An order that nobody answers within orderLives is Failed. Finals are kept for remember.

// An Errand is an order for one tunnel, and how it stands.
type Errand struct {
	RealServer string
	Kind       agent.OrderKind
	Tunnel     agent.Inherited
	Outcome    agent.Outcome // 0: not sent yet, the agent is silent
	Why        string
	Ordered    time.Time
	Changed    time.Time // of Outcome
}

// Final tells whether nothing more is to come of it.
func (e *Errand) Final() bool { return e.Outcome >= agent.OutcomeDone }

// orderLives is how long an order is sent again and waited for.
const orderLives = 15 * time.Minute

type errandKey struct {
	kind agent.OrderKind
	id   string
}

type orders map[errandKey]*Errand

// Order wants something done with tunnels at a real server. It is sent now, or when its agent comes. An order of the same kind
// for the same tunnel is replaced; an adopt ends a release of the same tunnel, and a release an adopt.
func (b *Book) Order(realServer string, kind agent.OrderKind, tunnels []agent.Inherited) {
	if len(tunnels) == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.server(realServer)
	now := b.now()
	var undo []agent.Inherited
	for _, t := range tunnels {
		if kind == agent.OrderAdopt {
			delete(s.orders, errandKey{agent.OrderRelease, t.ID})
		}
		if e, ok := s.orders[errandKey{agent.OrderAdopt, t.ID}]; ok && kind == agent.OrderRelease {
			if !e.Final() {
				undo = append(undo, e.Tunnel)
			}
			delete(s.orders, errandKey{agent.OrderAdopt, t.ID})
		}
		s.orders[errandKey{kind, t.ID}] = &Errand{RealServer: realServer, Kind: kind, Tunnel: t, Ordered: now, Changed: now}
	}
	if s.line != nil && s.line.open {
		s.line.orders(realServer, agent.OrderForget, undo)
		s.line.orders(realServer, kind, tunnels)
	}
	s.settle(now)
}

// server finds or makes a server.
func (b *Book) server(name string) *server {
	s, ok := b.servers[name]
	if !ok {
		s = &server{name: name, peers: map[string]*Sighting{}, orders: orders{}, since: b.now()}
		b.servers[name] = s
	}
	return s
}

// settle closes what is done by what is seen, what is too old, and forgets what has been final for long.
func (s *server) settle(now time.Time) {
	for key, e := range s.orders {
		switch {
		case e.Final():
			if now.Sub(e.Changed) > remember {
				delete(s.orders, key)
			}
		case now.Sub(e.Ordered) > orderLives:
			e.set(agent.OutcomeFailed, "no answer within "+orderLives.String(), now)
		}
	}
}

func (e *Errand) set(o agent.Outcome, why string, now time.Time) {
	if e.Outcome != o || e.Why != why {
		e.Outcome, e.Why, e.Changed = o, why, now
	}
}

// progress takes an agent's word on its orders in.
func (b *Book) progress(l *line, p *agent.Progress) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.servers[p.RealServer]
	if s == nil || s.line != l {
		return
	}
	now := b.now()
	for _, step := range p.Tunnels {
		if e, ok := s.orders[errandKey{p.Kind, step.ID}]; ok && step.Outcome >= agent.OutcomeQueued && step.Outcome <= agent.OutcomeFailed {
			e.set(step.Outcome, clip(step.Why), now)
		}
	}
	b.poke()
}

func clip(s string) string { return s[:min(len(s), agent.MaxText)] }

// Errands are the orders of a real server ("": all), open ones first, then the newest.
func (b *Book) Errands(realServer string) []Errand {
	b.mu.RLock()
	defer b.mu.RUnlock()
	var out []Errand
	for name, s := range b.servers {
		if realServer != "" && name != realServer {
			continue
		}
		for _, e := range s.orders {
			out = append(out, *e)
		}
	}
	slices.SortFunc(out, func(x, y Errand) int {
		if x.Final() != y.Final() {
			if x.Final() {
				return 1
			}
			return -1
		}
		return cmp.Or(y.Changed.Compare(x.Changed), cmp.Compare(x.RealServer, y.RealServer), cmp.Compare(x.Tunnel.ID, y.Tunnel.ID))
	})
	return out
}

// Errand is the order of a kind for a tunnel at a real server.
func (b *Book) Errand(realServer string, kind agent.OrderKind, id string) (Errand, bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if s, ok := b.servers[realServer]; ok {
		if e, ok := s.orders[errandKey{kind, id}]; ok {
			return *e, true
		}
	}
	return Errand{}, false
}

// resend sends what is not final to an agent that has come.
func (s *server) resend() {
	open := map[agent.OrderKind][]agent.Inherited{}
	for _, e := range s.orders {
		if !e.Final() {
			open[e.Kind] = append(open[e.Kind], e.Tunnel)
		}
	}
	for kind, list := range open {
		slices.SortFunc(list, func(x, y agent.Inherited) int {
			return cmp.Or(cmp.Compare(y.Bandwidth, x.Bandwidth), cmp.Compare(x.ID, y.ID))
		})
		s.line.orders(s.name, kind, list)
	}
}
