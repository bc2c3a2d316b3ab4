//go:build !linux

package wireguard

import "errors"

// kernelDevice is for Linux only.
func kernelDevice(string) error { return errors.ErrUnsupported }
