package probe

import "time"

// An outcome is what one round says.
type outcome uint8

const (
	void     outcome = iota // nothing: the director's own fault
	answered                // everything that has to answer did
	silent                  // the host answered, the terminator did not
	closed                  // the host said that nobody listens at the terminator's port
	missed                  // the host did not answer, or the data path is dead
	told                    // its agent says that the terminator is dead
)

// toldAfter are the rounds in a row after which an agent is believed that its terminator is dead.
const toldAfter = 2

// A result is a round's outcome, and why: which question, and what about it. It is put in words only if somebody is told.
type result struct {
	outcome  outcome
	question *question // nil: there was none
	problem  string
	rtt      time.Duration
	row      int // of rounds that are known to be missed only now, this one included; 0: just this one
}

func (r result) cause() string {
	switch q := r.question; {
	case q == nil && r.outcome == void:
		return "not asked: no room to send"
	case q == nil:
		return "nothing to ask: the real server has no address"
	case r.problem != "" && (r.outcome == answered || r.outcome == told):
		return q.String() + " answered: " + r.problem
	case r.outcome == answered:
		return q.String() + " answered"
	case r.outcome == closed:
		return q.String() + ": port closed"
	case r.problem != "":
		return q.String() + ": " + r.problem
	default:
		return "no answer to " + q.String() + " on " + q.iface
	}
}

type verdict uint8

const (
	unknown verdict = iota
	alive
	dead
)

// A machine turns rounds into changes of verdict.
//
//	         AliveAfter x answered             DeadAfter x (missed|closed|told), or toldAfter x told, or
//	unknown ───────────────────────▶ alive     SilentAfter x (missed|closed|told|silent)
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
	fast    int // missed, closed or told
	told    int
}

// step takes a round's result. changed is true if the verdict is another one now.
func (m *machine) step(r result, c Config) (changed bool) {
	before := m.verdict
	switch r.outcome {
	case void:
		return false
	case answered:
		m.good, m.bad, m.fast, m.told = m.good+1, 0, 0, 0
	case silent:
		m.good, m.bad, m.fast, m.told = 0, m.bad+1, 0, 0
	case missed, closed:
		m.good, m.bad, m.fast, m.told = 0, max(m.bad+1, r.row), max(m.fast+1, r.row), 0
	case told:
		m.good, m.bad, m.fast, m.told = 0, m.bad+1, m.fast+1, m.told+1
	}
	switch {
	case m.good >= c.AliveAfter:
		m.verdict = alive
	case m.fast >= c.DeadAfter, m.told >= toldAfter, m.bad >= c.SilentAfter:
		m.verdict = dead
	}
	return m.verdict != before
}

// answering tells whether the real server is alive and answered one of its last two rounds.
func (m *machine) answering() bool { return m.verdict == alive && m.bad < 2 }
