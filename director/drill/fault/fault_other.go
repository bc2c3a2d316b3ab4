//go:build !linux

package fault

import (
	"context"
	"errors"
	"time"
)

// Do is an Effect's; only Linux has the means.
func (*Cut) Do(context.Context, string, time.Duration) error { return errors.ErrUnsupported }

// Undo has nothing to undo.
func (*Cut) Undo(context.Context, string) error { return nil }

// Do is an Effect's; only Linux has the means.
func (*Ballast) Do(context.Context, string, time.Duration) error { return errors.ErrUnsupported }

// Undo has nothing to undo.
func (*Ballast) Undo(context.Context, string) error { return nil }

func find(int) (Process, bool, error) { return Process{}, false, errors.ErrUnsupported }

func stop([]Process) (int, error)   { return 0, errors.ErrUnsupported }
func resume([]Process) (int, error) { return 0, nil }
func kill([]Process) (int, error)   { return 0, errors.ErrUnsupported }

func start(context.Context, string, []string) error { return errors.ErrUnsupported }
