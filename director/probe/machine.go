package probe

import "time"

// An outcome is what one round says.
type outcome uint8

const (
	void     outcome = iota // nothing: the director's own fault
	answered                // everything that has to answer did
	silent                  // the host answered, the terminator did not
	missed                  // the host did not answer
	closed                  // the host said that nobody listens at the terminator's port
)

// A result is a round's outcome, and why.
type result struct {
	outcome outcome
	cause   string
	rtt     time.Duration
}

type verdict uint8

const (
	unknown verdict = iota
	alive
	dead
)

// A machine turns rounds into changes of verdict.
//
//	         AliveAfter x answered             DeadAfter x (missed|closed), or
//	unknown ───────────────────────▶ alive     SilentAfter x (missed|closed|silent)
//	   │                            ▲  │
//	   │ as alive to dead           │  │
//	   ▼                            │  ▼
//	 dead ──────────────────────────┘ dead     AliveAfter x answered
//
// "x" is in a row. A void round counts for nothing and breaks no row.
type machine struct {
	verdict verdict
	good    int // answered
	bad     int // not answered
	fast    int // missed or closed
}

// step takes a round's result. changed is true if the verdict is another one now.
func (m *machine) step(r result, c Config) (changed bool) {
	before := m.verdict
	switch r.outcome {
	case void:
		return false
	case answered:
		m.good, m.bad, m.fast = m.good+1, 0, 0
	case silent:
		m.good, m.bad, m.fast = 0, m.bad+1, 0
	case missed, closed:
		m.good, m.bad, m.fast = 0, m.bad+1, m.fast+1
	}
	switch {
	case m.good >= c.AliveAfter:
		m.verdict = alive
	case m.fast >= c.DeadAfter, m.bad >= c.SilentAfter:
		m.verdict = dead
	}
	return m.verdict != before
}
