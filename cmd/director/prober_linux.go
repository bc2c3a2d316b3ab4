package main

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"tunneldirector/affinity"
	loop "tunneldirector/director"
	"tunneldirector/director/config"
	"tunneldirector/director/plane"
	"tunneldirector/director/probe"
)

// prober is probe.Prober as the director's Prober. What it measures is real servers by name, whatever their incarnation:
// the probe's index is a number of ours.
type prober struct {
	p      *probe.Prober
	report func(context.Context, loop.Verdict)
	toRS   map[string]bool // interfaces towards real servers

	mu      sync.Mutex // guards what follows
	numbers map[string]affinity.Index
	links   map[string]probe.Link
	heard   func(realServer string) time.Time // nil: nobody knows
	flooded func(realServer string) bool      // nil with heard
}

func openProber(c config.Probe, interfaces []plane.Interface, log *slog.Logger) (*prober, error) {
	pc := probe.Config{Interval: c.Interval, Timeout: c.Timeout, DeadAfter: c.DeadAfter, AliveAfter: c.AliveAfter}
	p := &prober{toRS: map[string]bool{}, numbers: map[string]affinity.Index{}, links: map[string]probe.Link{}}
	for _, i := range interfaces {
		pc.Interfaces = append(pc.Interfaces, i.Name)
		if i.Roles&plane.RoleRealServers != 0 {
			p.toRS[i.Name] = true
		}
	}
	pc.Heard, pc.Flooded = p.lastHeard, p.isFlooded
	var err error
	p.p, err = probe.Open(pc, log)
	return p, err
}

// Ear says who knows when the agent of a real server last said on its stream how that is, zero: never, and whether it said that
// its probes are flooded. It may be called once probing has begun.
func (p *prober) Ear(heard func(realServer string) time.Time, flooded func(realServer string) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heard, p.flooded = heard, flooded
}

func (p *prober) isFlooded(realServer string) bool {
	p.mu.Lock()
	flooded := p.flooded
	p.mu.Unlock()
	return flooded != nil && flooded(realServer)
}

func (p *prober) lastHeard(realServer string) time.Time {
	p.mu.Lock()
	heard := p.heard
	p.mu.Unlock()
	if heard == nil {
		return time.Time{}
	}
	return heard(realServer)
}

// Watch replaces the targets.
func (p *prober) Watch(targets []loop.Target) {
	p.mu.Lock()
	wanted := map[string]bool{}
	for _, t := range targets {
		wanted[t.Name] = true
	}
	maps.DeleteFunc(p.numbers, func(name string, _ affinity.Index) bool { return !wanted[name] })
	taken := map[affinity.Index]bool{}
	for _, n := range p.numbers {
		taken[n] = true
	}
	next := affinity.Index(1)
	list := make([]probe.Target, len(targets))
	for i, t := range targets {
		n, known := p.numbers[t.Name]
		if !known {
			for taken[next] {
				next++
			}
			n = next
			p.numbers[t.Name], taken[n] = n, true
		}
		list[i] = probe.Target{Index: n, Name: t.Name, Addrs: t.Addrs, VIPs: t.VIPs, Check: t.Check, Method: t.Method,
			Agent: t.Agent, AgentUp: t.AgentUp}
	}
	p.mu.Unlock()
	p.p.Set(list)
}

// Answering counts the real servers that answered lately.
func (p *prober) Answering() (answering, targets int) { return p.p.Answering() }

// Verdicts are the last of each real server that has one.
func (p *prober) Verdicts() []loop.Verdict {
	var out []loop.Verdict
	for _, s := range p.p.Snapshot() {
		if s.Known {
			out = append(out, loop.Verdict{RealServer: s.Name, Alive: s.Alive, Back: s.Back, Cause: s.Cause})
		}
	}
	return out
}

// Probed is how the last probe of a real server went.
func (p *prober) Probed(name string) (cause string, rtt time.Duration) {
	s, ok := p.p.StateOf(name)
	switch {
	case !ok:
		return "not asked yet", 0
	case s.Agent.Trouble != "":
		return s.Cause + "; its agent: " + s.Agent.Trouble, s.RTT
	}
	return s.Cause, s.RTT
}

// Doubt is why a real server should get no new tunnels, though it is alive.
func (p *prober) Doubt(name string) string {
	switch s, _ := p.p.StateOf(name); {
	case s.Agent.Trouble != "":
		return "on the data path its agent: " + s.Agent.Trouble
	case s.Slow:
		return "its probes are answered much later than when it is idle"
	}
	return ""
}

// linkWindow is how long a link that fell may be the reason of real servers' silence, if there are others.
const linkWindow = 5 * time.Second

// linksUp tells whether the ways to the real servers are there: some link has a carrier, and none fell just now. A link
// that is down for good disables no failover.
func (p *prober) linksUp(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	down, fell := 0, false
	for name := range p.toRS {
		if l, known := p.links[name]; known && !l.Up {
			down++
			fell = fell || now.Sub(l.At) < linkWindow
		}
	}
	return !fell && (down == 0 || down < len(p.toRS))
}

// Run probes until ctx ends.
func (p *prober) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return p.p.Run(ctx) })
	g.Go(func() error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case l := <-p.p.Links():
				p.mu.Lock()
				p.links[l.Interface] = l
				p.mu.Unlock()
			case e := <-p.p.Events():
				p.report(ctx, loop.Verdict{RealServer: e.Name, Alive: e.Alive, Cause: e.Cause})
			}
		}
	})
	return g.Wait()
}
