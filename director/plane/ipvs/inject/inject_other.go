//go:build !linux

package inject

import (
	"context"
	"fmt"

	"tunneldirector/director/plane"
)

// A Link cannot exist here.
type Link struct{}

// Open returns plane.ErrUnsupported.
func Open(Options) (*Link, error) {
	return nil, fmt.Errorf("IPVS needs Linux: %w", plane.ErrUnsupported)
}

func (*Link) Send(context.Context, []Conn) error { return plane.ErrUnsupported }
func (*Link) Close() error                       { return nil }
