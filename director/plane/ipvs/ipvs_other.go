//go:build !linux

package ipvs

import (
	"context"
	"fmt"

	"tunneldirector/director/plane"
)

var errOther = fmt.Errorf("plane ipvs: %w: it needs Linux", plane.ErrUnsupported)

// Probe tells whether this machine can run the plane.
func Probe() error { return errOther }

// Open opens the plane.
func Open(Options) (*Plane, error) { return nil, errOther }

// Uninstall takes everything of ours out of the kernel.
func Uninstall(context.Context) error { return errOther }
