//go:build !linux

package fastd

import (
	"errors"
	"net"
	"net/netip"
)

func listener(*net.UnixConn) (int, error) { return 0, nil }

func hangUp(int) error { return errors.ErrUnsupported }

func nudge(_, _ netip.AddrPort) error { return errors.ErrUnsupported }
