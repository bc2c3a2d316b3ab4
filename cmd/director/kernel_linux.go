package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"

	"golang.org/x/sync/errgroup"

	loop "tunneldirector/director"
	"tunneldirector/director/config"
	"tunneldirector/director/doctor"
	"tunneldirector/director/plane"
	"tunneldirector/director/plane/ipvs"
	"tunneldirector/director/plane/ipvs/inject"
	"tunneldirector/director/plane/ipvs/route"
	"tunneldirector/director/plane/ipvs/shadow"
	"tunneldirector/director/plane/mem"
	"tunneldirector/director/plane/xdp"
	"tunneldirector/director/vip/sysctl"
)

// openKernel opens the configured plane, or the best one for what is stored.
func openKernel(cfg config.Config, stored *loop.Stored, log *slog.Logger) (*kernel, error) {
	interfaces := planeInterfaces(cfg.Interfaces)
	c := choose(cfg, stored.Config(), ipvs.Probe)
	var k *kernel
	var err error
	switch c.kind {
	case config.PlaneMem:
		log.Warn("plane mem forwards nothing; it is for trials of the API")
		k = idleKernel(mem.New(interfaces))
	case config.PlaneShadow:
		log.Warn("plane shadow forwards nothing; director audit compares its table with what others have put into IPVS")
		var p *shadow.Plane
		if p, err = shadow.Open(interfaces); err == nil {
			k = idleKernel(p)
			k.warns = leftovers
		}
	case config.PlaneIPVS:
		k, err = openIPVS(cfg, interfaces, log)
		if c.by == byAuto && (errors.Is(err, plane.ErrUnsupported) || errors.Is(err, inject.ErrForeign)) {
			c = notIPVS(err.Error())
			k, err = openXDP(cfg, interfaces, log)
		}
	default:
		k, err = openXDP(cfg, interfaces, log)
	}
	if err != nil {
		return nil, err
	}
	k.choice = c
	log.Info("plane chosen", "plane", c.kind, "by", c.by, "why", c.why)
	if config.Forwards(c.kind) {
		mend := c.kind == config.PlaneIPVS && cfg.IPVS.SetSysctls && loop.Check(k.plane, stored.Config()) == nil // else it will not run
		entries, routes := entriesFor(stored.Config(), stored.Endpoints()), stored.Subnets()
		k.settings = func() (out []doctor.Setting, err error) {
			found, err := findings(c.kind, cfg.Silent(), interfaces, entries, routes)
			for _, f := range found {
				one := doctor.Setting{What: f.What, Why: f.Why, Mend: f.Remedy}
				if one.Mend == "" {
					one.Mend = sysctl.Command(f.Settings...)
				}
				out = append(out, one)
			}
			return out, err
		}
		mendSettings(c.kind, cfg.Silent(), interfaces, entries, routes, mend, log)
	}
	return k, nil
}

// A forwarder is a plane that forwards.
type forwarder interface {
	plane.Plane
	Run(ctx context.Context) error
	Warnings() []string
}

func openIPVS(cfg config.Config, interfaces []plane.Interface, log *slog.Logger) (*kernel, error) {
	p, err := ipvs.Open(ipvs.Options{Interfaces: interfaces, Pairs4: cfg.IPVS.Pairs4, Pairs6: cfg.IPVS.Pairs6, Timeout: cfg.IPVS.Timeout, Logger: log})
	if errors.Is(err, inject.ErrForeign) {
		return nil, fmt.Errorf("%w; stop that one, or take plane: xdp, which works beside it", err)
	}
	if err != nil {
		return nil, err
	}
	routed := []string{route.Tunnel4, route.Tunnel6} // subnet packets leave by these through the kernel's routing, wrapped or not
	for _, i := range interfaces {
		if i.Roles&plane.RoleRealServers != 0 {
			routed = append(routed, i.Name)
		}
	}
	k, err := kernelAround(cfg, p, interfaces, routed, log)
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	k.detail = p.Detail
	k.supplant = func(context.Context) (bool, error) { return takeOutXDP(log) }
	return k, nil
}

func openXDP(cfg config.Config, interfaces []plane.Interface, log *slog.Logger) (*kernel, error) {
	p, err := xdp.Open(xdp.Options{Interfaces: interfaces, MaxPins: cfg.Limits.MaxPins, MaxSubnets: cfg.Limits.MaxSubnets, Logger: log})
	if err != nil {
		return nil, err
	}
	left, err := leftByIPVS()
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	var f forwarder = p
	if left {
		f = &takingOver{Plane: p}
	}
	k, err := kernelAround(cfg, f, interfaces, nil, log)
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	k.detail = func() []string { return modes(p) }
	if left {
		k.supplant = func(ctx context.Context) (bool, error) { return true, cutIPVS(ctx, log) }
	}
	return k, nil
}

// kernelAround adds to a plane what measures and holds for it.
func kernelAround(cfg config.Config, f forwarder, interfaces []plane.Interface, routed []string, log *slog.Logger) (*kernel, error) {
	p, err := openProber(cfg.Probe, interfaces, log)
	if err != nil {
		return nil, err
	}
	h, err := openHost(interfaces, p, log)
	if err != nil {
		return nil, err
	}
	h.routed = routed
	turns := func() bool { return true }
	return &kernel{
		plane: f, host: h, prober: p, warns: f.Warnings,
		report: func(to func(context.Context, loop.Verdict)) { p.report = to },
		ear:    p.Ear,
		probes: p.p.Snapshot,
		turns:  func(t func() bool) { turns = t },
		run: func(ctx context.Context) error {
			g, ctx := errgroup.WithContext(ctx)
			g.Go(func() error { return f.Run(ctx) })
			g.Go(func() error { return p.Run(ctx) })
			g.Go(func() error { return h.keep(ctx, turns) })
			return g.Wait()
		},
		close: func() error {
			h.close()
			return f.Close()
		},
	}, nil
}

// modes tells how the program runs on each interface.
func modes(x *xdp.Plane) []string {
	m := x.Modes()
	var out []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		out = append(out, fmt.Sprintf("%s: XDP %s", name, m[name]))
	}
	return out
}
