package vip

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
)

// A spot is where an address is to be.
type spot struct {
	addr  netip.Addr
	kind  kind
	index int // of the interface
	name  string
}

// at tells whether a is this address there, by whichever mark.
func (s spot) at(a address) bool { return a.prefix.Addr() == s.addr && a.index == s.index }

func (s spot) is(a address) bool {
	return s.at(a) && a.protocol == uint8(s.kind) && a.prefix.IsSingleIP()
}

// wanted is where each address is to be, and which interfaces are missing.
func (h *Holder) wanted(all []address, held Held) (spots []spot, errs []error) {
	missing := map[string]bool{}
	numbered := func(name string) bool {
		ifi, err := net.InterfaceByName(name)
		return err != nil || slices.ContainsFunc(all, func(a address) bool { return a.index == ifi.Index && a.prefix.Addr().Is4() && !a.ours() })
	}
	for _, k := range []kind{virtual, gateway} {
		for _, addr := range union(held.of(k)) {
			devices := h.cfg.devices(addr, k, held.Silent, numbered)
			if len(devices) == 0 {
				errs = append(errs, fmt.Errorf("hold %v %v: no interface is of its side; give one the role, or let another director hold it", k, addr))
			}
			for _, name := range devices {
				ifi, err := net.InterfaceByName(name)
				if err != nil {
					if !missing[name] {
						errs = append(errs, fmt.Errorf("hold addresses on interface %s: %w", name, err))
					}
					missing[name] = true
					continue
				}
				spots = append(spots, spot{addr, k, ifi.Index, name})
			}
		}
	}
	return spots, errs
}

// split finds the addresses with our mark, and those of wanted that are on the host without it.
func split(all []address, wanted []netip.Addr) (ours, foreign []address) {
	for _, a := range all {
		switch {
		case a.ours():
			ours = append(ours, a)
		case slices.Contains(wanted, a.prefix.Addr()):
			foreign = append(foreign, a)
		}
	}
	return ours, foreign
}

func addrsOf(list []address) []netip.Addr {
	var out []netip.Addr
	for _, a := range list {
		out = append(out, a.prefix.Addr())
	}
	return out
}

func ifname(index int) string {
	ifi, err := net.InterfaceByIndex(index)
	if err != nil {
		return fmt.Sprintf("number %d", index)
	}
	return ifi.Name
}
