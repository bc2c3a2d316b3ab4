//go:build !linux

package gate

import (
	"context"
	"fmt"
	"time"

	"tunneldirector/director/plane"
)

var errOther = fmt.Errorf("open the gate: %w: this needs Linux", plane.ErrUnsupported)

// A Gate exists on Linux only.
type Gate struct{}

// Open fails here.
func Open() (*Gate, error) { return nil, errOther }

// There is nothing here.
func There() (bool, error) { return false, nil }

// Close does nothing.
func (*Gate) Close() error { return nil }

// Seal fails here.
func (*Gate) Seal(context.Context, string) error { return errOther }

// Sealed fails here.
func (*Gate) Sealed(string) (bool, error) { return false, errOther }

// Set fails here.
func (*Gate) Set(context.Context, Wanted) (bool, error) { return false, errOther }

// Counters fails here.
func (*Gate) Counters() (map[plane.Reason]uint64, plane.Traffic, error) {
	return nil, plane.Traffic{}, errOther
}

// Shows fails here.
func (*Gate) Shows() error { return errOther }

// Remove fails here.
func (*Gate) Remove() error { return errOther }

// A Log exists on Linux only.
type Log struct{}

// OpenLog fails here.
func OpenLog() (*Log, error) { return nil, errOther }

// Close does nothing.
func (*Log) Close() error { return nil }

// Bind fails here.
func (*Log) Bind() error { return errOther }

// Read fails here.
func (*Log) Read(context.Context, func(plane.Sample)) error { return errOther }

// Watch fails here.
func (*Log) Watch(plane.Watch, []string, time.Duration) error { return errOther }
