package observe

import (
	"cmp"
	"slices"
	"time"

	"tunneldirector/director/agent"
)

//	            sent, agent says
//	Unsent ──▶ Queued ──▶ Trying ─▶ Done
//	                        ├─────▶ Waiting   the site has to dial
//	                        └─────▶ Failed
//
// What is not final is sent again to an agent that comes again. An order that is not final within orderLives is Failed. Finals are
// kept for remember.

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

// orders are those of one real server, and how many there are of each outcome.
type orders struct {
	of    map[errandKey]*Errand
	count [agent.OutcomeFailed + 1]int
}

// An OrderCount is how many orders of a real server stand how.
type OrderCount struct{ Open, Done, Waiting, Failed int }

func (o *orders) counts() OrderCount {
	return OrderCount{Open: o.count[0] + o.count[agent.OutcomeQueued] + o.count[agent.OutcomeTrying], Done: o.count[agent.OutcomeDone],
		Waiting: o.count[agent.OutcomeWaiting], Failed: o.count[agent.OutcomeFailed]}
}

func (o *orders) put(key errandKey, e *Errand) {
	o.drop(key)
	o.of[key] = e
	o.count[e.Outcome]++
}

func (o *orders) drop(key errandKey) {
	if e, ok := o.of[key]; ok {
		o.count[e.Outcome]--
		delete(o.of, key)
	}
}

func (o *orders) set(e *Errand, outcome agent.Outcome, why string, now time.Time) {
	if e.Outcome != outcome || e.Why != why {
		o.count[e.Outcome]--
		o.count[outcome]++
		e.Outcome, e.Why, e.Changed = outcome, why, now
	}
}

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
		switch kind {
		case agent.OrderAdopt:
			s.orders.drop(errandKey{agent.OrderRelease, t.ID})
		case agent.OrderRelease:
			if e, ok := s.orders.of[errandKey{agent.OrderAdopt, t.ID}]; ok && !e.Final() {
				undo = append(undo, e.Tunnel)
			}
			s.orders.drop(errandKey{agent.OrderAdopt, t.ID})
		}
		s.orders.put(errandKey{kind, t.ID}, &Errand{RealServer: realServer, Kind: kind, Tunnel: t, Ordered: now, Changed: now})
	}
	if s.line != nil && s.line.open {
		s.line.orders(realServer, agent.OrderForget, undo)
		s.line.orders(realServer, kind, tunnels)
	}
	b.sweep(now)
}

// server finds or makes a server.
func (b *Book) server(name string) *server {
	s, ok := b.servers[name]
	if !ok {
		s = &server{name: name, peers: map[string]*record{}, orders: orders{of: map[errandKey]*Errand{}}, since: b.now()}
		b.servers[name] = s
	}
	return s
}

// settle fails what is too old, and forgets what has been final for long.
func (o *orders) settle(now time.Time) {
	for key, e := range o.of {
		switch at, ok := e.at(now); {
		case !ok:
			o.drop(key)
		default:
			o.set(e, at.Outcome, at.Why, at.Changed)
		}
	}
}

// at is how an errand stands at a time; false: it is forgotten then.
func (e *Errand) at(now time.Time) (Errand, bool) {
	out := *e
	if !e.Final() && now.Sub(e.Ordered) > orderLives {
		out.Outcome, out.Why, out.Changed = agent.OutcomeFailed, "not done within "+orderLives.String(), e.Ordered.Add(orderLives)
	}
	return out, !out.Final() || now.Sub(out.Changed) <= remember
}

// progress takes an agent's word on its orders in.
func (b *Book) progress(l *line, p *agent.Progress) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.servers[p.RealServer]
	if s == nil || s.line != l {
		return
	}
	b.faultSaid(p)
	now := b.now()
	for _, step := range p.Tunnels {
		if e, ok := s.orders.of[errandKey{p.Kind, step.ID}]; ok && step.Outcome >= agent.OutcomeQueued && step.Outcome <= agent.OutcomeFailed {
			s.orders.set(e, step.Outcome, step.Why, now)
		}
	}
	b.poke()
}

// Errands are the orders of a real server ("": all), open ones first, then the newest.
func (b *Book) Errands(realServer string) []Errand {
	b.mu.RLock()
	defer b.mu.RUnlock()
	var out []Errand
	now := b.now()
	for name, s := range b.servers {
		if realServer != "" && name != realServer {
			continue
		}
		for _, e := range s.orders.of {
			if at, ok := e.at(now); ok {
				out = append(out, at)
			}
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
		if e, ok := s.orders.of[errandKey{kind, id}]; ok {
			return e.at(b.now())
		}
	}
	return Errand{}, false
}

// resend sends what is not final to an agent that has come.
func (s *server) resend(now time.Time) {
	open := map[agent.OrderKind][]agent.Inherited{}
	for _, e := range s.orders.of {
		if at, ok := e.at(now); ok && !at.Final() {
			t := e.Tunnel
			t.AgeMillis = uint32(max(0, now.Sub(e.Ordered)).Milliseconds())
			open[e.Kind] = append(open[e.Kind], t)
		}
	}
	for kind, list := range open {
		slices.SortFunc(list, func(x, y agent.Inherited) int {
			return cmp.Or(cmp.Compare(y.Bandwidth, x.Bandwidth), cmp.Compare(x.ID, y.ID))
		})
		s.line.orders(s.name, kind, list)
	}
}
