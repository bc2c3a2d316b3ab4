//go:build !linux

package main

import (
	"context"
	"fmt"
	"log/slog"

	"tunneldirector/director/config"
	"tunneldirector/director/plane"
)

var errNotLinux = fmt.Errorf("only Linux forwards; elsewhere there is plane mem, and every command but run and uninstall: %w", plane.ErrUnsupported)

func openKernel(cfg config.Config, _ *slog.Logger) (*kernel, error) {
	if cfg.Plane == config.PlaneMem {
		return memKernel(planeInterfaces(cfg.Interfaces)), nil
	}
	return nil, errNotLinux
}

func findings([]plane.Interface) []string { return nil }

func uninstall(context.Context, []plane.Interface, *slog.Logger) error { return errNotLinux }
