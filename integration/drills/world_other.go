//go:build !linux

package drills

import (
	"context"
	"errors"
	"fmt"

	"tunneldirector/director/drill"
)

// A World is none where there are no network namespaces.
type World struct{ drill.World }

// Open says that there are none.
func Open(context.Context, Options) (*World, error) {
	return nil, fmt.Errorf("build a lab for drills: network namespaces: %w", errors.ErrUnsupported)
}

// Close does nothing.
func (w *World) Close() error { return nil }
