package answer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"tunneldirector/director/agent"
	"tunneldirector/realserver/space"
)

// Stale is how long a State holds: Set has to come more often, though nothing changes.
const Stale = 15 * time.Second

// DefaultRate are answers a second: enough for 16 directors at 5 rounds a second, 2 VIPs and 6 real servers of one namespace, and 2 to 3 %
// of a slow core if somebody on the segment sends more.
const DefaultRate = 1000

// floodHolds is how long a flood is told after it was noticed last: for longer than a director's questions are silent because of it.
const floodHolds = 2 * time.Second

// atOnce are questions that a socket may read once it has waited for its share of the rate: waking up costs more than they do.
const atOnce = 10

// Options say where to answer.
type Options struct {
	Space   space.Space
	VIPs    []netip.Addr
	Port    uint16   // agent.DefaultProbe if 0
	Method  string   // dr or tunnel: which way is the right one
	Devices []string // that decapsulate IPIP; with method tunnel there is at least one
	Rate    int      // answers a second at most; DefaultRate if 0
	Log     *slog.Logger
}

func (o Options) complete() (Options, error) {
	o.Port, o.Rate = cmp.Or(o.Port, agent.DefaultProbe), cmp.Or(o.Rate, DefaultRate)
	switch {
	case len(o.VIPs) == 0:
		return o, errors.New("no VIP to answer at")
	case slices.ContainsFunc(o.VIPs, func(a netip.Addr) bool { return !a.IsValid() || a.IsUnspecified() || a.Is4In6() }):
		return o, fmt.Errorf("VIPs %v: each is an address of its own", o.VIPs)
	case o.Method != "dr" && o.Method != "tunnel":
		return o, fmt.Errorf("forwarding method %q: dr or tunnel", o.Method)
	case o.Method == "tunnel" && len(o.Devices) == 0:
		return o, errors.New("forwarding method tunnel: no decapsulation device is named")
	case o.Rate < 0:
		return o, fmt.Errorf("rate %d: not negative", o.Rate)
	}
	return o, nil
}

// A State is what is said of a real server.
type State struct {
	Health  agent.Health
	Full    bool
	Closed  bool
	Tunnels uint32
}

// Counts are of all since Open.
type Counts struct {
	Answered uint64
	WrongWay uint64 // of those: came another way than the forwarding method's
	Nobody   uint64 // not answered: about a real server that is not here, and it is not clear which is meant
	Failed   uint64 // not sent
	Unread   uint64 // dropped by the kernel: no questions, or too many
}

// A Responder answers probes.
type Responder struct {
	o      Options
	limit  *rate.Limiter
	ports  []*port
	states atomic.Pointer[states]
	held   atomic.Pointer[time.Time] // when a socket had to wait for its share of the rate last; nil: never

	answered, wrongWay, nobody, failed, unread atomic.Uint64
}

type states struct {
	of map[string]State
	at time.Time
}

// Open binds the port at each VIP, whether or not the host has it already. Questions wait, a few, for Run.
func Open(o Options) (*Responder, error) {
	o, err := o.complete()
	if err != nil {
		return nil, fmt.Errorf("answer probes: %w", err)
	}
	r := &Responder{o: o, limit: rate.NewLimiter(rate.Limit(o.Rate), max(atOnce, o.Rate/20))}
	r.states.Store(&states{})
	for _, vip := range o.VIPs {
		p := &port{at: netip.AddrPortFrom(vip, o.Port), space: o.Space}
		if err := p.open(); err != nil {
			for _, p := range r.ports {
				p.close()
			}
			return nil, fmt.Errorf("answer probes: %w", err)
		}
		r.ports = append(r.ports, p)
	}
	return r, nil
}

// Set says what to answer from now on: the states of all real servers in this namespace, by name. It may be called from any
// goroutine, and not later than Stale after the last time. The map is not changed any more.
func (r *Responder) Set(of map[string]State) { r.states.Store(&states{of: of, at: time.Now()}) }

// Counts may be called from any goroutine.
func (r *Responder) Counts() Counts {
	return Counts{Answered: r.answered.Load(), WrongWay: r.wrongWay.Load(), Nobody: r.nobody.Load(), Failed: r.failed.Load(), Unread: r.unread.Load()}
}

// Flooded tells whether more questions come, or came a moment ago, than the rate allows: then the kernel drops some unread, those of
// directors as well, and that these get no answer says nothing about the data path. It may be called from any goroutine.
func (r *Responder) Flooded() bool {
	at := r.held.Load()
	return at != nil && time.Since(*at) < floodHolds
}

// share waits for a few questions' share of the rate, and notes that it had to.
func (r *Responder) share(ctx context.Context) error {
	if r.limit.Tokens() < atOnce {
		now := time.Now()
		r.held.Store(&now)
	}
	return r.limit.WaitN(ctx, atOnce)
}

// reply is the answer to a question that came by a device; false: there is none.
func (r *Responder) reply(question []byte, device string) (agent.Answer, bool) {
	nonce, name, err := agent.ParseProbe(question)
	if err != nil {
		return agent.Answer{}, false
	}
	s := r.states.Load()
	state, ours := s.of[name]
	if !ours {
		if len(s.of) != 1 {
			r.nobody.Add(1)
			return agent.Answer{}, false
		}
		for name, state = range s.of { // who is asked for is not here, but this one: the director is to know
		}
	}
	if time.Since(s.at) > Stale {
		state.Health = agent.HealthUnknown
	}
	decapsulated := slices.Contains(r.o.Devices, device)
	return agent.Answer{Nonce: nonce, Health: state.Health, Full: state.Full, Closed: state.Closed, Tunnels: state.Tunnels, RealServer: name,
		WrongWay: decapsulated != (r.o.Method == "tunnel")}, true
}

// serve answers at one VIP until ctx ends.
func (r *Responder) serve(ctx context.Context, p *port) error {
	in, out := make([]byte, agent.ProbeSize+1), make([]byte, 0, agent.ProbeSize)
	for may := atOnce; ctx.Err() == nil; may-- {
		if may == 0 {
			if r.share(ctx) != nil {
				break
			}
			may = atOnce
		}
		q, err := p.read(in)
		if err != nil {
			if ctx.Err() == nil {
				r.reopen(ctx, p, err)
			}
			continue
		}
		r.unread.Add(p.dropped(q.drops))
		a, ok := r.reply(in[:q.n], q.device)
		if !ok {
			continue
		}
		if err := p.write(a.Append(out), q.from); err != nil {
			r.failed.Add(1)
			continue
		}
		r.answered.Add(1)
		if a.WrongWay {
			r.wrongWay.Add(1)
		}
	}
	return nil
}
