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
}

func newAnswers(cfg Config, log *slog.Logger) *answers {
	return &answers{port: cfg.ProbePort, log: log, places: placesOf(cfg), open: map[*place]*answer.Responder{}, states: map[*place]map[string]answer.State{}}
}

// set says what is answered of a real server.
func (a *answers) set(realServer string, s realserver.State) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, p := range a.places {
		if !slices.Contains(p.realServers, realServer) {
			continue
		}
		if a.states[p] == nil {
			a.states[p] = map[string]answer.State{}
		}
		a.states[p][realServer] = answer.State(s)
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
	r, err := answer.Open(answer.Options{Space: space.Space(p.namespace), VIPs: p.vips, Port: a.port, Method: p.method, Devices: p.devices, Log: a.log})
	if err != nil {
		return err
	}
	a.mu.Lock()
	a.open[p] = r
	r.Set(maps.Clone(a.states[p]))
	a.mu.Unlock()
	err = r.Run(ctx)
	a.mu.Lock()
	delete(a.open, p)
	a.mu.Unlock()
	return err
}
