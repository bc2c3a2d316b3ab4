//go:build !linux

package debs

import (
	"errors"
	"fmt"
)

// Lock is for Linux only.
func Lock(dir string) (unlock func(), err error) {
	return nil, fmt.Errorf("lock %s: %w", dir, errors.ErrUnsupported)
}
