package sim

import (
	"context"
	"fmt"
	"sync"
	"time"

	"tunneldirector/director"
)

// How a director finds real servers dead or alive, as director/probe does by default.
const (
	probeEvery = 150 * time.Millisecond
	probeMiss  = 4
	probeHit   = 2
)

// A prober asks real servers for one director's process.
type prober struct {
	w    *world
	node string

	mu      sync.Mutex
	targets []director.Target
	known   map[string]*probed
}

type probed struct {
	judged, alive bool
	misses, hits  int
	answered      time.Time
}

var _ director.Prober = (*prober)(nil)

// run probes until ctx ends.
func (p *prober) run(ctx context.Context, report func(context.Context, director.Verdict)) {
	t := time.NewTicker(probeEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		for _, v := range p.round() {
			report(ctx, v)
		}
	}
}

// round asks each target once and gives what is new.
func (p *prober) round() (news []director.Verdict) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.targets {
		x := p.known[t.Name]
		if x == nil {
			x = &probed{}
			p.known[t.Name] = x
		}
		if p.w.answers(p.node, t.Name) {
			x.misses, x.hits, x.answered = 0, x.hits+1, time.Now()
		} else {
			x.misses, x.hits = x.misses+1, 0
		}
		was := *x
		switch {
		case x.hits >= probeHit:
			x.judged, x.alive = true, true
		case x.misses >= probeMiss:
			x.judged, x.alive = true, false
		}
		if x.judged && (!was.judged || x.alive != was.alive) {
			news = append(news, x.verdict(t.Name))
		}
	}
	return news
}

func (x *probed) verdict(name string) director.Verdict {
	if x.alive {
		return director.Verdict{RealServer: name, Alive: true, Cause: "answers"}
	}
	return director.Verdict{RealServer: name, Cause: fmt.Sprintf("no answer to %d probes", probeMiss)}
}

// Watch replaces the targets.
func (p *prober) Watch(targets []director.Target) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.targets = targets
	known := map[string]*probed{}
	for _, t := range targets {
		if x := p.known[t.Name]; x != nil {
			known[t.Name] = x
		}
	}
	p.known = known
}

// Verdicts are the last ones.
func (p *prober) Verdicts() (list []director.Verdict) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.targets {
		if x := p.known[t.Name]; x != nil && x.judged {
			list = append(list, x.verdict(t.Name))
		}
	}
	return list
}

// Answering counts who answered lately.
func (p *prober) Answering() (answering, targets int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, x := range p.known {
		if !x.answered.IsZero() && time.Since(x.answered) <= 2*probeEvery {
			answering++
		}
	}
	return answering, len(p.targets)
}

func (p *prober) Probed(string) (string, time.Duration) { return "", 0 }
