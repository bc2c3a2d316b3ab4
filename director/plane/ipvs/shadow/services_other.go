//go:build !linux

package shadow

import (
	"fmt"

	"tunneldirector/director/plane"
)

func readServices() ([]service, error) {
	return nil, fmt.Errorf("IPVS needs Linux: %w", plane.ErrUnsupported)
}
