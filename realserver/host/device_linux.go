package host

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A device is one that we make: "dummy", "ipip ADDRESS" or "ip6tnl ADDRESS". The tunnels take packets from any sender that were
// sent to the address, which goes before the modules' own devices (tunl0, ip6tnl0) and before one in external mode
// (ip_tunnel_lookup in net/ipv4/ip_tunnel.c, ip6_tnl_lookup in net/ipv6/ip6_tunnel.c).
type device struct{ name string }

func (d device) key() string           { return "link " + d.name }
func (d device) String() string        { return "device " + d.name }
func (d device) object() bool          { return true }
func (d device) same(a, b string) bool { return a == b }

func (d device) read(v *view) (string, error) {
	l, err := v.link(d.name)
	if err != nil || l == nil {
		return "", err
	}
	return deviceValue(l), nil
}

func deviceValue(l netlink.Link) string {
	switch l := l.(type) {
	case *netlink.Iptun:
		if !l.FlowBased && unspecified(l.Remote) {
			return "ipip " + l.Local.String()
		}
	case *netlink.Ip6tnl:
		if !l.FlowBased && unspecified(l.Remote) {
			return "ip6tnl " + l.Local.String()
		}
	}
	return l.Type()
}

func unspecified(ip net.IP) bool { return len(ip) == 0 || ip.IsUnspecified() }

func (d device) write(v *view, value string) error {
	l, err := v.link(d.name)
	if err == nil && l != nil {
		err = v.nl.LinkDel(l)
	}
	if err != nil || value == "" {
		return err
	}
	kind, local, _ := strings.Cut(value, " ")
	attrs := netlink.NewLinkAttrs()
	attrs.Name = d.name
	var made netlink.Link = &netlink.Dummy{LinkAttrs: attrs}
	module := kind
	if kind != "dummy" {
		a, err := netip.ParseAddr(local)
		if err != nil {
			return err
		}
		if a.Is6() {
			made, module = &netlink.Ip6tnl{LinkAttrs: attrs, Local: a.AsSlice(), Proto: unix.IPPROTO_IPV6}, "ip6_tunnel"
		} else {
			made = &netlink.Iptun{LinkAttrs: attrs, Local: a.AsSlice(), Proto: unix.IPPROTO_IPIP}
		}
	}
	err = v.nl.LinkAdd(made)
	switch {
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOENT):
		return fmt.Errorf("%w: the kernel lacks devices of kind %s (module %s)", errors.ErrUnsupported, kind, module)
	case errors.Is(err, unix.EEXIST):
		return fmt.Errorf("%w: another device of kind %s takes what comes to %s", err, kind, local)
	case err != nil:
		return err
	}
	if l, err = v.nl.LinkByName(d.name); err != nil {
		return err
	}
	const noAddress = 1 // IN6_ADDR_GEN_MODE_NONE
	if err := v.nl.LinkSetIP6AddrGenMode(l, noAddress); err != nil && !errors.Is(err, unix.EAFNOSUPPORT) {
		return errors.Join(err, v.nl.LinkDel(l))
	}
	return nil
}
