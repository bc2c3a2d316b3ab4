package lab

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
)

// Decap4 and Decap6 are the names of the devices at which a real server takes packets out of IPIP.
const (
	Decap4 = "decap4"
	Decap6 = "decap6"
)

// decapsulate makes a real server take packets for the virtual IP out of IPIP that comes to its own address from any.
func (r *RealServer) decapsulate() error {
	for _, a := range r.DR.Addrs {
		var link netlink.Link = &netlink.Iptun{LinkAttrs: netlink.LinkAttrs{Name: Decap4}, Local: a.AsSlice()}
		if a.Is6() {
			link = &netlink.Ip6tnl{LinkAttrs: netlink.LinkAttrs{Name: Decap6}, Local: a.AsSlice()}
		}
		if err := r.NS.nl.LinkAdd(link); err != nil {
			return fmt.Errorf("add %s in %s: %w", link.Attrs().Name, r.NS.Name, err)
		}
		// What comes out has the virtual IP, on lo, for its destination, and a source that is routed by another interface.
		err := errors.Join(r.NS.up(link.Attrs().Name), r.NS.Sysctl(map[string]string{"ipv4/conf/" + link.Attrs().Name + "/rp_filter": "0"}))
		if err != nil {
			return err
		}
	}
	return nil
}
