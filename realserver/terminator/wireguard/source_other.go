//go:build !linux

package wireguard

import (
	"errors"
	"fmt"
	"net/netip"
)

// source is for Linux only.
func source(uint32, netip.Addr) (netip.Addr, error) {
	return netip.Addr{}, fmt.Errorf("look up a route: %w", errors.ErrUnsupported)
}
