//go:build !linux

package strongswan

import (
	"context"
	"errors"

	"tunneldirector/realserver/terminator"
)

// Work is for Linux only.
func (d *Driver) Work(context.Context) (terminator.Work, error) {
	return terminator.Work{}, errors.ErrUnsupported
}
