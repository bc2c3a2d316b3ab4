//go:build !linux

package main

import (
	"context"
	"fmt"
	"log/slog"

	loop "tunneldirector/director"
	"tunneldirector/director/config"
	"tunneldirector/director/plane"
	"tunneldirector/director/plane/ipvs"
	"tunneldirector/director/plane/mem"
	"tunneldirector/director/vip/sysctl"
)

var errNotLinux = fmt.Errorf("only Linux forwards; elsewhere there is plane mem, and every command but run and uninstall: %w", plane.ErrUnsupported)

func openKernel(cfg config.Config, stored *loop.Stored, _ *slog.Logger) (*kernel, error) {
	if c := choose(cfg, stored.Config(), ipvs.Probe); c.kind == config.PlaneMem {
		k := idleKernel(mem.New(planeInterfaces(cfg.Interfaces)))
		k.choice = c
		return k, nil
	}
	return nil, errNotLinux
}

func findings(string, bool, []plane.Interface, int, int) ([]sysctl.Finding, error) { return nil, nil }

func uninstall(context.Context, []plane.Interface, *slog.Logger) error { return errNotLinux }
