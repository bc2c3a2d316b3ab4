package host

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Protocol marks our routes and rules; `ip -details route` shows it as proto 126.
const Protocol = 126

const (
	rulePriority = 7600 // after local (0), before main (32766)
	firstTable   = 7600
	tables       = 400
)

// A route is one in a table of ours: "dev DEVICE [via GATEWAY] [src SOURCE]".
type route struct {
	to    netip.Prefix
	table int
}

func (r route) key() string           { return fmt.Sprintf("route %v %d", r.to, r.table) }
func (r route) String() string        { return fmt.Sprintf("route to %v in table %d", r.to, r.table) }
func (r route) object() bool          { return true }
func (r route) same(a, b string) bool { return a == b }

// way is a route's value.
func way(device string, via, src netip.Addr) string {
	s := "dev " + device
	if via.IsValid() {
		s += " via " + via.String()
	}
	if src.IsValid() {
		s += " src " + src.String()
	}
	return s
}

func (r route) read(v *view) (string, error) {
	list, err := v.nl.RouteListFiltered(family(r.to.Addr().Is6()), &netlink.Route{Table: r.table}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return "", err
	}
	for _, have := range list {
		to := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if r.to.Addr().Is6() {
			to = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		if have.Dst != nil {
			to = prefixOf(have.Dst)
		}
		if to != r.to {
			continue
		}
		if have.Protocol != Protocol {
			return "somebody else's", nil
		}
		l, err := v.nl.LinkByIndex(have.LinkIndex)
		if err != nil {
			return "", err
		}
		via, _ := netip.AddrFromSlice(have.Gw)
		src, _ := netip.AddrFromSlice(have.Src)
		return way(l.Attrs().Name, via.Unmap(), src.Unmap()), nil
	}
	return "", nil
}

func (r route) write(v *view, value string) error {
	to := &netlink.Route{Family: family(r.to.Addr().Is6()), Dst: ipNet(r.to), Table: r.table, Protocol: Protocol}
	if value == "" {
		to.Scope = unix.RT_SCOPE_NOWHERE // any
		err := v.nl.RouteDel(to)
		if errors.Is(err, unix.ESRCH) {
			return nil
		}
		return err
	}
	f := strings.Fields(value)
	if len(f) < 2 {
		return fmt.Errorf("%q is no way", value)
	}
	l, err := v.nl.LinkByName(f[1])
	if err != nil {
		return err
	}
	to.LinkIndex, to.Scope = l.Attrs().Index, unix.RT_SCOPE_LINK
	for pair := range slices.Chunk(f[2:], 2) {
		a, err := netip.ParseAddr(pair[len(pair)-1])
		if err != nil {
			return err
		}
		if pair[0] == "via" {
			to.Gw, to.Scope = a.AsSlice(), unix.RT_SCOPE_UNIVERSE
		} else {
			to.Src = a.AsSlice()
		}
	}
	if r.to.Addr().Is6() {
		to.Scope = unix.RT_SCOPE_UNIVERSE // the kernel knows no other
	}
	return v.nl.RouteReplace(to)
}

// A rule sends what has a source ("192.0.2.1") or a mark ("mark:7") to a table.
type rule struct {
	match string
	v6    bool
	table int
}

func (r rule) key() string { return fmt.Sprintf("rule %s %s %d", number(r.v6), r.match, r.table) }
func (r rule) String() string {
	return fmt.Sprintf("rule of IPv%s for %s to table %d", number(r.v6), r.match, r.table)
}
func (r rule) object() bool          { return true }
func (r rule) same(a, b string) bool { return a == b }
func (r rule) want() string          { return strconv.Itoa(r.table) }

func (r rule) rule() (*netlink.Rule, error) {
	out := netlink.NewRule()
	out.Family, out.Priority, out.Table, out.Protocol = family(r.v6), rulePriority, r.table, Protocol
	if mark, ok := strings.CutPrefix(r.match, "mark:"); ok {
		n, err := strconv.ParseUint(mark, 10, 32)
		out.Mark = uint32(n)
		return out, err
	}
	a, err := netip.ParseAddr(r.match)
	if err == nil {
		out.Src = ipNet(single(a))
	}
	return out, err
}

func (r rule) read(v *view) (string, error) {
	want, err := r.rule()
	if err != nil {
		return "", err
	}
	list, err := v.nl.RuleListFiltered(want.Family, want, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_PRIORITY)
	if err != nil {
		return "", err
	}
	for _, have := range list {
		if have.Protocol == Protocol && have.Mark == want.Mark && fmt.Sprint(have.Src) == fmt.Sprint(want.Src) {
			return r.want(), nil
		}
	}
	return "", nil
}

func (r rule) write(v *view, value string) error {
	out, err := r.rule()
	if err != nil {
		return err
	}
	if value == "" {
		err := v.nl.RuleDel(out)
		if errors.Is(err, unix.ENOENT) {
			return nil
		}
		return err
	}
	return v.nl.RuleAdd(out)
}
