//go:build !linux

package beat

import (
	"errors"
	"time"
)

// raise is unsupported.
func raise() error { return errors.ErrUnsupported }

func sleep(d time.Duration) { time.Sleep(d) }
