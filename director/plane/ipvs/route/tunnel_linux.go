package route

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tunneldirector/director/plane"
)

// EnsureTunnel makes the tunnel device of a family that nexthops with Encap leave by, or makes sure of it; it is idempotent,
// and takes effect on nexthops that are set afterwards. The error wraps plane.ErrUnsupported where the kernel has no such
// device, and says so if somebody else has a device in external mode already: the kernel has one a kind and namespace.
//
// The outer header (ip_md_tunnel_xmit in net/ipv4/ip_tunnel.c, ip6_tnl_xmit in net/ipv6/ip6_tunnel.c): TTL or hop limit 64; DF
// in IPv4; the inner TOS in IPv4, but in IPv6 only its ECN bits; the source is the node's on the interface that it leaves
// by. The device gets the MTU of the narrowest way to any outer destination, here and by SetNexthops: what is too big is then found
// before it gets there, segmentation offload or not. The sender has an ICMP error if it is IPv6 or has DF; else its packet
// is cut up before the outer header is put on.
//
// An external device also takes in whatever IPIP is sent to the node. This one drops that (a filter on its ingress): nobody
// can have the node forward a packet by wrapping it.
func (t *Tables) EnsureTunnel(v6 bool) error {
	name := tunnelName(v6)
	err := t.ensureTunnel(v6)
	if err == nil {
		err = t.fitTunnels()
	}
	if err != nil {
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOENT) {
			err = fmt.Errorf("%w: the kernel lacks %s: %w", plane.ErrUnsupported, needs(v6), err)
		}
		return fmt.Errorf("make %s, by which packets leave for real servers of method tunnel: %w", name, err)
	}
	return nil
}

// needs are the kernel's modules.
func needs(v6 bool) string {
	if v6 {
		return "IPv6 tunnels (module ip6_tunnel) or traffic control (sch_ingress, cls_matchall, act_gact)"
	}
	return "IPIP tunnels (module ipip) or traffic control (sch_ingress, cls_matchall, act_gact)"
}

func (t *Tables) ensureTunnel(v6 bool) error {
	l, err := t.links.LinkByName(tunnelName(v6))
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		l, err = t.makeTunnel(v6)
	}
	if err != nil {
		return err
	}
	if !external(l, v6) {
		return fmt.Errorf("there is an interface %s that is no such tunnel device; remove it", l.Attrs().Name)
	}
	const noAddress = 1 // IN6_ADDR_GEN_MODE_NONE
	if err := t.links.LinkSetIP6AddrGenMode(l, noAddress); err != nil && !errors.Is(err, unix.EAFNOSUPPORT) {
		return err
	}
	if err := t.deafen(l); err != nil {
		return err
	}
	return t.links.LinkSetUp(l)
}

func (t *Tables) makeTunnel(v6 bool) (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = tunnelName(v6)
	var l netlink.Link = &netlink.Iptun{LinkAttrs: attrs, FlowBased: true}
	if v6 {
		l = &netlink.Ip6tnl{LinkAttrs: attrs, FlowBased: true}
	}
	if err := t.links.LinkAdd(l); errors.Is(err, unix.EEXIST) {
		return nil, fmt.Errorf("there is another %s device in external mode, of which the kernel has only one: %w", l.Type(), err)
	} else if err != nil {
		return nil, err
	}
	return t.links.LinkByName(attrs.Name)
}

// external tells whether a link is what makeTunnel makes.
func external(l netlink.Link, v6 bool) bool {
	switch l := l.(type) {
	case *netlink.Iptun:
		return !v6 && l.FlowBased
	case *netlink.Ip6tnl:
		return v6 && l.FlowBased
	}
	return false
}

// deafen drops all that comes in by a link.
func (t *Tables) deafen(l netlink.Link) error {
	index := l.Attrs().Index
	ingress := &netlink.Ingress{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_INGRESS}}
	if err := t.links.QdiscAdd(ingress); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("guard its ingress: %w", err)
	}
	filters, err := t.links.FilterList(l, netlink.MakeHandle(0xffff, 0))
	if err != nil {
		return fmt.Errorf("guard its ingress: %w", err)
	}
	if slices.ContainsFunc(filters, func(f netlink.Filter) bool { return f.Type() == "matchall" && f.Attrs().Priority == guardPriority }) {
		return nil
	}
	err = t.links.FilterAdd(&netlink.MatchAll{
		FilterAttrs: netlink.FilterAttrs{LinkIndex: index, Parent: netlink.MakeHandle(0xffff, 0), Priority: guardPriority, Protocol: unix.ETH_P_ALL},
		Actions:     []netlink.Action{&netlink.GenericAction{ActionAttrs: netlink.ActionAttrs{Action: netlink.TC_ACT_SHOT}}},
	})
	if err != nil {
		return fmt.Errorf("guard its ingress: %w", err)
	}
	return nil
}

const guardPriority = 1

// fitTunnels gives our tunnel devices the MTU that the ways to all outer destinations have, less the outer header.
func (t *Tables) fitTunnels() error {
	for _, v6 := range []bool{false, true} {
		outer, least := 20, 576
		if v6 {
			outer, least = 40, 1280
		}
		mtu := 0
		for h := range t.hops {
			if !h.encap || h.v6 != v6 || h.link != tunnelName(v6) {
				continue
			}
			if m := t.pathMTU(h.addr); m > 0 && (mtu == 0 || m < mtu) {
				mtu = m
			}
		}
		if mtu == 0 {
			continue
		}
		l, err := t.links.LinkByName(tunnelName(v6))
		if errors.As(err, &netlink.LinkNotFoundError{}) {
			continue
		}
		if err == nil && l.Attrs().MTU != max(mtu-outer, least) {
			err = t.links.LinkSetMTU(l, max(mtu-outer, least))
		}
		if err != nil {
			return fmt.Errorf("set the MTU of %s: %w", tunnelName(v6), err)
		}
	}
	return nil
}

// pathMTU is 0 where there is no way now.
func (t *Tables) pathMTU(a netip.Addr) int {
	ways, err := t.links.RouteGet(a.AsSlice())
	if err != nil || len(ways) == 0 {
		return 0
	}
	if ways[0].MTU > 0 {
		return ways[0].MTU
	}
	l, err := t.links.LinkByIndex(ways[0].LinkIndex)
	if err != nil {
		return 0
	}
	return l.Attrs().MTU
}

// removeLink removes a link that is ours by its name.
func (t *Tables) removeLink(name string) error {
	l, err := t.links.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err == nil {
		err = t.links.LinkDel(l)
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return nil
}
