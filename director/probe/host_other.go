//go:build !linux

package probe

import (
	"fmt"

	"tunneldirector/director/plane"
)

func openHost(Config) (host, error) {
	return nil, fmt.Errorf("%w: AF_PACKET needs Linux", plane.ErrUnsupported)
}
