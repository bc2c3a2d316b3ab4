//go:build !linux

package xdp

import (
	"context"
	"fmt"
	"iter"
	"time"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
)

// A Plane cannot exist here.
type Plane struct{}

var errHere = fmt.Errorf("plane xdp needs Linux: %w", plane.ErrUnsupported)

// Open returns plane.ErrUnsupported.
func Open(Options) (*Plane, error) { return nil, errHere }

// Uninstall returns plane.ErrUnsupported.
func Uninstall(string) error { return errHere }

func (*Plane) Run(context.Context) error                 { return errHere }
func (*Plane) Warnings() []string                        { return nil }
func (*Plane) Modes() map[string]string                  { return nil }
func (*Plane) Apply(context.Context, plane.Update) error { return errHere }
func (*Plane) Replace(context.Context, plane.Config, iter.Seq[plane.Entry]) error {
	return errHere
}
func (*Plane) SetAlive(affinity.Index, bool) error               { return errHere }
func (*Plane) Lookup(plane.Packet) (plane.Decision, error)       { return plane.Decision{}, errHere }
func (*Plane) Close() error                                      { return errHere }
func (*Plane) Stats() (plane.Stats, error)                       { return plane.Stats{}, errHere }
func (*Plane) Seen(plane.EndpointKey) (t time.Time, err error)   { return t, errHere }
func (*Plane) Samples(context.Context, func(plane.Sample)) error { return errHere }
func (*Plane) Watch(plane.Watch, time.Time) error                { return errHere }
func (*Plane) Drops() (map[plane.Reason]uint64, error)           { return nil, errHere }
func (*Plane) LastSeen(context.Context, time.Time, func(plane.EndpointKey, time.Time) bool) error {
	return errHere
}
