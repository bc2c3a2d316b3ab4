package main

import (
	"context"
	"log/slog"

	loop "tunneldirector/director"
	"tunneldirector/director/plane"
)

// uninstall takes everything of ours out of the kernel: addresses, then the planes, then the filter.
func uninstall(ctx context.Context, interfaces []plane.Interface, log *slog.Logger) error {
	h, err := openHost(interfaces, nil, log)
	if err != nil {
		return err
	}
	defer h.close()
	if err := h.Hold(ctx, loop.Held{}); err != nil {
		return err
	}
	if _, err := takeOutXDP(log); err != nil {
		return err
	}
	if _, err := takeOutIPVS(ctx, log); err != nil {
		return err
	}
	return h.filter.Remove()
}
