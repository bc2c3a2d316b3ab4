package probe

import (
	"fmt"
	"net/netip"
	"time"
)

// A kind is how a question is asked.
type kind uint8

const (
	askNeighbour kind = iota // ARP or neighbour solicitation
	askEcho                  // ICMP echo
	askTCP
	askUDP
	askIKE
	askAgent
)

func (k kind) String() string {
	return [...]string{"neighbour", "echo", "tcp", "udp", "udp", "agent"}[k]
}

// A question is one thing that is asked in each round.
type question struct {
	kind     kind
	dst      netip.Addr // the neighbour, the real server or the VIP
	port     uint16     // of TCP and UDP
	iface    string
	hop      netip.Addr // the neighbour through which it goes
	src      netip.Addr
	required bool   // silence counts
	problem  string // why it cannot be asked; counts as silence if it is required

	frame []byte // to the MAC that is known, nil: to be built
	probe []byte // of an agent's question

	// Of this round.
	sent     time.Time // zero: not sent, for want of the neighbour's MAC
	failed   string    // why it could not be sent
	answered bool
	judged   bool // the round was: what comes now is late
	late     bool // an answer came after Timeout, or after the judgement: of the round before, perhaps
	rtt      time.Duration
	// Of all rounds.
	ever     bool      // it was answered once
	closedAt time.Time // last RST
	udp      *udpPort  // nil: TCP, or about a host
	word     *word     // nil: it is not the agent that is asked
}

func (q *question) String() string {
	switch q.kind {
	case askTCP, askUDP, askIKE:
		return fmt.Sprintf("%v to %v", q.kind, netip.AddrPortFrom(q.dst, q.port))
	case askAgent:
		return fmt.Sprintf("agent at %v", netip.AddrPortFrom(q.dst, q.port))
	case askEcho:
		return fmt.Sprintf("ICMP echo to %v", q.dst)
	}
	if q.dst.Is4() {
		return fmt.Sprintf("ARP for %v", q.dst)
	}
	return fmt.Sprintf("neighbour solicitation for %v", q.dst)
}

// answer notes an answer that came at now.
func (q *question) answer(now time.Time, timeout time.Duration) {
	q.ever, q.closedAt = true, time.Time{}
	if q.udp != nil {
		q.udp.answer()
	}
	if q.answered || q.sent.IsZero() {
		return
	}
	q.rtt = now.Sub(q.sent)
	q.late = q.judged || q.rtt > timeout
	q.answered = !q.late
}

// lives tells whether an answer came since the last judgement, be it late.
func (q *question) lives() bool { return q.answered || q.late }

// refuse notes that nobody listens, as the host said at a time.
func (q *question) refuse(at time.Time) {
	if q.udp != nil {
		q.udp.shut(at)
		return
	}
	q.closedAt = at
}

// about tells whether q is about the host rather than the terminator.
func (q *question) about() bool { return q.kind == askNeighbour || q.kind == askEcho }

// judge says what a round's answers mean, at now.
func judge(questions []*question, now time.Time) result {
	r, wait, pend := result{outcome: answered}, result{}, result{}
	worse := func(o outcome, q *question, problem string) {
		if o > r.outcome {
			r.outcome, r.question, r.problem = o, q, problem
		}
	}
	for _, q := range questions {
		switch {
		case q.word != nil:
			switch q.word.opinion {
			case vouched:
				if r.outcome == answered {
					r.question, r.rtt, r.problem = q, q.word.rtt, q.word.problem
				}
			case pending:
				pend = result{question: q, problem: q.word.problem}
			case lost:
				worse(missed, q, q.word.problem)
				r.row = max(r.row, q.word.row)
			case accused:
				worse(told, q, q.word.problem)
			}
		case q.lives():
			if r.outcome == answered {
				r.question, r.rtt = q, q.rtt
			}
		case q.udp != nil && q.udp.belief == refused, !q.closedAt.IsZero() && now.Sub(q.closedAt) <= closedHold:
			worse(closed, q, "")
		case q.udp != nil && q.udp.belief == doubted && !q.ever && !vouchedFor(questions, q.dst, now):
			wait = result{question: q, problem: "it is not known yet whether the port is closed"}
		case !q.required && (!q.ever || q.kind == askNeighbour):
		case q.about() && reached(questions, q): // whatever keeps its address silent
		case !q.about() && vouchedFor(questions, q.dst, now): // whatever keeps its port silent
		case q.problem != "" || q.failed != "":
			worse(missed, q, q.problem+q.failed)
		case q.about():
			worse(missed, q, "")
		case q.sent.IsZero():
			wait = result{question: q, problem: fmt.Sprintf("the MAC address of %v is not known", q.hop)}
		default:
			worse(silent, q, "")
		}
	}
	switch {
	case wait.question != nil && r.outcome < closed:
		return wait
	case pend.question != nil && r.outcome == answered:
		return pend
	case r.question == nil:
		r.outcome = missed
	}
	return r
}

// reached tells whether an agent's answer proves that a host is there: its question went the same way. On a link that is used to
// its limit it is ARP's answers, too, that come too late.
func reached(questions []*question, host *question) bool {
	for _, q := range questions {
		if q.word != nil && q.word.rtt > 0 && q.iface == host.iface && q.hop == host.hop && (host.kind == askNeighbour || q.dst.Is4() == host.dst.Is4()) {
			return true
		}
	}
	return false
}

// vouchedFor tells whether an agent says, or said until a moment ago, that its terminator works, on the data path to a VIP.
func vouchedFor(questions []*question, vip netip.Addr, now time.Time) bool {
	for _, q := range questions {
		if q.word != nil && q.dst == vip && (q.word.opinion == vouched || q.word.holds(now)) {
			return true
		}
	}
	return false
}
