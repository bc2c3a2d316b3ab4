package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"tunneldirector/director/api"
	"tunneldirector/integration/daemon"
	"tunneldirector/integration/lab"
)

// A show is one run of the demo.
type show struct {
	plan plan
	r    *result
	out  io.Writer
	lab  *lab.Lab
	d    *daemon.Daemon
}

// run plays all and cleans up. The result is there in any case.
func run(ctx context.Context, p plan, out io.Writer) (r *result, err error) {
	r = newResult(p)
	began := time.Now()
	before, err := look()
	if err != nil {
		return r, err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*p.limit)
	defer cancel()
	s := &show{plan: p, r: r, out: out}
	err = s.play(ctx)
	end := unchanged(before)
	r.HostUnchanged = end == nil
	r.Seconds = time.Since(began).Seconds()
	if err == nil && time.Since(began) > p.limit {
		r.fail("it took %.0f s; promised are %s", r.Seconds, p.limit)
	}
	return r, errors.Join(err, end)
}

// play is everything between a clean machine and a clean machine.
func (s *show) play(ctx context.Context) (err error) {
	dir := filepath.Join(filepath.Dir(s.plan.out), "demo")
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o755)); err != nil {
		return fmt.Errorf("make a directory for the director's files: %w", err)
	}
	log, err := os.Create(filepath.Join(dir, "director.log"))
	if err != nil {
		return fmt.Errorf("make the director's log: %w", err)
	}
	defer log.Close()
	tunnels, err := os.Create(filepath.Join(dir, "wireguard.log"))
	if err != nil {
		return fmt.Errorf("make the tunnels' log: %w", err)
	}
	defer tunnels.Close()
	data := filepath.Join(dir, "data")
	defer func() { err = errors.Join(err, os.RemoveAll(data)) }()
	defer func() {
		defer s.phase("clean up")()
		if s.lab != nil {
			err = errors.Join(err, s.lab.Close())
		}
	}()
	if err := s.build(ctx, tunnels, daemon.Options{Binary: s.plan.director, Dir: dir, Data: data, Log: log}); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{s.start, s.pushSites, s.pushFurther, s.establish, s.bothWays, s.kill, s.restarts} {
		if err := step(ctx); err != nil {
			return fmt.Errorf("%w (the director's log is %s)", err, log.Name())
		}
	}
	return nil
}

// phase measures, from its call to the call of what it returns.
func (s *show) phase(name string) func() {
	began := time.Now()
	return func() { s.r.Phases = append(s.r.Phases, phase{name, time.Since(began).Seconds()}) }
}

func (s *show) say(format string, args ...any) { fmt.Fprintf(s.out, format+"\n", args...) }

func (s *show) build(ctx context.Context, tunnels io.Writer, o daemon.Options) (err error) {
	defer s.phase("build the network")()
	s.say("building a network: %d sites, a director, 3 real servers, a target host; every site has a WireGuard tunnel to a virtual IP", s.plan.sites)
	s.lab, err = lab.New(ctx, lab.Options{
		Sites: s.plan.sites, RealServers: 3, IPv6: true, Logger: slog.New(slog.NewTextHandler(tunnels, nil)),
	})
	if err != nil {
		return err
	}
	s.d, err = daemon.New(s.lab, o)
	return err
}

func (s *show) start(ctx context.Context) error {
	defer s.phase("start the director, apply service and real servers")()
	s.say("starting `director run` (XDP on veth), then `director apply`: virtual IPs %v, real servers rs1 to rs3", s.lab.VIPs)
	if err := s.d.Start(ctx); err != nil {
		return err
	}
	if err := s.d.Apply(ctx); err != nil {
		return err
	}
	st, err := s.d.Client.Status(ctx)
	s.r.Director, s.r.Plane = st.Version, st.Plane.Detail
	return err
}

func (s *show) pushSites(ctx context.Context) error {
	defer s.phase("push the sites' tunnels")()
	if err := s.d.Push(ctx, s.lab.Sites...); err != nil {
		return err
	}
	s.say("pushed the tunnels of the %d sites by HTTP, before their first packet", len(s.lab.Sites))
	return nil
}

// pushFurther fills the tables; it takes as long as until all is durable and in the kernel.
func (s *show) pushFurther(ctx context.Context) error {
	defer s.phase(fmt.Sprintf("push %d tunnels more", s.plan.further))()
	began := time.Now()
	items := func(yield func(api.BatchItem, error) bool) {
		for i := range s.plan.further {
			if !yield(api.BatchItem{Tunnel: daemon.Filler(i)}, nil) {
				return
			}
		}
	}
	var refused string
	sum, err := s.d.Client.Batch(ctx, items, false, func(l api.StreamLine) {
		if l.Error != nil && refused == "" {
			refused = fmt.Sprintf("; line %d: %v", l.Line, l.Error)
		}
	})
	if err != nil {
		return fmt.Errorf("push tunnels: %w", err)
	}
	s.r.Pushed, s.r.PushSeconds = sum.Created, time.Since(began).Seconds()
	if sum.Created != s.plan.further || sum.Unplaced > 0 {
		s.r.fail("of %d tunnels pushed %d were taken, %d refused, %d not placed%s", s.plan.further, sum.Created, sum.Refused, sum.Unplaced, refused)
	}
	s.say("pushed %d tunnels more, durable and in the kernel after %.1f s", s.r.Pushed, s.r.PushSeconds)
	return nil
}

func (s *show) establish(ctx context.Context) error {
	defer s.phase("establish the sites' tunnels")()
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	if err := s.lab.Establish(ctx); err != nil {
		return err
	}
	s.say("all %d sites have their tunnels up", len(s.lab.Sites))
	return nil
}
