package host

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tunneldirector/director/vip/dump"
)

// arp looks at what the kernel does with ARP requests (arp_ignore and arp_announce in net/ipv4/arp.c).
func (e *exam) arp() error {
	if !e.in.has(false) {
		return nil
	}
	global := slices.ContainsFunc(e.plan.all, func(h holding) bool {
		return h.scope != unix.RT_SCOPE_HOST && h.prefix.Addr().Is4() && slices.Contains(e.in.VIPs, h.prefix.Addr())
	})
	devices := e.segment()
	for _, d := range devices {
		switch ignore := e.highest(d, "arp_ignore"); {
		case ignore == 1 || ignore == 2 || ignore == 8 || ignore == 3 && !global:
		default:
			e.find("vip-answers-arp", Breaks, fmt.Sprintf("arp_ignore is %d on %s (the maximum of all and the interface's)", ignore, d),
				"the host answers ARP requests for the VIP: tunnels come to it past the director", e.settings(conf4(d, "arp_ignore")+"=1"))
		}
		if announce := e.highest(d, "arp_announce"); announce < 2 {
			e.find("vip-announced-arp", Breaks, fmt.Sprintf("arp_announce is %d on %s (the maximum of all and the interface's)", announce, d),
				"ARP requests for a reply's next hop carry the VIP as their sender: neighbours take this host for its owner",
				e.settings(conf4(d, "arp_announce")+"=2"))
		}
	}
	return e.shared(devices)
}

// shared: several interfaces on one segment.
func (e *exam) shared(devices []string) error {
	mac := e.iface.Attrs().HardwareAddr
	for _, d := range devices {
		if d == e.in.Interface {
			continue
		}
		l, err := e.link(d)
		if err != nil || l == nil {
			return err
		}
		if !e.overlap(d) || e.highest(d, "arp_filter") > 0 {
			continue
		}
		remedy := e.settings(conf4(d, "arp_filter")+"=1", conf4(e.in.Interface, "arp_filter")+"=1")
		if len(mac) > 0 && slices.Equal(mac, l.Attrs().HardwareAddr) && e.highest(e.in.Interface, "arp_filter") == 0 {
			e.find("shared-mac", Risks, fmt.Sprintf("%s and %s are on one segment with the same MAC %v", e.in.Interface, d, mac),
				"switches send packets now to one, now to the other, and what comes by the wrong one may be dropped", remedy)
		}
		if e.highest(d, "arp_ignore") == 0 {
			e.find("arp-flux", Risks, fmt.Sprintf("%s and %s are on one segment, and arp_ignore and arp_filter are 0 on %s", e.in.Interface, d, d),
				"each answers ARP requests for the other's addresses: directors send to the one or the other by chance", remedy)
		}
	}
	return nil
}

// overlap tells whether a device has addresses of the interface's subnets.
func (e *exam) overlap(device string) bool {
	for _, a := range e.plan.all {
		for _, b := range e.plan.all {
			if a.device == e.in.Interface && b.device == device && a.prefix.Addr().Is4() && b.prefix.Addr().Is4() && a.prefix.Overlaps(b.prefix) {
				return true
			}
		}
	}
	return false
}

// neighbours: what the host answers solicitations for although it is no address of the interface (ndisc_recv_ns in
// net/ipv6/ndisc.c). IPv4 has no such thing for an address that is local.
func (e *exam) neighbours() error {
	if e.number(conf6("all", "proxy_ndp")) < 1 && e.number(conf6(e.in.Interface, "proxy_ndp")) < 1 {
		return nil
	}
	list, err := e.nl.NeighProxyList(e.iface.Attrs().Index, netlink.FAMILY_V6)
	if err != nil {
		return fmt.Errorf("list proxy neighbours: %w", err)
	}
	for _, n := range list {
		if a, _ := netip.AddrFromSlice(n.IP); slices.Contains(e.in.VIPs, a) {
			e.find("vip-proxied", Breaks, fmt.Sprintf("the host is a neighbour proxy for the VIP %v on %s", a, e.in.Interface),
				"it answers for the VIP: tunnels come to it past the director", e.command("ip neigh del proxy %v dev %s", a, e.in.Interface))
		}
	}
	return nil
}

// wire asks the segment who has the VIPs and the own address.
func (e *exam) wire() error {
	if e.iface.Attrs().RawFlags&unix.IFF_RUNNING == 0 || e.iface.Attrs().RawFlags&unix.IFF_NOARP != 0 || len(e.iface.Attrs().HardwareAddr) != 6 {
		return nil
	}
	var queries []query
	for _, vip := range e.in.VIPs {
		if vip.Is4() { // to an address of its own, another interface of this host would not answer
			queries = append(queries, query{vip, netip.Addr{}})
		} else if own, err := e.own(true); err == nil {
			queries = append(queries, query{vip, own})
		}
	}
	own, err := e.own(false)
	if err == nil && e.in.has(false) && !e.in.ShareL2 {
		queries = append(queries, query{own, netip.Addr{}})
	}
	macs, err := whoHas(e.ctx, e.in.Interface, queries, hearing)
	if err != nil {
		return err
	}
	for i, q := range queries {
		here, others := e.sort(macs[i])
		if q.addr == own {
			e.ownAnswered(own, here, others)
		} else {
			e.vipAnswered(q.addr, here, others)
		}
	}
	return nil
}

func (e *exam) vipAnswered(vip netip.Addr, here []string, others []net.HardwareAddr) {
	if len(here) > 0 {
		e.find("vip-answered-here", Breaks, fmt.Sprintf("asked on %s who has the VIP %v, this host's %v answered", e.in.Interface, vip, here),
			"tunnels come to this host past the director", "realserver apply; "+e.command("ip address show to %v", vip))
	}
	if len(others) > 1 {
		e.find("vip-taken", Breaks, fmt.Sprintf("asked on %s who has the VIP %v, %d answered: %v", e.in.Interface, vip, len(others), others),
			"one is the director: tunnels go to the other by chance", "find the others by their MACs, and do there what realserver apply does here")
	}
}

func (e *exam) ownAnswered(own netip.Addr, here []string, others []net.HardwareAddr) {
	if len(others) > 0 {
		e.find("own-address-taken", Breaks, fmt.Sprintf("asked on %s who has this host's %v, %v answered", e.in.Interface, own, others),
			"what directors send goes to the one or the other by chance", "give one of them another address; share_l2 where it is on purpose")
	}
	if len(here) > 0 {
		e.find("arp-flux-seen", Risks, fmt.Sprintf("asked on %s who has this host's %v, its own %v answered", e.in.Interface, own, here),
			"directors send to the one interface or the other by chance", "realserver apply")
	}
}

// sort tells this host's MACs from others'.
func (e *exam) sort(macs []net.HardwareAddr) (here []string, others []net.HardwareAddr) {
	links, err := dump.Whole(func() ([]netlink.Link, error) { return e.nl.LinkList() })
	for _, mac := range macs {
		i := slices.IndexFunc(links, func(l netlink.Link) bool { return slices.Equal(l.Attrs().HardwareAddr, mac) })
		if err == nil && i >= 0 {
			here = append(here, links[i].Attrs().Name)
		} else {
			others = append(others, mac)
		}
	}
	return here, others
}
