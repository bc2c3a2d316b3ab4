//go:build !linux

package route

import (
	"context"
	"fmt"
	"iter"

	"tunneldirector/director/plane"
)

var errOther = fmt.Errorf("open routing tables: %w: this needs Linux", plane.ErrUnsupported)

// Tables exist on Linux only.
type Tables struct{}

// A Foreign is a route that is not ours.
type Foreign struct {
	Route
	Protocol uint8
}

// Open fails here.
func Open() (*Tables, error) { return nil, errOther }

// Close does nothing.
func (*Tables) Close() error { return nil }

// SetNexthops fails here.
func (*Tables) SetNexthops(context.Context, []Nexthop) error { return errOther }

// DeleteNexthops fails here.
func (*Tables) DeleteNexthops(context.Context, []uint32) error { return errOther }

// Nexthops fails here.
func (*Tables) Nexthops() iter.Seq2[Nexthop, error] {
	return func(yield func(Nexthop, error) bool) { yield(Nexthop{}, errOther) }
}

// SetRoutes fails here.
func (*Tables) SetRoutes(context.Context, []Route) error { return errOther }

// DeleteRoutes fails here.
func (*Tables) DeleteRoutes(context.Context, []Route) error { return errOther }

// Routes fails here.
func (*Tables) Routes(uint32) iter.Seq2[Route, error] {
	return func(yield func(Route, error) bool) { yield(Route{}, errOther) }
}

// Foreign fails here.
func (*Tables) Foreign(uint32) ([]Foreign, error) { return nil, errOther }

// SetRules fails here.
func (*Tables) SetRules(context.Context, []Rule) error { return errOther }

// Rules fails here.
func (*Tables) Rules() (ours, others []Rule, err error) { return nil, nil, errOther }

// EnsureTunnel fails here.
func (*Tables) EnsureTunnel(bool) error { return errOther }

// Uninstall fails here.
func (*Tables) Uninstall(context.Context) error { return errOther }
