package realserver

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"tunneldirector/director/agent"
	"tunneldirector/realserver/terminator"
)

// Pace says how fast orders are carried out, each real server for itself.
type Pace struct {
	Rate    float64 // tunnels a second
	Burst   int     // that many at once first
	Retries int     // times that a site is asked again
}

const (
	// attempt is how long a tunnel that was asked for may take to be established.
	attempt = 15 * time.Second
	// remembered is how long an order to release is known by the time at which it came first: a director that lost its
	// stream sends it again, and the site may have come back meanwhile.
	remembered = 30 * time.Second
	// maxFailures bounds what status shows.
	maxFailures = 20
)

// A job is what was ordered for one tunnel:
//
//	queued ─▶ trying ─▶ done
//	   ▲         ├─────▶ waiting   the site has to dial
//	   └─ again ─┴─────▶ failed
type job struct {
	agent.Inherited
	kind    agent.OrderKind // adopt or release
	outcome agent.Outcome
	why     string
	at      time.Time // ordered
	asked   time.Time // of the terminator, last
	next    time.Time // not asked again before
	tries   int
}

// A queue is what directors ordered of one real server, until it is done. The same order of another director is the same job; of
// two that contradict each other the later one counts.
type queue struct {
	book *book
	pace Pace
	tell func(agent.OrderKind, []agent.Step) // must not block

	mu       sync.Mutex
	jobs     map[string]*job // by tunnel
	released map[string]time.Time
	done     map[agent.OrderKind]map[agent.Outcome]int
	failures []agent.Step
	seq      uint64 // of the book, up to where it was looked through for jobs that are done
	wake     map[agent.OrderKind]chan struct{}
}

func newQueue(b *book, p Pace, tell func(agent.OrderKind, []agent.Step)) *queue {
	q := &queue{book: b, pace: p, tell: tell, jobs: map[string]*job{}, released: map[string]time.Time{},
		done: map[agent.OrderKind]map[agent.Outcome]int{}, wake: map[agent.OrderKind]chan struct{}{}}
	for _, k := range []agent.OrderKind{agent.OrderAdopt, agent.OrderRelease} {
		q.done[k], q.wake[k] = map[agent.Outcome]int{}, make(chan struct{}, 1)
	}
	return q
}

// order takes an order in.
func (q *queue) order(now time.Time, o *agent.Order) {
	q.mu.Lock()
	defer q.mu.Unlock()
	var steps []agent.Step
	for _, t := range o.Tunnels {
		switch {
		case t.ID == "":
		case o.Kind == agent.OrderAdopt:
			steps = append(steps, q.adopt(now, t))
		case o.Kind == agent.OrderRelease:
			steps = append(steps, q.release(now, t))
		case o.Kind == agent.OrderForget:
			delete(q.jobs, t.ID)
			delete(q.released, t.ID)
		}
	}
	if len(steps) > 0 {
		q.tell(o.Kind, steps)
	}
	poke(q.wake[o.Kind])
}

func (q *queue) adopt(now time.Time, t agent.Inherited) agent.Step {
	delete(q.released, t.ID)
	// One that is elsewhere is from before the site moved.
	if x, up := q.book.find(t); up && x.lives(now) && terminator.IsAt(t.Endpoint, x.tunnel.Endpoint) {
		return q.settled(agent.OrderAdopt, t.ID, agent.OutcomeDone, "is established")
	}
	return q.put(now, agent.OrderAdopt, t)
}

func (q *queue) release(now time.Time, t agent.Inherited) agent.Step {
	at, again := q.released[t.ID]
	if !again {
		at = now.Add(-time.Duration(t.AgeMillis) * time.Millisecond)
		q.released[t.ID] = at
	}
	x, up := q.book.find(t)
	if why := spared(&x, up, at); why != "" {
		return q.settled(agent.OrderRelease, t.ID, agent.OutcomeDone, why)
	}
	return q.put(at, agent.OrderRelease, t)
}

// spared says why an order to release a tunnel, made at a time, is done already; "" if it is not.
func spared(x *entry, up bool, at time.Time) string {
	switch {
	case !up:
		return "is not established"
	case x.born.After(at), x.born.IsZero() && x.tunnel.Since.After(at):
		return "was established anew since the order"
	}
	return ""
}

// put makes a job, or takes up what is new in an order for one that there is.
func (q *queue) put(at time.Time, kind agent.OrderKind, t agent.Inherited) agent.Step {
	j := q.jobs[t.ID]
	switch {
	case j != nil && j.kind == kind:
		j.Inherited = t
	case j == nil && len(q.jobs) >= agent.MaxReported:
		return q.settled(kind, t.ID, agent.OutcomeFailed, "too many orders are open")
	default:
		j = &job{Inherited: t, kind: kind, outcome: agent.OutcomeQueued, at: at}
		q.jobs[t.ID] = j
	}
	return j.step()
}

func (j *job) step() agent.Step { return agent.Step{ID: j.ID, Outcome: j.outcome, Why: short(j.why)} }

// settled ends a job, whether it was begun or not.
func (q *queue) settled(kind agent.OrderKind, id string, o agent.Outcome, why string) agent.Step {
	delete(q.jobs, id)
	s := agent.Step{ID: id, Outcome: o, Why: short(why)}
	q.done[kind][o]++
	if o == agent.OutcomeFailed || o == agent.OutcomeWaiting {
		q.failures = append(q.failures, s)
		q.failures = q.failures[max(len(q.failures)-maxFailures, 0):]
	}
	return s
}

// turn takes the job whose turn it is, the biggest bandwidth first. If there is none it says how long to wait for one.
func (q *queue) turn(now time.Time, kind agent.OrderKind) (*job, time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	var first *job
	wait := time.Hour
	for _, j := range q.jobs {
		switch {
		case j.kind != kind || j.outcome != agent.OutcomeQueued:
		case j.next.After(now):
			wait = min(wait, j.next.Sub(now))
		case first == nil || before(j, first):
			first = j
		}
	}
	return first, wait
}

func before(a, b *job) bool {
	return cmp.Or(cmp.Compare(b.Bandwidth, a.Bandwidth), a.at.Compare(b.at), cmp.Compare(a.ID, b.ID)) < 0
}

// look ends the jobs whose tunnels were established meanwhile, and gives up what takes too long.
func (q *queue) look(now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	var changed []entry
	if len(q.jobs) == 0 { // at rest each minute all tunnels change
		q.seq = q.book.last()
	} else {
		changed, q.seq = q.book.changed(q.seq)
	}
	found := indexOf(changed)
	var steps []agent.Step
	for _, j := range q.jobs {
		if j.kind != agent.OrderAdopt {
			continue
		}
		x, up := found.of(j.Inherited)
		if trying := j.outcome == agent.OutcomeTrying; trying && !up {
			x, up = q.book.find(j.Inherited)
			up = up && x.active.After(j.asked)
		}
		switch {
		case up && (x.born.After(j.at.Add(-fresh)) && terminator.IsAt(j.Endpoint, x.tunnel.Endpoint) || x.active.After(j.asked) && j.tries > 0):
			steps = append(steps, q.settled(j.kind, j.ID, agent.OutcomeDone, ""))
		case j.outcome == agent.OutcomeTrying && now.Sub(j.asked) >= attempt:
			steps = append(steps, q.again(now, j, "the site was asked, the tunnel did not come up"))
		}
	}
	for id, at := range q.released {
		if now.Sub(at) > remembered && q.jobs[id] == nil {
			delete(q.released, id)
		}
	}
	if len(steps) > 0 {
		slices.SortFunc(steps, func(a, b agent.Step) int { return cmp.Compare(a.ID, b.ID) })
		q.tell(agent.OrderAdopt, steps)
	}
}

// again puts a job that did not succeed back into the queue, or gives it up.
func (q *queue) again(now time.Time, j *job, why string) agent.Step {
	if j.tries > q.pace.Retries {
		return q.settled(j.kind, j.ID, agent.OutcomeFailed, why)
	}
	j.outcome, j.why, j.next = agent.OutcomeQueued, why, now.Add(time.Second<<min(j.tries, 6))
	poke(q.wake[j.kind])
	return j.step()
}

// An index finds tunnels of the book by what orders say of them.
type index struct {
	peers map[string]*entry
	addrs map[netip.Addr][]*entry
}

func indexOf(list []entry) index {
	x := index{peers: make(map[string]*entry, len(list)), addrs: make(map[netip.Addr][]*entry, len(list))}
	for i := range list {
		t := &list[i].tunnel
		x.peers[t.Peer] = &list[i]
		x.addrs[t.Endpoint.Addr()] = append(x.addrs[t.Endpoint.Addr()], &list[i])
	}
	return x
}

func (x index) of(t agent.Inherited) (entry, bool) {
	if t.Peer != "" {
		for _, name := range namesOf(t) {
			if e, ok := x.peers[name]; ok && means(t, &e.tunnel) {
				return *e, true
			}
		}
		return entry{}, false
	}
	for _, e := range x.addrs[t.Endpoint.Addr()] {
		if means(t, &e.tunnel) {
			return *e, true
		}
	}
	return entry{}, false
}

// poke tells whoever waits at a channel of one place to look again.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// short cuts a text to what a message may carry: a receiver refuses what is too long, or not UTF-8.
func short(s string) string { return strings.ToValidUTF8(s[:min(len(s), agent.MaxText)], "") }
