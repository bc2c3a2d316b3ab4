package probe

import (
	"context"
	"encoding/binary"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tunneldirector/affinity"
	"tunneldirector/director/agent"
)

// A stage is a host with one real server on it, in virtual time.
type stage struct {
	changed chan struct{}

	mu      sync.Mutex // script and prober take turns over the rest
	view    view
	arp     bool                 // the real server answers ARP
	delay   time.Duration        // of its answers
	icmp    bool                 // its UDP port is closed, and it may say so
	open    func(rs uint16) bool // if not nil: whose UDP ports are open; of others it says so as Linux does: 6 at once, then 1 a second
	tokens  float64
	filled  time.Time
	said    func() bool // if not nil: decides all that
	sendErr error
	sent    int
	came    []answer
	word    func(asked string) *agent.Answer // of the agent; nil, or nothing said: silence
	shut    bool                             // nobody listens at the agent's port, and the host says so
	late    time.Duration                    // of the agent's answers
	heard   time.Time                        // its stream brings nothing since; zero: it brings something all the time
	flooded bool                             // as the agent says on its stream
}

func (s *stage) Watch(ctx context.Context) error { <-ctx.Done(); return nil }
func (s *stage) Changed() <-chan struct{}        { return s.changed }
func (s *stage) Close() error                    { return nil }

func (s *stage) Look([]netip.Addr) (view, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.view, nil
}

func (s *stage) Receive(f func(answer)) {
	s.mu.Lock()
	came := s.came
	s.came = nil
	s.mu.Unlock()
	for _, a := range came {
		f(a)
	}
}

func (s *stage) say(a answer) {
	a.iface, a.at = "rs0", time.Now()
	s.now(func() { s.came = append(s.came, a) })
}

// now changes the stage.
func (s *stage) now(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *stage) Send(_ string, frame []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent++
	if s.sendErr != nil {
		return s.sendErr
	}
	switch etherType := binary.BigEndian.Uint16(frame[12:]); {
	case etherType == 0x0806 && s.arp:
		time.AfterFunc(s.delay, func() { s.say(answer{kind: askNeighbour, src: rs4, mac: rs}) })
	case etherType == 0x0800:
		a, ok := quoted4(frame[14:])
		if ok && a.from == agent.DefaultProbe {
			s.askAgent(a, frame)
		} else if ok && s.tells(a.port-PortBase) {
			time.AfterFunc(s.delay, func() { s.say(a) })
		}
	}
	return nil
}

// askAgent answers a probe as an agent does.
func (s *stage) askAgent(a answer, frame []byte) {
	if s.shut && !s.spend() {
		return
	}
	if !s.shut {
		nonce, name, err := agent.ParseProbe(frame[len(frame)-agent.ProbeSize:])
		if err != nil || frame[14+8] != agent.ProbeTTL {
			panic("the agent was asked by what is no probe")
		}
		if s.word == nil {
			return
		}
		said := s.word(name)
		if said == nil {
			return
		}
		said.Nonce = nonce
		a = answer{kind: askAgent, src: a.src, port: a.port, from: a.from, said: *said}
	}
	time.AfterFunc(max(s.late, time.Millisecond), func() { s.say(a) })
}

// tells tells whether the host sends a port unreachable about a real server.
func (s *stage) tells(rs uint16) bool {
	if s.said != nil {
		return s.said()
	}
	if s.open == nil || s.open(rs) {
		return s.icmp
	}
	return s.spend()
}

// spend tells whether the host has a port unreachable left.
func (s *stage) spend() bool {
	now := time.Now()
	s.tokens, s.filled = min(6, s.tokens+now.Sub(s.filled).Seconds()), now
	if s.tokens < 1 {
		return false
	}
	s.tokens--
	return true
}

// play runs a prober of one target over a stage, in a bubble.
func play(t *testing.T, check affinity.Check, script func(s *stage, p *Prober)) {
	synctest.Test(t, func(t *testing.T) {
		cfg, err := Config{Interfaces: []string{"rs0"}}.complete()
		if err != nil {
			t.Fatal(err)
		}
		s := &stage{changed: make(chan struct{}), view: labView(), arp: true, delay: time.Millisecond}
		cfg.Heard = func(string) (at time.Time) {
			s.now(func() { at = s.heard })
			if at.IsZero() {
				return time.Now()
			}
			return at
		}
		cfg.Flooded = func(string) (f bool) {
			s.now(func() { f = s.flooded })
			return f
		}
		p := newProber(cfg, s, slog.New(slog.DiscardHandler))
		p.Set([]Target{{Index: 7, Name: "rs1", Addrs: []netip.Addr{rs4}, VIPs: []netip.Addr{vip4}, Check: check}})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- p.Run(ctx) }()
		defer func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}()
		if l := <-p.Links(); !l.Up || l.Interface != "rs0" {
			t.Errorf("first link event %+v", l)
		}
		script(s, p)
	})
}

func expect(t *testing.T, p *Prober, alive bool, within time.Duration, cause string) {
	t.Helper()
	from := time.Now()
	select {
	case e := <-p.Events():
		if e.Alive != alive || e.Index != 7 || !strings.Contains(e.Cause, cause) {
			t.Fatalf("event %+v, want alive %v because of %q", e, alive, cause)
		}
		t.Logf("alive %v after %v: %s", alive, time.Since(from), e.Cause)
	case <-time.After(within):
		t.Fatalf("no event within %v, want alive %v", within, alive)
	}
}

func TestLoopDeathWithinASecond(t *testing.T) {
	play(t, affinity.Check{}, func(s *stage, p *Prober) {
		expect(t, p, true, time.Second, "ARP")
		for range 20 { // whenever it dies
			time.Sleep(77 * time.Millisecond)
			s.now(func() { s.arp = false })
			expect(t, p, false, 960*time.Millisecond, "no answer to ARP")
			s.now(func() { s.arp = true })
			expect(t, p, true, time.Second, "ARP")
		}
	})
}

func TestLoopClosedPortUnderRateLimit(t *testing.T) {
	play(t, affinity.Check{Proto: 17, Port: 51820}, func(s *stage, p *Prober) {
		expect(t, p, true, 3*time.Second, "ARP")
		time.Sleep(relapse)
		s.now(func() { s.icmp = true })
		expect(t, p, false, 960*time.Millisecond, "port closed")
		for range 5 { // one ICMP error in two seconds
			s.now(func() { s.icmp = false })
			time.Sleep(2 * time.Second)
			s.now(func() { s.icmp = true })
			time.Sleep(250 * time.Millisecond)
		}
		s.now(func() { s.icmp = false })
		select {
		case e := <-p.Events():
			t.Fatalf("flapped: %+v", e)
		default:
		}
		expect(t, p, true, 5*time.Second, "ARP")
	})
}

func TestLoopLateAnswersAndOwnFaults(t *testing.T) {
	play(t, affinity.Check{}, func(s *stage, p *Prober) {
		expect(t, p, true, time.Second, "ARP")
		s.now(func() { s.sendErr = errBusy })
		time.Sleep(5 * time.Second)
		s.now(func() { s.sendErr = nil })
		select {
		case e := <-p.Events():
			t.Fatalf("our own fault counted: %+v", e)
		default:
		}
		for _, delay := range []time.Duration{150, 250, 320, 500} { // more than Timeout, and than Interval
			s.now(func() { s.delay = delay * time.Millisecond })
			select {
			case e := <-p.Events():
				t.Fatalf("answers that come after %d ms are no death: %+v", delay, e)
			case <-time.After(10 * time.Second):
			}
			if at, _ := p.StateOf("rs1"); !at.Alive || !at.Slow {
				t.Errorf("answers come after %d ms, and it is said to be %+v, want alive and slow", delay, at)
			}
			s.now(func() { s.delay = time.Millisecond })
			time.Sleep(20 * time.Second)
			if at, _ := p.StateOf("rs1"); at.Slow {
				t.Errorf("it is fast again, and said to be %+v", at)
			}
		}
		s.now(func() { s.delay = 150 * time.Millisecond })
		time.Sleep(2 * time.Second)
		s.now(func() { s.arp = false })
		expect(t, p, false, 960*time.Millisecond+150*time.Millisecond, "no answer")
	})
}

// A slow host's silent UDP port that was closed for a while is open again.
func TestLoopSlowHostComesBack(t *testing.T) {
	play(t, affinity.Check{Proto: 17, Port: 51820}, func(s *stage, p *Prober) {
		expect(t, p, true, 3*time.Second, "ARP")
		time.Sleep(relapse)
		s.now(func() { s.delay = 150 * time.Millisecond })
		time.Sleep(10 * time.Second)
		s.now(func() { s.icmp = true })
		expect(t, p, false, 3*time.Second, "port closed")
		s.now(func() { s.icmp = false })
		expect(t, p, true, 20*time.Second, "ARP")
	})
}

func TestLoopLinkAndTargets(t *testing.T) {
	play(t, affinity.Check{}, func(s *stage, p *Prober) {
		expect(t, p, true, time.Second, "ARP")
		v := labView()
		v.ifaces["rs0"].up = false
		s.now(func() { s.view = v })
		s.changed <- struct{}{}
		if l := <-p.Links(); l.Up {
			t.Errorf("link event %+v, want down", l)
		}
		expect(t, p, false, 960*time.Millisecond, "rs0 is down")
		p.Set(nil)
		time.Sleep(time.Second)
		var before, after int
		s.now(func() { before = s.sent })
		time.Sleep(time.Second)
		s.now(func() { after = s.sent })
		if after != before {
			t.Errorf("%d frames sent for nobody", after-before)
		}
	})
}
