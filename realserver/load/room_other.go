//go:build !linux

package load

import (
	"context"
	"errors"

	"tunneldirector/realserver/terminator"
)

// Raise is for Linux.
func (r *Room) Raise(context.Context, terminator.Work, Want) ([]string, error) {
	return nil, errors.ErrUnsupported
}

// Lower is for Linux.
func (r *Room) Lower(context.Context, terminator.Work) ([]string, error) {
	return nil, errors.ErrUnsupported
}
