package ipvs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"tunneldirector/director/plane/ipvs/inject"
)

// Run refreshes the entries before they expire, proves by the destinations' counters that the kernel has them, and heals what
// a link that went down took with it, until ctx ends.
func (p *Plane) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return p.runRefresh(ctx) })
	g.Go(func() error { return p.every(ctx, proofPeriod, "prove the pins", p.prove) })
	g.Go(func() error { return p.every(ctx, gatePeriod, "keep the gate", p.keepGate) })
	g.Go(func() error { return p.runLinks(ctx) })
	return g.Wait()
}

const (
	proofPeriod = 5 * time.Second
	gatePeriod  = 2 * time.Second
	rounds      = 3 // refreshes within the shortest timeout
)

// every calls f again and again, says when it fails, and says when it works again.
func (p *Plane) every(ctx context.Context, period time.Duration, what string, f func(context.Context) error) error {
	t := time.NewTicker(period)
	defer t.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		err := f(ctx)
		switch {
		case errors.Is(err, context.Canceled):
			return nil
		case err != nil && !failing:
			p.o.Logger.Error(what, "error", err)
		case err == nil && failing:
			p.o.Logger.Info(what + ": works again")
		}
		failing = err != nil
		p.warn(what, err)
	}
}

// keepGate puts the gate up again if somebody took it down.
func (p *Plane) keepGate(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return errors.Join(p.gate.Seal(ctx, inject.Interface), p.setGate(ctx))
}

// runLinks points the pairs anew when links or addresses change: the kernel forgot where they led when a link went down, and drops
// until it is told again.
func (p *Plane) runLinks(ctx context.Context) error {
	poke := make(chan struct{}, 1)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return p.survey.Watch(ctx, func() {
			select {
			case poke <- struct{}{}:
			default:
			}
		})
	})
	g.Go(func() error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-poke:
			case <-time.After(proofPeriod):
			}
			p.warn("point the pairs at real servers", p.heal(ctx))
		}
	})
	return g.Wait()
}

// heal looks where real servers are, and at what the kernel still holds, and sets what is missing.
func (p *Plane) heal(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.survey.Survey(); err != nil {
		return err
	}
	if err := p.readPaths(); err != nil {
		return err
	}
	return p.point(ctx)
}

// runRefresh sends every entry once in a period, shard by shard.
func (p *Plane) runRefresh(ctx context.Context) error {
	for shard := 0; ; shard = (shard + 1) % shards {
		period, err := p.refreshPeriod()
		p.warn("read IPVS's UDP timeout", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(period / shards):
		}
		err = p.refreshShard(ctx, shard)
		if errors.Is(err, context.Canceled) {
			return nil
		}
		p.warn("refresh the pins", err)
	}
}

// refreshPeriod is how long a round takes: the first UDP packet through an entry gives it the kernel's UDP timeout.
func (p *Plane) refreshPeriod() (time.Duration, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	err := p.readTimeout()
	return p.shortest() / rounds, err
}

// readTimeout takes down IPVS's UDP timeout, which anybody may change.
func (p *Plane) readTimeout() error {
	d, err := p.lvs.UDPTimeout()
	if err == nil {
		p.udpTimeout = d
	}
	return err
}

func (p *Plane) refreshShard(ctx context.Context, shard int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := sender{ctx: ctx, to: p.inject}
	for _, v := range p.vips {
		for _, port := range v.ports {
			if s := p.services[serviceKey(v, port)]; s != nil {
				p.sendShard(&out, v, s, shard, s.at)
			}
		}
	}
	if err := out.done(); err != nil {
		return fmt.Errorf("refresh shard %d of %d: %w", shard, shards, err)
	}
	return nil
}

// warn takes down what fails, for Warnings; a nil error takes it off.
func (p *Plane) warn(what string, err error) {
	p.warned.Lock()
	defer p.warned.Unlock()
	if err == nil {
		delete(p.warned.said, what)
		return
	}
	p.warned.said[what] = fmt.Sprintf("%s: %v", what, err)
}
