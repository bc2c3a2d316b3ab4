package doctor

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tunneldirector/director/api"
)

// Way is how the kernel reaches an address now. What it cannot tell it says in Why.
func Way(a netip.Addr) (h api.NextHop) {
	h.Address = a.String()
	routes, err := netlink.RouteGet(a.AsSlice())
	if err != nil || len(routes) == 0 {
		h.Why = fmt.Sprintf("no route to %v: %v", a, err)
		return h
	}
	r, via := routes[0], a
	if gw, ok := netip.AddrFromSlice(r.Gw); ok {
		via = gw.Unmap()
	}
	l, err := netlink.LinkByIndex(r.LinkIndex)
	if err != nil {
		h.Why = fmt.Sprintf("the route to %v is by interface %d: %v", a, r.LinkIndex, err)
		return h
	}
	h.Via, h.Interface, h.MTU = via.String(), l.Attrs().Name, l.Attrs().MTU
	if r.MTU > 0 {
		h.MTU = min(h.MTU, r.MTU)
	}
	list, err := neighbours(via, r.LinkIndex)
	if err != nil {
		h.Why = err.Error()
		return h
	}
	for _, n := range list {
		h.State = stateWord(n.State)
		h.Static = n.State&netlink.NUD_PERMANENT != 0
		if n.State&(netlink.NUD_INCOMPLETE|netlink.NUD_FAILED) == 0 {
			h.MAC = n.HardwareAddr.String()
		}
	}
	return h
}

// neighbours are the entries of an address; of all interfaces with index 0.
func neighbours(a netip.Addr, index int) (out []netlink.Neigh, err error) {
	family := unix.AF_INET
	if a.Is6() {
		family = unix.AF_INET6
	}
	list, err := netlink.NeighList(index, family)
	if err != nil {
		return nil, fmt.Errorf("read the neighbours: %w", err)
	}
	for _, n := range list {
		if x, ok := netip.AddrFromSlice(n.IP); ok && x.Unmap() == a {
			out = append(out, n)
		}
	}
	return out, nil
}

// knownAt are the MAC addresses at which the kernel knows an address.
func knownAt(address string) (macs []string, err error) {
	a, err := netip.ParseAddr(address)
	if err != nil {
		return nil, err
	}
	list, err := neighbours(a, 0)
	for _, n := range list {
		if len(n.HardwareAddr) > 0 {
			macs = append(macs, n.HardwareAddr.String())
		}
	}
	return macs, err
}

func stateWord(state int) string {
	var out []string
	for _, s := range []struct {
		bit  int
		word string
	}{{netlink.NUD_INCOMPLETE, "incomplete"}, {netlink.NUD_REACHABLE, "reachable"}, {netlink.NUD_STALE, "stale"}, {netlink.NUD_DELAY, "delay"}, {netlink.NUD_PROBE, "probe"},
		{netlink.NUD_FAILED, "failed"}, {netlink.NUD_NOARP, "noarp"}, {netlink.NUD_PERMANENT, "permanent"}} {
		if state&s.bit != 0 {
			out = append(out, s.word)
		}
	}
	return strings.Join(out, " ")
}

func mtuOf(name string) (int, error) {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return 0, fmt.Errorf("read the MTU of interface %s: %w", name, err)
	}
	return l.Attrs().MTU, nil
}

// unsynchronised asks the kernel whether anybody keeps its clock right (adjtimex(2)).
func unsynchronised() (free, known bool) {
	var t unix.Timex
	if _, err := unix.Adjtimex(&t); err != nil {
		return false, false
	}
	return t.Status&unix.STA_UNSYNC != 0, true
}
