//go:build !linux

package doctor

import (
	"errors"
	"net/netip"

	"tunneldirector/director/api"
)

// Way is how the kernel reaches an address: not known here.
func Way(a netip.Addr) api.NextHop {
	return api.NextHop{Address: a.String(), Why: errors.ErrUnsupported.Error()}
}

func knownAt(string) ([]string, error)   { return nil, errors.ErrUnsupported }
func mtuOf(string) (int, error)          { return 0, errors.ErrUnsupported }
func unsynchronised() (free, known bool) { return false, false }
