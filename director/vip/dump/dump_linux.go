package dump

import (
	"errors"
	"time"

	"github.com/vishvananda/netlink"
)

const (
	readings = 10
	pause    = 5 * time.Millisecond // before the next one
)

// Whole reads a list, and again when it changed meanwhile. The error is the last one's when it never held still.
func Whole[T any](read func() ([]T, error)) (list []T, err error) {
	for range readings {
		if list, err = read(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return list, err
		}
		time.Sleep(pause)
	}
	return nil, err
}
