package realserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"tunneldirector/director/agent"
)

const (
	dialLimit = 5 * time.Second
	// The pauses before a director is dialled again: of one that does not answer, and of one that does not want us.
	redialFirst, redialMost = 200 * time.Millisecond, 10 * time.Second
	redialRefused           = 30 * time.Second
	// askAgain is how often a director that does not let us speak for a real server is asked again.
	askAgain = time.Minute
)

// errRefused is the director's word that it does not want this agent.
var errRefused = errors.New("the director refuses this agent")

// errAskAgain ends a stream to begin a new one, in which more may be allowed.
var errAskAgain = errors.New("asking again for the real servers that were refused")

// A stream is one director's: it connects, and tells that director what it does not know yet.
type stream struct {
	a       *Agent
	address string
	life    string // of this run of the agent
	log     *slog.Logger
	wake    chan struct{}

	mu      sync.Mutex                           // guards what follows
	up      bool                                 // welcomed
	state   StreamStatus                         // as shown to people
	pending map[progressOf]map[string]agent.Step // what the director has not been told of orders, by tunnel; only while up
}

type progressOf struct {
	realServer string
	kind       agent.OrderKind
}

func newStream(a *Agent, address, life string) *stream {
	return &stream{a: a, address: address, life: life, log: a.o.Log.With("director", address), wake: make(chan struct{}, 1),
		state: StreamStatus{Address: address, Why: "not connected yet", Since: time.Now()}}
}

// run speaks to the director until ctx ends, from a new connection whenever one breaks.
func (s *stream) run(ctx context.Context) error {
	again := newBackoff(redialFirst, redialMost)
	for ctx.Err() == nil {
		began := time.Now()
		err := s.once(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(began) > redialMost {
			again.Reset()
		}
		wait := again.NextBackOff()
		if errors.Is(err, errRefused) {
			wait += redialRefused
		}
		s.broken(err, wait)
		await(ctx, nil, wait)
	}
	return nil
}

// broken notes why a stream ended. It is logged when a stream that worked breaks, and when the reason changes.
func (s *stream) broken(err error, wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case errors.Is(err, errAskAgain):
		s.log.Debug("stream begins anew", "why", err)
	case s.up, s.state.Why != err.Error():
		s.log.Warn("no stream to the director", "error", err, "again", wait.Round(time.Millisecond))
	}
	if s.up {
		s.state.Since = time.Now()
	}
	s.up, s.pending = false, nil
	s.state.Connected, s.state.Why, s.state.Verdicts = false, err.Error(), nil
}

// once is one connection.
func (s *stream) once(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, dialLimit)
	raw, err := s.a.o.Dial(limited, s.address)
	cancel()
	if err != nil {
		return err
	}
	c := agent.NewConn(raw)
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer func() {
		stop()
		_ = c.Close()
	}()
	w, err := s.greet(c)
	if err != nil {
		return err
	}
	s.welcome(w)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		err := s.receive(c)
		_ = c.Close()
		return err
	})
	g.Go(func() error {
		err := newSpeaker(s, c, w).speak(ctx)
		_ = c.Close() // so that receive ends
		return err
	})
	return g.Wait()
}

// greet says who we are and hears what we may speak for.
func (s *stream) greet(c *agent.Conn) (*agent.Welcome, error) {
	h := agent.Hello{Format: agent.Format, Version: short(s.a.o.Version), Instance: s.life}
	for _, in := range s.a.instances {
		h.RealServers = append(h.RealServers, in.Server)
	}
	if err := c.Send(agent.Message{Hello: &h}); err != nil {
		return nil, fmt.Errorf("say hello: %w", err)
	}
	for {
		m, err := c.Receive()
		switch {
		case err != nil:
			return nil, fmt.Errorf("wait for a welcome: %w", err)
		case m.Refused != nil:
			return nil, fmt.Errorf("%w: %s", errRefused, m.Refused.Why)
		case m.Welcome != nil && m.Welcome.Format != agent.Format:
			return nil, fmt.Errorf("%w: it speaks format %d, this agent %d", errRefused, m.Welcome.Format, agent.Format)
		case m.Welcome != nil:
			return m.Welcome, nil
		}
	}
}

// welcome notes that the stream works from here on.
func (s *stream) welcome(w *agent.Welcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state.Name != w.Director || !maps.Equal(s.state.Refused, w.Refused) || s.state.Why != "" && s.state.Why != errAskAgain.Error() {
		s.log.Info("stream to the director", "name", w.Director, "refused", refusals(w.Refused), "warnings", strings.Join(w.Warnings, "; "))
	}
	s.up = true
	s.pending = map[progressOf]map[string]agent.Step{}
	s.state = StreamStatus{Address: s.address, Connected: true, Since: time.Now(), Name: w.Director, Refused: w.Refused, Warnings: w.Warnings, Known: maps.Clone(w.Known)}
	if s.state.Known == nil {
		s.state.Known = map[string]uint64{}
	}
}

// refusals are real servers and why they are refused, in the order of their names; "": none is.
func refusals(of map[string]string) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(of)) {
		out = append(out, name+": "+of[name])
	}
	return strings.Join(out, "; ")
}

// receive takes in what the director says, until the connection ends.
func (s *stream) receive(c *agent.Conn) error {
	for {
		m, err := c.Receive()
		switch {
		case err != nil:
			return fmt.Errorf("receive: %w", err)
		case m.Refused != nil:
			return fmt.Errorf("%w: %s", errRefused, m.Refused.Why)
		case m.Order != nil:
			s.a.order(s.address, m.Order)
		case m.Known != nil:
			s.mu.Lock()
			s.state.Known[m.Known.RealServer] = m.Known.Seq
			s.mu.Unlock()
		case m.Verdict != nil:
			s.judged(m.Verdict)
		}
	}
}

// judged notes what the director makes of a real server of ours.
func (s *stream) judged(v *agent.Verdict) {
	if !slices.ContainsFunc(s.a.instances, func(in *instance) bool { return in.Name == v.RealServer }) {
		return
	}
	now := Verdict{RealServer: v.RealServer, State: v.State, Since: v.Since, Why: v.Why, Shut: v.Shut}
	if !v.Drained.IsZero() {
		now.Drained = &v.Drained
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	i, there := slices.BinarySearchFunc(s.state.Verdicts, v.RealServer, func(x Verdict, name string) int { return strings.Compare(x.RealServer, name) })
	if there {
		s.state.Verdicts[i] = now
	} else {
		s.state.Verdicts = slices.Insert(s.state.Verdicts, i, now)
	}
}

// progress notes what the director is to be told of an order, the last word on each tunnel. One that is away is told when it
// orders again.
func (s *stream) progress(p agent.Progress) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.up {
		return
	}
	of := progressOf{p.RealServer, p.Kind}
	if s.pending[of] == nil {
		s.pending[of] = make(map[string]agent.Step, len(p.Tunnels))
	}
	for _, step := range p.Tunnels {
		s.pending[of][step.ID] = step
	}
	poke(s.wake)
}

// takeProgress takes what is to be told, in messages of their bounds.
func (s *stream) takeProgress() []agent.Progress {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []agent.Progress
	for of, steps := range s.pending {
		var p *agent.Progress
		for _, step := range steps {
			if p == nil || len(p.Tunnels) == agent.MaxTunnels {
				out = append(out, agent.Progress{RealServer: of.realServer, Kind: of.kind})
				p = &out[len(out)-1]
			}
			p.Tunnels = append(p.Tunnels, step)
		}
	}
	clear(s.pending)
	return out
}
