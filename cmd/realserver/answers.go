package main

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"tunneldirector/director/agent"
	"tunneldirector/realserver"
	"tunneldirector/realserver/answer"
	"tunneldirector/realserver/space"
)

// reopen is the pause before a responder that could not be opened is tried again: its namespace may not be there yet.
const reopen = 2 * time.Second

// answers keeps the responders of all places.
type answers struct {
	port   uint16
	log    *slog.Logger
	places []*place

	mu     sync.Mutex // guards what follows
	open   map[*place]*answer.Responder
	states map[*place]map[string]answer.State
	told   map[string]time.Time // by real server: when its state was
}

func newAnswers(cfg Config, log *slog.Logger) *answers {
	a := &answers{port: cfg.ProbePort, log: log, places: placesOf(cfg), open: map[*place]*answer.Responder{},
		states: map[*place]map[string]answer.State{}, told: map[string]time.Time{}}
	for _, p := range a.places { // who was not looked at yet is here, too
		a.states[p] = map[string]answer.State{}
		for _, name := range p.realServers {
			a.states[p][name] = answer.State{}
		}
	}
	return a
}

// set says what is answered of a real server. Of others at its place that nobody told anything of for too long it is answered that
// their health is not known: a look that hangs is not covered up by looks at a neighbour.
func (a *answers) set(realServer string, s realserver.State) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	a.told[realServer] = now
	for _, p := range a.places {
		if !slices.Contains(p.realServers, realServer) {
			continue
		}
		a.states[p][realServer] = answer.State(s)
		for name, old := range a.states[p] {
			if now.Sub(a.told[name]) > answer.Stale {
				old.Health = agent.HealthUnknown
				a.states[p][name] = old
			}
		}
		if r := a.open[p]; r != nil {
			r.Set(maps.Clone(a.states[p]))
		}
	}
}

// flooded tells whether more probes come for a real server, at some VIP, than are answered.
func (a *answers) flooded(realServer string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for p, r := range a.open {
		if slices.Contains(p.realServers, realServer) && r.Flooded() {
			return true
		}
	}
	return false
}

// begin opens what can be opened, so that probes are answered from before the first director hears of the real servers.
func (a *answers) begin() {
	if a.port == 0 {
		return
	}
	for _, p := range a.places {
		_, _ = a.responder(p) // run tries again, and says what is wrong
	}
}

// responder is that of a place, opened if it is not.
func (a *answers) responder(p *place) (*answer.Responder, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if r := a.open[p]; r != nil {
		return r, nil
	}
	r, err := answer.Open(answer.Options{Space: space.Space(p.namespace), VIPs: p.vips, Port: a.port, Method: p.method, Devices: p.devices, Log: a.log})
	if err != nil {
		return nil, err
	}
	r.Set(maps.Clone(a.states[p]))
	a.open[p] = r
	return r, nil
}

// run answers until ctx ends.
func (a *answers) run(ctx context.Context) error {
	if a.port == 0 {
		return nil
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, p := range a.places {
		g.Go(func() error { return a.serve(ctx, p) })
	}
	return g.Wait()
}

func (a *answers) serve(ctx context.Context, p *place) error {
	told := ""
	for ctx.Err() == nil {
		err := a.once(ctx, p)
		if ctx.Err() != nil {
			break
		}
		if err == nil || err.Error() != told {
			told = fmt.Sprint(err)
			a.log.Warn("probes are not answered", "vips", p.vips, "namespace", p.namespace, "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(reopen):
		}
	}
	return nil
}

func (a *answers) once(ctx context.Context, p *place) error {
	r, err := a.responder(p)
	if err != nil {
		return err
	}
	err = r.Run(ctx)
	a.mu.Lock()
	delete(a.open, p)
	a.mu.Unlock()
	return err
}
