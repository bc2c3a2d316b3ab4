package host

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// sourced are the routes of somebody else's that have an address as their source, what others go by first. The kernel's own go with
// the address, and ours are put back by themselves.
func (v *view) sourced(a netip.Addr) ([]netlink.Route, error) {
	list, err := v.nl.RouteListFiltered(family(a.Is6()), &netlink.Route{Table: unix.RT_TABLE_UNSPEC, Src: a.AsSlice()}, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_SRC)
	if err != nil {
		return nil, fmt.Errorf("list routes from %v: %w", a, err)
	}
	list = slices.DeleteFunc(list, func(r netlink.Route) bool { return r.Protocol == unix.RTPROT_KERNEL || r.Protocol == Protocol })
	slices.SortStableFunc(list, func(a, b netlink.Route) int { return hops(a) - hops(b) })
	return list, nil
}

// hops is how many next hops a route has that are found by other routes.
func hops(r netlink.Route) int {
	if len(r.Gw) > 0 {
		return 1
	}
	return len(r.MultiPath)
}

// unsource keeps routes that an address would take with it, or that would go on sending from it when it is gone. The kernel deletes
// those of IPv4 in the main table, a default route among them, and leaves those in others (fib_sync_down_addr in
// net/ipv4/fib_semantics.c); those of IPv6 it leaves where they are another device's (fib6_remove_prefsrc in net/ipv6/route.c).
// They are made again, without a source, before the address goes.
func (r *run) unsource(v *view, a address) error {
	all, err := v.addresses()
	if err != nil {
		return err
	}
	stays := func(h holding) bool { return h.prefix.Addr() == a.addr && h.device != a.device }
	wanted := func(in Instance) bool { return in.Space == v.space && slices.Contains(in.VIPs, a.addr) }
	if slices.ContainsFunc(all, stays) || r.dry && slices.ContainsFunc(r.host.cfg.Instances, wanted) {
		return nil
	}
	routes, err := v.sourced(a.addr)
	if err != nil {
		return err
	}
	for _, to := range routes {
		c := Change{Space: v.space, Object: v.describe(to), From: "src " + a.addr.String(), To: "no source of its own",
			Why: "it would go with the address, or send from it for ever; where the address comes back set the source again"}
		if !r.dry {
			if err := v.withoutSource(to); err != nil {
				return fmt.Errorf("%s has the VIP for its source and would go with it; making it again without: %w; change it, then try again", c.Object, err)
			}
		}
		r.changes = append(r.changes, c)
	}
	return nil
}

// withoutSource makes a route one that has no source of its own; at no time there is none.
func (v *view) withoutSource(was netlink.Route) error {
	to := was
	to.Src, to.Flags = nil, was.Flags&unix.RTNH_F_ONLINK
	if was.Src.To4() == nil {
		return v.nl.RouteReplace(&to)
	}
	if err := v.nl.RouteAppend(&to); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	return v.nl.RouteDel(&was)
}

func (v *view) describe(r netlink.Route) string {
	s := "route to default"
	if r.Dst != nil && !(unspecified(r.Dst.IP) && prefixOf(r.Dst).Bits() == 0) {
		s = "route to " + prefixOf(r.Dst).String()
	}
	if len(r.Gw) > 0 {
		s += " via " + r.Gw.String()
	}
	if l, err := v.nl.LinkByIndex(r.LinkIndex); err == nil && r.LinkIndex > 0 {
		s += " dev " + l.Attrs().Name
	}
	if r.Table != unix.RT_TABLE_MAIN {
		s += fmt.Sprintf(" in table %d", r.Table)
	}
	return s
}
