//go:build !linux

package vip

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"tunneldirector/director/plane"
)

var errOther = fmt.Errorf("hold virtual IPs: %w: this needs Linux", plane.ErrUnsupported)

// A Filter exists on Linux only.
type Filter struct{}

// A Holder exists on Linux only.
type Holder struct{}

// Dropped are the filter's counters.
type Dropped struct{ Input, Forward, Cover uint64 }

// OpenFilter fails here.
func OpenFilter() (*Filter, error) { return nil, errOther }

// Close does nothing.
func (*Filter) Close() error { return nil }

// Set fails here.
func (*Filter) Set(context.Context, Wanted) (Changes, error) { return Changes{}, errOther }

// Dropped fails here.
func (*Filter) Dropped() (Dropped, error) { return Dropped{}, errOther }

// Remove fails here.
func (*Filter) Remove() error { return errOther }

// OpenHolder fails here.
func OpenHolder(Config, *Filter, *slog.Logger) (*Holder, error) { return nil, errOther }

// Close does nothing.
func (*Holder) Close() error { return nil }

// Hold fails here.
func (*Holder) Hold(context.Context, Wanted, Held) (Changes, error) { return Changes{}, errOther }

// Renew fails here.
func (*Holder) Renew(context.Context) ([]Address, error) { return nil, errOther }

// Repeat fails here.
func (*Holder) Repeat(time.Time) (time.Time, error) { return time.Time{}, errOther }
