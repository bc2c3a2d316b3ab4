//go:build !linux

package answer

import (
	"errors"
	"net"
	"net/netip"

	"tunneldirector/realserver/space"
)

type identity struct{}

func identify(space.Space) (identity, error) { return identity{}, errors.ErrUnsupported }

func listen(space.Space, netip.AddrPort) (*net.UDPConn, identity, error) {
	return nil, identity{}, errors.ErrUnsupported
}

func (p *port) read([]byte) (question, error) { return question{}, errors.ErrUnsupported }
