package probe

import (
	"crypto/rand"
	"encoding/binary"
	"time"

	"tunneldirector/affinity"
	"tunneldirector/director/agent"
)

const (
	// agentGrace is how long an agent whose stream has just come up may take until it answers on the data path.
	agentGrace = 5 * time.Second
	// onTheWay is how much older than its arrival what an agent says on its stream may be.
	onTheWay = 300 * time.Millisecond
	// wordHold is how long an agent's word holds when it says no more: an agent that is restarted says the same again before.
	// So long the check without an agent revives nobody whom the agent found dead, and a silent port proves nothing against
	// one whom it vouched for.
	wordHold = 10 * time.Second
	// remembered are the questions to which an answer still counts, so that one that comes late is not taken for none.
	remembered = 8
)

// A Word is what a real server's agent says on the data path. Its zero value is that of one that says nothing.
type Word struct {
	Says    agent.Health // the worst of all VIPs; unknown too if it has not answered lately
	Full    bool
	Closed  bool
	Tunnels uint32
	Trouble string // why its answers do not count, or do not come though its stream is up; "": nothing is wrong with them
}

// An opinion is what an agent's question is worth in a round.
type opinion uint8

const (
	noWord  opinion = iota // nothing: the check without an agent counts alone
	vouched                // the terminator works, though its port may be silent
	pending                // not known yet: nothing good is concluded
	lost                   // the agent is there, its answers do not come: the data path is dead
	accused                // the agent says that the terminator is dead
)

// A word is what an agent's answers at one VIP are worth, from round to round.
type word struct {
	asked [remembered]struct {
		nonce agent.Nonce // zero: answered, or never asked
		at    time.Time
	}
	next int

	// Since the last round was judged.
	came  bool          // an answer that counts
	said  agent.Answer  // the last one
	rtt   time.Duration // once it is judged: of the answer in that round; 0: there was none
	wrong string        // why another answer does not count

	// Of all rounds.
	proven bool      // an answer counted once
	at     time.Time // the last round with one was judged
	since  time.Time // the first round of a row without an answer that counts was asked; zero: there was one
	row    int       // rounds in it
	heard  time.Time // in the row: the agent was found to have been heard on its stream meanwhile; zero: not yet

	opinion opinion
	problem string
}

// ask is the nonce of a question that is sent at now.
func (w *word) ask(now time.Time) agent.Nonce {
	a := &w.asked[w.next]
	w.next = (w.next + 1) % remembered
	_, _ = rand.Read(a.nonce[:]) // never fails
	a.at = now
	return a.nonce
}

// hear takes an answer that came at a time; false: it is to no question of ours.
func (w *word) hear(a agent.Answer, t *Target, at time.Time) bool {
	for i := range w.asked {
		asked := &w.asked[i]
		if asked.nonce != a.Nonce || a.Nonce == (agent.Nonce{}) {
			continue
		}
		asked.nonce = agent.Nonce{}
		switch {
		case a.RealServer != t.Name:
			w.wrong = "answered by " + a.RealServer
		case a.WrongWay && t.Method == affinity.IPIP:
			w.wrong = "came not by IPIP"
		case a.WrongWay:
			w.wrong = "came by IPIP, the host is not prepared for forwarding method dr"
		default:
			w.came, w.said, w.rtt = true, a, at.Sub(asked.at)
		}
		return true
	}
	return false
}

// holds tells whether an agent vouched until a moment ago, and has just fallen silent.
func (w *word) holds(now time.Time) bool {
	return (w.opinion == noWord || w.opinion == pending) && w.proven && opinions[w.said.Health] == vouched && now.Sub(w.at) < wordHold
}

// A stream is what is known of an agent's control stream.
type stream struct {
	up    bool
	since time.Time
	heard func() time.Time // when it brought something last
	flood func() bool      // it said, last, that it gets more questions than it answers
}

// conclude ends a round that was asked at a time; zero: it was not asked. shut tells that the host says that nobody listens.
//
//	answered in its name, by the right way   working, headless: vouched   dead: accused   unknown: pending
//	else, stream down, or port shut          noWord
//	else, stream up for less than agentGrace pending
//	else, never answered                     noWord, and trouble: perhaps a filter; no reason to move tunnels, none to add any
//	else, not heard on the stream since, or
//	not asked again after that               noWord: perhaps the agent hangs, has just come to again, or is gone already
//	else, silent, and it tells of a flood    noWord, and trouble: somebody sends so many questions that ours are dropped
//	else                                     lost
func (w *word) conclude(s stream, asked time.Time, shut bool, now time.Time) {
	came, wrong := w.came, w.wrong
	w.came, w.wrong, w.opinion, w.problem = false, "", noWord, ""
	switch {
	case came:
		w.proven, w.at, w.since, w.row, w.heard = true, now, time.Time{}, 0, time.Time{}
		w.opinion, w.problem = opinions[w.said.Health], w.said.Health.String()
		return
	case shut || asked.IsZero():
		w.since, w.row, w.heard = time.Time{}, 0, time.Time{}
	case w.row == 0:
		w.since, w.row = asked, 1
	default:
		w.row++
	}
	w.rtt = 0
	askedSince := !w.heard.IsZero() && asked.After(w.heard) // one that had hung, or had no processor, is heard first and answers next
	switch {
	case !s.up:
		w.heard = time.Time{}
	case w.row > 0 && w.heard.IsZero() && s.heard().After(w.since.Add(onTheWay)):
		w.heard = now
	}
	switch {
	case !s.up:
		w.problem = wrong
	case now.Sub(s.since) < agentGrace:
		w.opinion, w.problem = pending, "its stream has just come up"
	case shut:
		w.problem = "port closed"
	case w.row == 0:
	case !w.proven:
		w.problem = or(wrong, "never answered; a filter, or the VIP or the decapsulation is missing")
	case wrong != "" || now.Sub(w.since) >= agent.Patience || askedSince:
		if wrong == "" && s.flood() {
			w.problem = "its probes are flooded"
			return
		}
		w.opinion, w.problem = lost, or(wrong, "no answer on the data path while its stream is up")
	}
}

var opinions = [...]opinion{agent.HealthUnknown: pending, agent.HealthWorking: vouched, agent.HealthHeadless: vouched, agent.HealthDead: accused}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// hearken concludes the round of all questions to t's agent.
func (t *target) hearken(c Config, now time.Time) {
	s := stream{up: t.AgentUp, since: t.upSince, heard: func() time.Time {
		if c.Heard == nil {
			return time.Time{}
		}
		return c.Heard(t.Name)
	}, flood: func() bool { return c.Flooded != nil && c.Flooded(t.Name) }}
	t.word = Word{}
	for _, q := range t.questions {
		w := q.word
		if w == nil {
			continue
		}
		asked := q.sent
		if q.failed != "" {
			asked = time.Time{}
		}
		w.conclude(s, asked, q.udp.belief == refused, now)
		if w.proven && now.Sub(w.at) < staleAfter*c.Interval {
			t.word.Says = max(t.word.Says, w.said.Health)
			t.word.Full, t.word.Closed = t.word.Full || w.said.Full, t.word.Closed || w.said.Closed
			t.word.Tunnels = max(t.word.Tunnels, w.said.Tunnels)
		}
		if w.opinion == accused || w.opinion == lost {
			t.accused = now
		}
		if w.problem != "" && (w.opinion == noWord || w.opinion == lost) {
			t.word.Trouble = w.problem
		}
	}
}

// renew puts another nonce into the frame of a probe, which is its end, and mends UDP's checksum (RFC 1624).
func renew(frame []byte, n agent.Nonce) {
	probe := frame[len(frame)-agent.ProbeSize:]
	sum := frame[len(frame)-agent.ProbeSize-2:]
	s := uint32(^binary.BigEndian.Uint16(sum))
	for i := 0; i < len(n); i += 2 {
		s += uint32(^binary.BigEndian.Uint16(probe[4+i:])) + uint32(binary.BigEndian.Uint16(n[i:]))
	}
	for s>>16 != 0 {
		s = s&0xffff + s>>16
	}
	if s = ^s & 0xffff; s == 0 {
		s = 0xffff // 0 is "none", RFC 768
	}
	copy(probe[4:], n[:])
	binary.BigEndian.PutUint16(sum, uint16(s))
}
