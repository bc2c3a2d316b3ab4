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

	"tunneldirector/director"
	"tunneldirector/director/config"
	"tunneldirector/director/plane"
	"tunneldirector/director/plane/mem"
	"tunneldirector/director/plane/xdp"
	"tunneldirector/director/vip"
)

// kernel is what the daemon uses of this machine: one data plane, and what measures and holds for it.
type kernel struct {
	kind   string
	plane  plane.Plane
	host   director.Host
	prober *prober // nil with mem
	xdp    *xdp.Plane
	close  func() error
}

// openKernel opens the configured plane.
func openKernel(cfg config.Config, log *slog.Logger) (*kernel, error) {
	interfaces := planeInterfaces(cfg.Interfaces)
	if cfg.Plane == config.PlaneMem {
		log.Warn("plane mem forwards nothing; it is for trials of the API")
		return &kernel{kind: cfg.Plane, plane: mem.New(interfaces), host: nowhere{}, close: func() error { return nil }}, nil
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
	return &kernel{kind: config.PlaneXDP, plane: x, host: h, prober: p, xdp: x, close: func() error {
		h.close()
		return x.Close()
	}}, nil
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

func (k *kernel) probes() director.Prober {
	if k.prober == nil {
		return nil
	}
	return k.prober
}

func (k *kernel) report(f func(context.Context, director.Verdict)) {
	if k.prober != nil {
		k.prober.report = f
	}
}

func (k *kernel) run(ctx context.Context) error {
	if k.xdp == nil {
		<-ctx.Done()
		return nil
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return k.xdp.Run(ctx) })
	g.Go(func() error { return k.prober.Run(ctx) })
	return g.Wait()
}

// detail describes the plane's interfaces.
func (k *kernel) detail() []string {
	if k.xdp == nil {
		return []string{"forwards nothing"}
	}
	modes := k.xdp.Modes()
	var out []string
	for _, name := range slices.Sorted(maps.Keys(modes)) {
		out = append(out, fmt.Sprintf("%s: XDP %s", name, modes[name]))
	}
	return out
}

// nowhere is the Host of plane mem: it has no addresses and holds none.
type nowhere struct{}

func (nowhere) Local([]netip.Addr) ([]netip.Addr, []netip.Prefix, error)            { return nil, nil, nil }
func (nowhere) Hold(context.Context, []netip.Addr, map[string][]netip.Prefix) error { return nil }
func (nowhere) LinksUp() bool                                                       { return true }
