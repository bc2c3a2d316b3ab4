package main

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"slices"

	"golang.org/x/sync/errgroup"

	loop "tunneldirector/director"
	"tunneldirector/director/config"
	"tunneldirector/director/plane"
	"tunneldirector/director/plane/xdp"
	"tunneldirector/director/vip"
)

// openKernel opens the configured plane.
func openKernel(cfg config.Config, log *slog.Logger) (*kernel, error) {
	interfaces := planeInterfaces(cfg.Interfaces)
	if cfg.Plane == config.PlaneMem {
		log.Warn("plane mem forwards nothing; it is for trials of the API")
		return memKernel(interfaces), nil
	}
	x, err := xdp.Open(xdp.Options{Interfaces: interfaces, MaxPins: cfg.Limits.MaxPins, MaxSubnets: cfg.Limits.MaxSubnets, Logger: log})
	if err != nil {
		return nil, err
	}
	p, err := openProber(cfg.Probe, interfaces, log)
	if err != nil {
		return nil, err
	}
	h, err := openHost(interfaces, p, log)
	if err != nil {
		return nil, err
	}
	for _, f := range findings(interfaces) {
		log.Warn("the kernel's settings work against the director", "finding", f)
	}
	return &kernel{
		kind: config.PlaneXDP, plane: x, host: h, prober: p,
		report: func(f func(context.Context, loop.Verdict)) { p.report = f },
		warns:  x.Warnings,
		detail: func() []string { return modes(x) },
		run: func(ctx context.Context) error {
			g, ctx := errgroup.WithContext(ctx)
			g.Go(func() error { return x.Run(ctx) })
			g.Go(func() error { return p.Run(ctx) })
			return g.Wait()
		},
		close: func() error {
			h.close()
			return x.Close()
		},
	}, nil
}

// findings are what of the kernel's settings works against the director.
func findings(interfaces []plane.Interface) []string {
	any := []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} // of both families
	found, err := vip.Check(os.DirFS("/proc/sys"), vip.Config{}, interfaces, any)
	var out []string
	if err != nil {
		out = append(out, err.Error())
	}
	for _, f := range found {
		out = append(out, f.String())
	}
	return out
}

// uninstall takes everything of ours out of the kernel: addresses, then programs, then the filter.
func uninstall(ctx context.Context, interfaces []plane.Interface, log *slog.Logger) error {
	h, err := openHost(interfaces, nil, log)
	if err != nil {
		return err
	}
	defer h.close()
	if err := h.Hold(ctx, nil, nil); err != nil {
		return err
	}
	if err := xdp.Uninstall(xdp.DefaultPinPath); err != nil {
		return err
	}
	return h.filter.Remove()
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
