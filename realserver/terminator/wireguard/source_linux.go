package wireguard

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// source is the address that the kernel takes for packets to a site, by the routes of the thread's namespace.
func source(mark uint32, site netip.Addr) (netip.Addr, error) {
	h, err := netlink.NewHandle()
	if err != nil {
		return netip.Addr{}, fmt.Errorf("open netlink: %w", err)
	}
	defer h.Close()
	routes, err := h.RouteGetWithOptions(site.AsSlice(), &netlink.RouteGetOptions{Mark: mark})
	if err != nil {
		return netip.Addr{}, err
	}
	for _, r := range routes {
		if a, ok := netip.AddrFromSlice(r.Src); ok {
			return a.Unmap(), nil
		}
	}
	return netip.Addr{}, fmt.Errorf("the kernel names no source address")
}
