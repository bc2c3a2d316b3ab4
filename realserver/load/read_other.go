//go:build !linux

package load

import (
	"context"
	"errors"

	"tunneldirector/realserver/space"
	"tunneldirector/realserver/terminator"
)

func read(context.Context, space.Space, terminator.Work, map[taskID]*thread) (reading, error) {
	return reading{}, errors.ErrUnsupported
}
