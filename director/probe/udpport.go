package probe

import "time"

const (
	// firstSilence is how long a port that nothing is known of has to be asked without a port unreachable from its host,
	// and returnSilence the same for one that was closed. Linux has one to give every second: so one that is really closed
	// would have had at least one, or three, of them.
	firstSilence  = 1500 * time.Millisecond
	returnSilence = 3500 * time.Millisecond
	// A port that is closed again within relapse after silence opened it rests before it is asked again: firstRest, then twice
	// as long each time, up to longestRest. It bounds what a host that hardly ever says so can cost.
	relapse     = time.Minute
	firstRest   = 4 * time.Second
	longestRest = 64 * time.Second
	// staleAfter rounds without one that says something, silence begins anew.
	staleAfter = 3
)

// A belief is what is held of a UDP port.
type belief uint8

const (
	doubted belief = iota // it has said nothing, and has not been asked for long enough
	heard                 // it answered, or was asked long enough without a port unreachable
	refused               // its host said that it is closed
)

// needs is the silence that makes it heard.
func (b belief) needs() time.Duration {
	if b == refused {
		return returnSilence
	}
	return firstSilence
}

// A udpPort tells a UDP port that is closed from one that does not answer strangers, though the host's kernel limits port
// unreachables to one a second (after a few at once) for all its ports together, of all real servers on it.
//
//	           silence of firstSilence, or an answer
//	doubted ────────────────────────────────────────▶ heard ◀─┐
//	   │  ▲      the real server was found dead        │ │    │ an answer, or silence of returnSilence
//	   │  └────────────────────────────────────────────┘ │    │
//	   └─────────────────▶ refused ◀─────────────────────┘    │
//	    port unreachable      └───────────────────────────────┘
//
// Silence is that of the whole limiter, not only the port's own: whoever takes a port unreachable tells that others may
// have gone without. It is then known to be closed and rests, so that the next ones come to those that still ask; when
// there is nothing more to come, what was asked all the while is open. Only then those at rest are asked again.
type udpPort struct {
	belief  belief
	limiter *limiter // nil: the next hop's MAC is not known yet
	resting bool     // not asked
	asked   time.Time
	last    time.Time     // first and last question of a row in which the host was there; zero: none
	opened  time.Time     // by silence; zero: by an answer
	until   time.Time     // it rests at least
	penalty time.Duration // how long it rests after each port unreachable
}

// answer notes an answer of the port's own.
func (p *udpPort) answer() { *p = udpPort{belief: heard, limiter: p.limiter} }

// shut notes a port unreachable.
func (p *udpPort) shut(at time.Time) {
	switch {
	case p.belief != heard:
	case p.opened.IsZero() || at.Sub(p.opened) >= relapse:
		p.penalty = 0
	default:
		p.penalty = min(max(2*p.penalty, firstRest), longestRest)
	}
	p.belief, p.resting, p.until = refused, true, at.Add(p.penalty)
	p.asked, p.last = time.Time{}, time.Time{}
	if p.limiter != nil {
		p.limiter.closed = at
	}
}

// round notes that the port was asked; there tells whether its host answered in that round.
func (p *udpPort) round(asked time.Time, there bool, interval time.Duration) {
	switch {
	case !there || asked.IsZero():
		p.asked, p.last = time.Time{}, time.Time{}
		return
	case p.last.IsZero() || asked.Sub(p.last) > staleAfter*interval:
		p.asked = asked
	}
	p.last = asked
}

// silence tells since when the port has been asked without a port unreachable for anybody; zero: it is not.
func (p *udpPort) silence(now time.Time, interval time.Duration) time.Time {
	switch {
	case p.resting || p.asked.IsZero() || now.Sub(p.last) > staleAfter*interval:
		return time.Time{}
	case p.asked.Before(p.limiter.closed):
		return p.limiter.closed
	}
	return p.asked
}

// listen notes what a round says about the UDP ports of t, before it is judged.
func (t *target) listen(interval time.Duration) {
	there := !t.void
	for _, q := range t.questions {
		if q.required && q.about() && !q.lives() {
			there = false
		}
	}
	for _, q := range t.questions {
		if q.udp != nil && !q.udp.resting {
			q.udp.round(q.sent, there && q.failed == "", interval)
		}
	}
}

// doubt forgets what silence has said: a host that comes back may do so without its terminators.
func (t *target) doubt() {
	for _, q := range t.questions {
		if q.udp != nil && q.udp.belief == heard {
			*q.udp = udpPort{limiter: q.udp.limiter, penalty: q.udp.penalty}
		}
	}
}
