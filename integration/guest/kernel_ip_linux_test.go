package guest

import (
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Tunnels that are an IP protocol of their own. IPIP is protocol 4, IPv4 inside, at either VIP.
var (
	gre = kind{"gre", []string{"gre"}, func(e end) error {
		return e.add(&netlink.Gretun{
			LinkAttrs: netlink.LinkAttrs{Name: e.device("gre-")}, Local: e.local.AsSlice(), Remote: e.remote.AsSlice(), Ttl: 64, PMtuDisc: 1,
		}, false)
	}}
	gretap = kind{"gretap", []string{"gre"}, func(e end) error {
		return e.add(&netlink.Gretap{
			LinkAttrs: netlink.LinkAttrs{Name: e.device("tap-")}, Local: e.local.AsSlice(), Remote: e.remote.AsSlice(), Ttl: 64, PMtuDisc: 1,
		}, true)
	}}
	ipip = kind{"ipip", []string{"ipip"}, func(e end) error {
		a := netlink.LinkAttrs{Name: e.device("ipip-")}
		if e.local.Is4() {
			return e.add(&netlink.Iptun{LinkAttrs: a, Local: e.local.AsSlice(), Remote: e.remote.AsSlice(), Ttl: 64, PMtuDisc: 1, Proto: unix.IPPROTO_IPIP}, false)
		}
		// The encapsulation limit is a destination option before the inner packet.
		return e.add(&netlink.Ip6tnl{LinkAttrs: a, Local: e.local.AsSlice(), Remote: e.remote.AsSlice(), Ttl: 64, EncapLimit: 4, Proto: unix.IPPROTO_IPIP}, false)
	}}
)

func (e end) add(l netlink.Link, layer2 bool) error {
	if err := netlink.LinkAdd(l); err != nil {
		return fmt.Errorf("add %s %s: %w", l.Type(), l.Attrs().Name, err)
	}
	return e.raise(l.Attrs().Name, layer2)
}
