//go:build !linux

package wireguard

import (
	"errors"
	"net"
)

// listener is for Linux only.
func listener(*net.UnixConn) ([]int, error) { return nil, errors.ErrUnsupported }
