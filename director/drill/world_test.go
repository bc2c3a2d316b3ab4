package drill

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A scripted world lives in virtual time. A fault of a real server cuts its tunnels off for a while; the real server is dead after a
// moment, its tunnels go to their backups, and stay there.
type scripted struct {
	t *testing.T

	mu      sync.Mutex
	start   State
	made    []*happening
	wrong   []string               // what nobody may ask for
	forLong map[Kind]time.Duration // how long tunnels are out; default cutFor
	goTo    func(Tunnel) string    // where one goes whose real server died; default its backup
	refuse  map[Kind]error         // what Inject says, without making anything
	torn    map[Kind]error         // what Inject says, though it was made
	failing map[Kind]error         // what undoing says
	slow    map[Kind]time.Duration // undoing takes so long
	hanging map[Kind]bool          // undoing does not end before its context
	mute    map[string]bool        // tunnels that never answer
	state   func(*State)           // changes what State says
	panics  func(what string) bool // tells whether to panic now
	blind   func(time.Time) bool   // State fails
	events  []Event
	noted   error // what Events says
}

// A happening is a fault that was made.
type happening struct {
	Fault
	at, undone  time.Time
	tries, done int
}

const (
	deadAfter = 600 * time.Millisecond
	moveAfter = 700 * time.Millisecond
	cutFor    = 1200 * time.Millisecond
	trip      = 5 * time.Millisecond
)

// newScripted has two directors, three real servers on a host each, and six tunnels.
func newScripted(t *testing.T) *scripted {
	w := &scripted{t: t, forLong: map[Kind]time.Duration{}, refuse: map[Kind]error{}, torn: map[Kind]error{}, failing: map[Kind]error{}, slow: map[Kind]time.Duration{}, hanging: map[Kind]bool{}, mute: map[string]bool{}}
	w.start.Directors = []Director{{Name: "d1", Ready: true, Assigns: true, Holds: []netip.Addr{netip.MustParseAddr("192.0.2.10")}}, {Name: "d2", Ready: true}}
	for i := range 3 {
		w.start.RealServers = append(w.start.RealServers, RealServer{Name: fmt.Sprint("rs", i+1), Host: fmt.Sprint("h", i+1), Alive: true, Tunnels: 2})
	}
	for i := range 6 {
		id := fmt.Sprintf("site-%d", i+1)
		w.start.Tunnels = append(w.start.Tunnels, Tunnel{ID: id, Group: "group of " + id, RealServer: fmt.Sprint("rs", i%3+1), Backup: fmt.Sprint("rs", (i+1)%3+1), Up: true})
	}
	return w
}

// in runs f in virtual time.
func in(t *testing.T, f func(t *testing.T, w *scripted)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newScripted(t)
		f(t, w)
		for _, wrong := range w.wrong {
			t.Error(wrong)
		}
	})
}

func (w *scripted) State(ctx context.Context) (State, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	switch {
	case w.panics != nil && w.panics("state"):
		panic("the world ends")
	case w.blind != nil && w.blind(now):
		return State{}, errors.New("nobody answers")
	}
	s := State{Directors: slices.Clone(w.start.Directors), RealServers: slices.Clone(w.start.RealServers), Tunnels: slices.Clone(w.start.Tunnels)}
	for _, h := range w.made {
		if h.over(now) {
			continue
		}
		if now.Sub(h.at) >= deadAfter {
			s.Unsettled = h.Target + " is not as in peace"
		}
		for i := range s.RealServers {
			if s.RealServers[i].Name == h.Target && h.Kind != Drain && now.Sub(h.at) >= deadAfter {
				s.RealServers[i].Alive = false
			}
		}
		for i := range s.Directors {
			if s.Directors[i].Name == h.Target && now.Sub(h.at) >= deadAfter {
				s.Directors[i].Ready = false
			}
		}
	}
	for i, t := range s.Tunnels {
		if h := w.struck(t.RealServer); h != nil && now.Sub(h.at) >= moveAfter {
			s.Tunnels[i].RealServer = t.Backup
			if w.goTo != nil {
				s.Tunnels[i].RealServer = w.goTo(t)
			}
			s.move(t.RealServer, -1)
			s.move(s.Tunnels[i].RealServer, 1)
		}
	}
	if w.state != nil {
		w.state(&s)
	}
	return s, nil
}

// move counts a tunnel more or less at a real server.
func (s *State) move(realServer string, n int) {
	for i := range s.RealServers {
		if s.RealServers[i].Name == realServer {
			s.RealServers[i].Tunnels += n
		}
	}
}

// over tells whether all is as before, as far as a fault goes: what was restarted comes back by itself.
func (h *happening) over(now time.Time) bool {
	return !h.undone.IsZero() && now.Sub(h.undone) > 500*time.Millisecond || h.Kind == DirectorRestart && now.Sub(h.at) > time.Second
}

// struck is the first fault that moves the tunnels of a real server. What hangs is waited for.
func (w *scripted) struck(realServer string) *happening {
	i := slices.IndexFunc(w.made, func(h *happening) bool { return h.Target == realServer && h.Kind != TerminatorHang })
	if i < 0 {
		return nil
	}
	return w.made[i]
}

func (w *scripted) Inject(ctx context.Context, f Fault) (func(context.Context) error, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if f.For <= 0 || f.ID == "" || (f.Target == "") != (f.Kind.Befalls() == "cluster") {
		w.wrong = append(w.wrong, fmt.Sprintf("was asked for %+v", f))
	}
	if w.panics != nil && w.panics("inject "+string(f.Kind)) {
		panic("the world ends")
	}
	if err := w.refuse[f.Kind]; err != nil {
		return nil, err
	}
	h := &happening{Fault: f, at: time.Now()}
	w.made = append(w.made, h)
	return func(ctx context.Context) error { return w.undo(ctx, h) }, w.torn[f.Kind]
}

func (w *scripted) undo(ctx context.Context, h *happening) error {
	if w.hanging[h.Kind] {
		<-ctx.Done()
		return ctx.Err()
	}
	select {
	case <-ctx.Done():
	case <-time.After(w.slow[h.Kind]):
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	h.tries++
	switch {
	case w.panics != nil && w.panics("undo "+string(h.Kind)):
		panic("the world ends")
	case w.failing[h.Kind] != nil:
		return w.failing[h.Kind]
	case ctx.Err() != nil:
		return ctx.Err()
	}
	h.done++
	h.undone = time.Now()
	return nil
}

func (w *scripted) Events(ctx context.Context, since time.Time) ([]Event, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := slices.Clone(w.events)
	for _, h := range w.made {
		if h.Kind.Befalls() != "real server" || h.Kind == TerminatorHang {
			continue
		}
		list = append(list, Event{Time: h.at.Add(deadAfter), By: "d1", Kind: "real-server", Object: h.Target, Why: "dead: no answer"})
		for _, t := range w.start.Tunnels {
			if t.RealServer == h.Target {
				list = append(list, Event{Time: h.at.Add(moveAfter), By: "d1", Kind: "moved", Object: t.Group, From: h.Target, To: t.Backup, Why: "failed-over"})
			}
		}
	}
	return list, w.noted
}

// A scriptedProbing knows what became of each packet when it is asked.
type scriptedProbing struct {
	w     *scripted
	t     Tunnel
	every time.Duration
	began time.Time
}

func (w *scripted) Probe(ctx context.Context, tunnel string, every time.Duration) (Probing, error) {
	i := slices.IndexFunc(w.start.Tunnels, func(t Tunnel) bool { return t.ID == tunnel })
	if i < 0 {
		return nil, errors.New("no such tunnel")
	}
	return &scriptedProbing{w, w.start.Tunnels[i], every, time.Now()}, nil
}

func (p *scriptedProbing) packets() []Packet {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	var list []Packet
	for at := p.began; !at.After(time.Now()); at = at.Add(p.every) {
		x := Packet{Sent: at}
		if !p.lost(at) {
			x.Received = at.Add(trip)
		}
		list = append(list, x)
	}
	return list
}

func (p *scriptedProbing) lost(at time.Time) bool {
	lost := p.w.mute[p.t.ID]
	for _, h := range p.w.made {
		out, ok := p.w.forLong[h.Kind]
		if !ok {
			out = cutFor
		}
		if h.Target == p.t.RealServer && !at.Before(h.at) && at.Before(h.at.Add(out)) {
			lost = true
		}
	}
	return lost
}

func (p *scriptedProbing) Silent() time.Duration {
	last, now := p.began, time.Now()
	for _, x := range p.packets() {
		if !x.Received.IsZero() && !x.Received.After(now) {
			last = x.Received
		}
	}
	return now.Sub(last)
}

func (p *scriptedProbing) Stop() ([]Packet, error) { return p.packets(), nil }
