package shadow

import (
	"fmt"
	"net/netip"

	"github.com/moby/ipvs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tunneldirector/director/plane"
)

// readServices reads them in the network namespace of the calling thread.
func readServices() ([]service, error) {
	// The library would load IPVS, and complain where it cannot.
	if _, err := netlink.GenlFamilyGet("IPVS"); err != nil {
		return nil, fmt.Errorf("the kernel has no IPVS (module ip_vs): %w: %w", plane.ErrUnsupported, err)
	}
	h, err := ipvs.New("")
	if err != nil {
		return nil, fmt.Errorf("open IPVS: %w", err)
	}
	defer h.Close()
	all, err := h.GetServices()
	if err != nil {
		return nil, fmt.Errorf("read virtual services: %w", err)
	}
	var out []service
	for _, s := range all {
		dests, err := h.GetDestinations(s)
		if err != nil {
			return nil, fmt.Errorf("read the real servers of %v port %d: %w", s.Address, s.Port, err)
		}
		ours := service{mark: s.FWMark, protocol: uint8(s.Protocol)}
		if a, ok := addrOf(s.Address, s.AddressFamily); ok {
			ours.addr = netip.AddrPortFrom(a, s.Port)
		}
		for _, d := range dests {
			if a, ok := addrOf(d.Address, d.AddressFamily); ok {
				ours.servers = append(ours.servers, a)
			}
		}
		out = append(out, ours)
	}
	return out, nil
}

func addrOf(ip []byte, family uint16) (netip.Addr, bool) {
	a, ok := netip.AddrFromSlice(ip)
	if family == unix.AF_INET {
		a = a.Unmap()
	}
	return a, ok
}
