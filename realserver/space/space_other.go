//go:build !linux

package space

import "errors"

// A Space is a network namespace; only Linux has any.
type Space string

// Do runs f in the process's own; any other is an error.
func (s Space) Do(f func() error) error {
	if s != "" {
		return errors.ErrUnsupported
	}
	return f()
}
