package probe

import (
	"net/netip"
	"sync/atomic"
	"time"

	"tunneldirector/affinity"
)

// A State is what the measurements say of one target now.
type State struct {
	Index affinity.Index
	Name  string
	Known bool // there was a verdict; Alive is it
	Alive bool
	Back  bool          // it is not alive, but its last round was answered
	Cause string        // what answered or did not in the last round, and of an unknown one what is waited for
	RTT   time.Duration // of the last answer; 0: none yet
	Since time.Time     // of the verdict; not known: since it is probed
	Agent Word          // of the last round
	Slow  bool          // it answers much later than when it is idle: delay. As good as full, never as dead
	Hops  [2]Hop        // the neighbours that its questions go to, by IPv4 and by IPv6, once one has answered
}

// A Hop is a neighbour, and who answered for it on the wire last.
type Hop struct {
	Addr netip.Addr
	MAC  [6]byte
}

// A board is where one target's State is shown to other goroutines; only the loop writes.
type board = atomic.Pointer[State]

// Snapshot tells the state of all targets, in the order of the Set that was last taken up; of those, too, that were never
// alive. It does not block, and may be called from any goroutine, before and after Run as well.
func (p *Prober) Snapshot() []State {
	boards := p.boards.Load()
	if boards == nil {
		return nil
	}
	out := make([]State, len(*boards))
	for i, b := range *boards {
		out[i] = *b.Load()
	}
	return out
}

// StateOf is Snapshot of one target, by name; false: it is none. It copies no other.
func (p *Prober) StateOf(name string) (State, bool) {
	if boards := p.boards.Load(); boards != nil {
		for _, b := range *boards {
			if s := b.Load(); s.Name == name {
				return *s, true
			}
		}
	}
	return State{}, false
}

// publish shows the boards of the targets as they are now.
func (l *loop) publish() {
	boards := make([]*board, len(l.targets))
	for i, t := range l.targets {
		boards[i] = &t.board
	}
	l.boards.Store(&boards)
}

// show puts a round's result on t's board. A cause is put in words only when it is another one.
func (t *target) show(r result, changed bool, hops [2]Hop, now time.Time) {
	s := *t.board.Load()
	s.Hops = hops
	if r.rtt > 0 {
		s.RTT = r.rtt
	}
	s.Agent, s.Slow = t.word, t.delay.slow
	if changed {
		s.Known, s.Alive, s.Since = true, t.machine.verdict == alive, now
	}
	s.Back = s.Known && !s.Alive && r.outcome == answered
	if was := t.shown; was.outcome != r.outcome || was.question != r.question || was.problem != r.problem || s.Cause == notAsked {
		s.Cause = r.cause()
	}
	t.shown = r
	t.board.Store(&s)
}

// hops are the neighbours that t's questions go to.
func (l *loop) hops(t *target) (out [2]Hop) {
	for _, q := range t.questions {
		family := 0
		if q.hop.Is6() {
			family = 1
		}
		mac := l.macs[neighbourKey{q.iface, q.hop}]
		if len(mac) == 6 && q.about() && !out[family].Addr.IsValid() {
			out[family] = Hop{q.hop, [6]byte(mac)}
		}
	}
	return out
}

// notAsked is the cause before the first round.
const notAsked = "not asked yet"
