package guest

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tunneldirector/integration/lab"
)

// An end is one side of a tunnel that the kernel makes by itself, without a daemon or a negotiation.
type end struct {
	number        int        // of the site, from 1
	server        bool       // the real server's end
	local, remote netip.Addr // outside
	near, far     netip.Prefix
	inside        netip.Addr // of the site, in its subnet
}

// A kind makes an end in the network namespace of the calling thread.
type kind struct {
	name      string
	protocols []string // what a service needs to carry it, as the API names it
	join      func(end) error
}

// siteEnd and serverEnd are the ends of the tunnel of a site with one subnet.
func siteEnd(l *lab.Lab, s *lab.Site) end {
	return end{number: s.Index, local: s.Local, remote: s.VIP, near: s.Subnets[0], far: inner(l)[family(s.Inside[0])], inside: s.Inside[0]}
}

func serverEnd(l *lab.Lab, s *lab.Site) end {
	return end{number: s.Index, server: true, local: s.VIP, remote: s.Endpoint, near: inner(l)[family(s.Inside[0])], far: s.Subnets[0], inside: s.Inside[0]}
}

// family is the index of an address's family in the lab's lists.
func family(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}

// inner are the networks of the target, by family.
func inner(l *lab.Lab) []netip.Prefix {
	var out []netip.Prefix
	for _, a := range l.Target.Inner.Addrs {
		bits := 25
		if a.Is6() {
			bits = 64
		}
		out = append(out, netip.PrefixFrom(a, bits).Masked())
	}
	return out
}

// oneSubnet are sites with one subnet only: of the family of the VIP that they dial, unless the kind is IPIP.
func oneSubnet(k kind, sites ...*lab.Site) []*lab.Site {
	var out []*lab.Site
	for _, s := range sites {
		one, f := *s, family(s.VIP)
		if k.name == ipip.name {
			f = 0
		}
		one.Subnets, one.Inside = s.Subnets[f:f+1], s.Inside[f:f+1]
		out = append(out, &one)
	}
	return out
}

// join makes the ends of sites' tunnels, at the sites and at every real server.
func join(l *lab.Lab, k kind, sites ...*lab.Site) error {
	for _, s := range sites {
		if err := s.NS.Run(func() error { return k.join(siteEnd(l, s)) }); err != nil {
			return fmt.Errorf("%s at %s: %w", k.name, s.Name, err)
		}
		for _, r := range l.RealServers {
			if err := r.NS.Run(func() error { return k.join(serverEnd(l, s)) }); err != nil {
				return fmt.Errorf("%s of %s at %s: %w", k.name, s.Name, r.Name, err)
			}
		}
	}
	return nil
}

// raise sets a tunnel's device up and routes the far network into it. A device of layer 2 is given an address, and the far
// end's for a gateway.
func (e end) raise(name string, layer2 bool) error {
	l, err := netlink.LinkByName(name)
	if err == nil {
		err = netlink.LinkSetUp(l)
	}
	if err != nil {
		return fmt.Errorf("set %s up: %w", name, err)
	}
	r := &netlink.Route{Dst: ipNet(e.far), LinkIndex: l.Attrs().Index}
	if !e.server {
		r.Src = e.inside.AsSlice()
	}
	if layer2 {
		mine, theirs := e.linkAddrs()
		if err := netlink.AddrAdd(l, &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(mine, mine.BitLen()-8)), Flags: unix.IFA_F_NODAD}); err != nil {
			return fmt.Errorf("give %s its address: %w", name, err)
		}
		r.Gw = theirs.AsSlice()
	} else if e.far.Addr().Is4() {
		r.Scope = netlink.SCOPE_LINK
	}
	if err := netlink.RouteReplace(r); err != nil {
		return fmt.Errorf("route %s into %s: %w", e.far, name, err)
	}
	return nil
}

// linkAddrs are the addresses on a layer 2 tunnel's own wire.
func (e end) linkAddrs() (mine, theirs netip.Addr) {
	at := func(host byte) netip.Addr {
		if e.local.Is4() {
			return netip.AddrFrom4([4]byte{10, 22, byte(e.number), host})
		}
		return netip.AddrFrom16([16]byte{0xfd, 0x22, 2: byte(e.number), 15: host})
	}
	if e.server {
		return at(254), at(1)
	}
	return at(1), at(254)
}

func (e end) device(kind string) string { return fmt.Sprintf("%s%d", kind, e.number) }

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
