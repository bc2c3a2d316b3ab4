package probe

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"reflect"
	"time"
)

// ticksPerInterval is how finely rounds are spread over an interval: what falls into one tick costs one wake-up.
const ticksPerInterval = 10

// lookEvery is how often the host is looked at though nothing said that it changed (routes are not watched).
const lookEvery = 10 * time.Second

type neighbourKey struct {
	iface string
	addr  netip.Addr
}

// A target is a Target under measurement: send, wait for Timeout, judge, wait for the rest of the Interval.
type target struct {
	Target
	machine   machine
	board     board
	shown     result // on the board
	questions []*question
	cookie    uint32
	due       time.Time // of the next step
	started   time.Time // the round, when it was sent
	waiting   bool      // sent, not judged
	graced    bool      // judged late, because we were
	void      bool      // we could not send
	upSince   time.Time // of the agent's stream, if it is up
	accused   time.Time // the agent found it dead, last
	word      Word
	delay     delay
}

func (t *target) port() uint16 { return PortBase + uint16(t.Index) }

// A loop owns all measurements.
type loop struct {
	*Prober
	targets    []*target
	byPort     map[uint16]*target
	neighbours map[neighbourKey][]*question
	macs       map[neighbourKey]net.HardwareAddr
	limiters   map[limiterKey]*limiter
	regroup    bool // ports may have come under another limiter
	view       view
	links      map[string]bool
	looked     time.Time
	pending    []Event
	pendLinks  []Link
}

func newLoop(p *Prober) *loop {
	return &loop{Prober: p, links: map[string]bool{}, macs: map[neighbourKey]net.HardwareAddr{}, limiters: map[limiterKey]*limiter{}}
}

func (l *loop) run(ctx context.Context) error {
	ticker := time.NewTicker(l.cfg.Interval / ticksPerInterval)
	defer ticker.Stop()
	l.look(time.Now())
	for {
		var events chan Event
		var links chan Link
		var event Event
		var link Link
		tick := ticker.C
		if len(l.targets) == 0 {
			tick = nil // nobody to probe, nothing to wake for
		}
		if len(l.pending) > 0 {
			events, event = l.events, l.pending[0]
		}
		if len(l.pendLinks) > 0 {
			links, link = l.Prober.links, l.pendLinks[0]
		}
		select {
		case <-ctx.Done():
			return nil
		case targets := <-l.set:
			l.replace(targets, time.Now())
		case <-l.host.Changed():
			l.look(time.Now())
		case <-tick:
			l.tick(time.Now())
		case events <- event:
			l.pending = l.pending[1:]
		case links <- link:
			l.pendLinks = l.pendLinks[1:]
		}
	}
}

// tick reads what has come in, then does what is due.
func (l *loop) tick(now time.Time) {
	l.host.Receive(l.answer)
	if now.Sub(l.looked) >= lookEvery {
		l.look(now)
	}
	l.group()
	for _, m := range l.limiters {
		m.step(now, l.cfg.Interval)
	}
	for _, t := range l.targets {
		switch late := now.Sub(t.due); {
		case late < 0:
		case !t.waiting:
			l.send(t, now)
		case late > l.cfg.Timeout/2 && !t.graced:
			// We were held up, and so may be the whole machine, answers included.
			t.graced, t.due = true, now.Add(l.cfg.Timeout/2)
		default:
			l.judge(t, now)
		}
	}
}

func (l *loop) send(t *target, now time.Time) {
	t.started, t.waiting, t.graced, t.void = now, true, false, false
	t.due = now.Add(l.cfg.Timeout)
	for _, q := range t.questions {
		asked := q.lives() || q.sent.IsZero()
		q.sent, q.answered, q.judged, q.failed = time.Time{}, false, false, ""
		if q.problem != "" || q.udp != nil && q.udp.resting {
			continue
		}
		frame, err := l.frame(t, q, asked)
		if err == nil && frame != nil {
			q.sent = time.Now()
			err = l.host.Send(q.iface, frame)
		}
		switch {
		case errors.Is(err, errBusy):
			t.void = true
		case err != nil:
			q.failed = err.Error()
		}
	}
}

// frame is what to send; nil if the next hop's MAC is not known yet. A neighbour that did not answer last time is sought on
// the whole segment.
func (l *loop) frame(t *target, q *question, direct bool) ([]byte, error) {
	i := l.view.ifaces[q.iface]
	mac := l.macs[neighbourKey{q.iface, q.hop}]
	if q.kind == askNeighbour && (mac == nil || !direct) {
		return neighbour(q, i.mac, nil)
	}
	if mac == nil {
		return nil, nil
	}
	if q.frame == nil || !bytes.Equal(q.frame[:6], mac) {
		var err error
		if q.kind == askNeighbour {
			q.frame, err = neighbour(q, i.mac, mac)
		} else {
			q.frame, err = l.envelope(t, q, mac).packet(q)
		}
		if err != nil {
			return nil, err
		}
	}
	if q.word != nil {
		renew(q.frame, q.word.ask(time.Now()))
	}
	return q.frame, nil
}

func (l *loop) envelope(t *target, q *question, mac net.HardwareAddr) envelope {
	i := l.view.ifaces[q.iface]
	e := envelope{mac: i.mac, to: mac, port: t.port(), cookie: t.cookie, outer: t.outerAddr(q)}
	if e.outer.IsValid() {
		e.local = i.source(e.outer)
	}
	return e
}

func (l *loop) answer(a answer) {
	if a.kind == askNeighbour {
		key := neighbourKey{a.iface, a.src}
		for _, q := range l.neighbours[key] {
			l.regroup = l.regroup || !bytes.Equal(l.macs[key], a.mac)
			l.macs[key] = a.mac
			q.answer(a.at, l.cfg.Timeout)
		}
		return
	}
	t := l.byPort[a.port]
	if t == nil {
		return
	}
	for _, q := range t.questions {
		switch {
		case q.iface != a.iface || !a.proves(q, t.cookie):
			continue
		case a.closed:
			q.refuse(a.at)
			continue
		case q.word != nil:
			if q.word.hear(a.said, &t.Target, a.at) {
				q.udp.answer()
			}
			continue
		case q.kind == askTCP:
			l.reset(t, q)
		}
		q.answer(a.at, l.cfg.Timeout)
	}
}

// reset closes the half-open connection at the real server. Lost, the next SYN, which is the same, gets another chance.
func (l *loop) reset(t *target, q *question) {
	mac := l.macs[neighbourKey{q.iface, q.hop}]
	if mac == nil {
		return
	}
	frame, err := l.envelope(t, q, mac).reset(q)
	if err == nil {
		err = l.host.Send(q.iface, frame)
	}
	if err != nil {
		l.log.Debug("reset a probe's connection", "rs", t.Name, "err", err)
	}
}

func (l *loop) judge(t *target, now time.Time) {
	t.waiting = false
	t.due = t.started.Add(jitter(l.cfg.Interval))
	t.listen(l.cfg.Interval)
	r := result{}
	if !t.void {
		t.hearken(l.cfg, now)
		r = judge(t.questions, now)
		t.time(r, now)
	}
	for _, q := range t.questions {
		q.judged, q.late = true, false // an answer proves life once
	}
	if t.machine.verdict == dead && r.outcome == answered && r.question.word == nil && now.Sub(t.accused) < wordHold {
		r = result{question: r.question, problem: "its agent has just found it dead"}
	}
	changed := t.machine.step(r, l.cfg)
	t.show(r, changed, l.hops(t), now)
	l.count()
	if !changed {
		return
	}
	if t.machine.verdict == dead {
		t.doubt()
	}
	e := Event{Index: t.Index, Name: t.Name, Alive: t.machine.verdict == alive, Cause: r.cause(), At: now, RTT: r.rtt, Agent: t.word}
	if len(t.questions) > 0 {
		e.MAC = l.macs[neighbourKey{t.questions[0].iface, t.questions[0].hop}]
	}
	l.pending = append(l.pending, e)
}

func (l *loop) count() {
	n := uint64(0)
	for _, t := range l.targets {
		if t.machine.answering() {
			n++
		}
	}
	l.counts.Store(n<<32 | uint64(len(l.targets)))
}

// jitter keeps targets from falling into step: as it is the next tick that counts, half of the time by one tick less.
func jitter(d time.Duration) time.Duration {
	return d - time.Duration(rand.Float64()*2/ticksPerInterval*float64(d))
}

// replace takes new targets, and keeps what is measured of those that stay.
func (l *loop) replace(targets []Target, now time.Time) {
	old := map[uint16]*target{}
	for _, t := range l.targets {
		old[t.port()] = t
	}
	l.targets, l.byPort = nil, map[uint16]*target{}
	for _, want := range targets {
		t := &target{Target: want, cookie: rand.Uint32(), due: now.Add(time.Duration(rand.Float64() * float64(l.cfg.Interval)))}
		if have := old[t.port()]; have != nil && have.sameBut(want) {
			t = have
		} else {
			t.board.Store(&State{Index: want.Index, Name: want.Name, Cause: notAsked, Since: now})
		}
		t.stream(want, now)
		l.targets = append(l.targets, t)
		l.byPort[t.port()] = t
	}
	l.count()
	l.publish()
	l.look(now)
}

// sameBut tells whether want is what is measured, the agent apart.
func (t *target) sameBut(want Target) bool {
	want.Agent, want.AgentUp = t.Agent, t.AgentUp
	return reflect.DeepEqual(t.Target, want)
}

// stream notes where the agent is.
func (t *target) stream(want Target, now time.Time) {
	if want.AgentUp && (!t.AgentUp || t.upSince.IsZero()) {
		t.upSince = now
	}
	t.Agent, t.AgentUp = want.Agent, want.AgentUp
}

// look reads the host again and plans all questions anew, keeping what is known of each.
func (l *loop) look(now time.Time) {
	l.looked = now
	var addrs []netip.Addr
	for _, t := range l.targets {
		addrs = append(addrs, t.Addrs...)
	}
	v, err := l.host.Look(addrs)
	if err != nil {
		l.log.Warn("look at the interfaces of the probes", "err", err)
	}
	if v.ifaces == nil {
		return
	}
	l.view = v
	l.neighbours = map[neighbourKey][]*question{}
	l.regroup = true
	for _, t := range l.targets {
		t.replan(v)
		for _, q := range t.questions {
			if q.kind == askNeighbour {
				key := neighbourKey{q.iface, q.dst}
				l.neighbours[key] = append(l.neighbours[key], q)
			}
		}
	}
	for key := range l.macs {
		if l.neighbours[key] == nil {
			delete(l.macs, key)
		}
	}
	for _, name := range l.cfg.Interfaces {
		up := v.ifaces[name] != nil && v.ifaces[name].up
		if was, known := l.links[name]; !known || was != up {
			l.links[name] = up
			l.pendLinks = append(l.pendLinks, Link{Interface: name, Up: up, At: now})
		}
	}
}

func (t *target) replan(v view) {
	fresh := plan(t.Target, v)
	for _, q := range fresh {
		for _, o := range t.questions {
			if q.kind == o.kind && q.dst == o.dst && q.port == o.port {
				q.word = o.word
				q.sent, q.failed, q.answered, q.judged, q.late, q.rtt = o.sent, o.failed, o.answered, o.judged, o.late, o.rtt
				q.ever, q.closedAt, q.udp = o.ever, o.closedAt, o.udp
			}
		}
	}
	t.questions = fresh
}
