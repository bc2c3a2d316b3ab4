package ipvs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"

	"tunneldirector/director/plane/ipvs/inject"
	"tunneldirector/director/plane/ipvs/route"
)

// Run refreshes the entries before they expire, proves by the destinations' counters that the kernel has them, and heals what
// a link that went down took with it, until ctx ends.
func (p *Plane) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return p.runRefresh(ctx) })
	g.Go(func() error { return p.every(ctx, proofPeriod, "prove the pins", p.prove) })
	g.Go(func() error { return p.every(ctx, gatePeriod, "keep the gate", p.keepGate) })
	g.Go(func() error { return p.every(ctx, gatePeriod, "end a watch of packets", p.endWatch) })
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
	err := p.gate.Seal(ctx, inject.Interface)
	if p.guarded { // until then what an earlier run wanted is right
		err = errors.Join(err, p.setGate(ctx))
	}
	p.warn("show dropped packets", p.gate.Shows())
	return err
}

// runLinks points the pairs anew when links or addresses change: the kernel forgot where they led when a link went down, and drops
// until it is told again.
func (p *Plane) runLinks(ctx context.Context) error {
	poke := make(chan struct{}, 1)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return p.every(ctx, time.Second, "watch links", func(ctx context.Context) error { // again, if the kernel ended it: it does if it told more than was read
			return p.survey.Watch(ctx, func() {
				select {
				case poke <- struct{}{}:
				default:
				}
			})
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
	if !p.guarded {
		return nil
	}
	now := paths{nexthops: map[uint32]route.Nexthop{}, routes: map[netip.Addr]uint32{}, covers: p.paths.covers}
	if err := p.readPairs(&now); err != nil {
		return err
	}
	p.paths = now
	err := errors.Join(p.point(ctx), p.guardRoutes(ctx), p.setGate(ctx)) // a neighbour may have another MAC address
	if p.looks++; p.looks%subnetLooks == 0 {
		p.ensureTunnels(maps.Values(p.paths.nexthops)) // somebody may have taken out their guard, or a way have another MTU
		err = errors.Join(err, p.healSubnets(ctx))
	}
	return err
}

// subnetLooks is how many times heal looks before it counts the subnets' routes, of which there may be many.
const subnetLooks = 12

// healSubnets puts back subnets' routes and covers if somebody took any out.
func (p *Plane) healSubnets(ctx context.Context) error {
	subnets, covers := 0, 0
	for r, err := range p.routes.Routes(0) {
		switch {
		case err != nil:
			return fmt.Errorf("count our routes: %w", err)
		case r.Table < tenantTable || r.Table > tenantTable+maxTenants:
		case r.Metric == metricSubnet:
			subnets++
		case r.Metric == metricCover:
			covers++
		}
	}
	if subnets >= len(p.subnets.targets) && covers >= len(p.paths.covers) {
		return nil
	}
	p.o.Logger.Warn("somebody took routes of the director's out; putting them back", "subnets", len(p.subnets.targets)-subnets, "covers", len(p.paths.covers)-covers)
	p.proof.repairs++
	p.paths.covers = map[route.Route]struct{}{}
	w := newWork()
	for k := range p.subnets.targets {
		w.subnets[k] = struct{}{}
	}
	return errors.Join(p.guardRoutes(ctx), p.program(ctx, w))
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
		if err != nil {
			err = errors.Join(err, p.relink())
		}
		p.warn("refresh the pins", err)
	}
}

// relink makes the link to IPVS anew: somebody may have stopped the kernel's daemon, or taken out its interface.
func (p *Plane) relink() error {
	if p.reopen == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	err := p.inject.Close() // first: there is one daemon, and it would stop the new one
	p.inject = unlinked{err}
	link, err := p.reopen()
	if err != nil {
		return fmt.Errorf("open the link to IPVS again: %w", err)
	}
	p.inject, p.due = link, true
	p.o.Logger.Warn("the link to IPVS was lost and is open again")
	return nil
}

// An unlinked injector is none.
type unlinked struct{ err error }

func (u unlinked) Send(context.Context, []inject.Conn) error {
	return errors.Join(errors.New("send entries: there is no link to IPVS"), u.err)
}

func (u unlinked) Close() error { return nil }

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
