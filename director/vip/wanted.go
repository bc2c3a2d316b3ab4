package vip

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
)

// Wanted is all that the filter is to close. It is always given whole.
type Wanted struct {
	VIPs             []netip.Addr              // of all services, whether held here or not
	SubnetInterfaces map[string][]netip.Prefix // interface of role subnet -> the covering prefixes of its tenants
	// Routed are the interfaces by which packets into a cover may leave all the same: those towards real servers, where the
	// kernel's routing is the data plane (plane ipvs). Empty: none may.
	Routed []string
}

// Changes tells what a call had to do; all zero means that everything was in place already. The filter's part counts set
// elements.
type Changes struct {
	Built            bool // the table was not there, or not as it should be, and was made anew
	FilterAdded      int
	FilterRemoved    int
	AddressesAdded   []Address
	AddressesRemoved []Address
}

// Any tells whether anything was changed.
func (c Changes) Any() bool {
	return c.Built || c.FilterAdded+c.FilterRemoved+len(c.AddressesAdded)+len(c.AddressesRemoved) > 0
}

// An Address is a held address on an interface.
type Address struct {
	Addr      netip.Addr
	Interface string
}

func (a Address) String() string { return a.Addr.String() + " on " + a.Interface }

const maxInterfaceName = 15 // IFNAMSIZ less its zero byte

// validate refuses what must never be closed, with all faults at once.
func (w Wanted) validate() error {
	var errs []error
	for _, a := range w.VIPs {
		errs = append(errs, valid(a, virtual))
	}
	for _, name := range append(slices.Sorted(maps.Keys(w.SubnetInterfaces)), w.Routed...) {
		if name == "" || len(name) > maxInterfaceName {
			errs = append(errs, fmt.Errorf("filter covers on interface %q: not an interface name (1 to %d bytes)", name, maxInterfaceName))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(w.SubnetInterfaces)) {
		for _, p := range w.SubnetInterfaces[name] {
			if !p.IsValid() || p.Addr().Is4In6() || p != p.Masked() {
				errs = append(errs, fmt.Errorf("filter cover %v on interface %s: not a canonical prefix; write %v", p, name, p.Masked()))
			}
		}
	}
	return errors.Join(errs...)
}

// valid refuses addresses that no host on a wire could have.
func valid(a netip.Addr, k kind) error {
	switch {
	case !a.IsValid(), a.Is4In6(), a.Zone() != "", a.IsUnspecified(), a.IsLoopback(), a.IsMulticast(), a.IsLinkLocalUnicast(),
		a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return fmt.Errorf("%v %v: not a global or private unicast address", k, a)
	}
	return nil
}

// outermost is ps without those that lie within another: the kernel's interval sets take no overlaps.
func outermost(ps []netip.Prefix) []netip.Prefix {
	ps = slices.Clone(ps)
	slices.SortFunc(ps, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	var out []netip.Prefix
	for _, p := range ps {
		if n := len(out); n == 0 || !out[n-1].Overlaps(p) {
			out = append(out, p)
		}
	}
	return out
}

// lastAddr is the highest address of a canonical prefix.
func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// union is the addresses of all lists, sorted, each once.
func union(lists ...[]netip.Addr) []netip.Addr {
	all := slices.Concat(lists...)
	slices.SortFunc(all, netip.Addr.Compare)
	return slices.Compact(all)
}

// without is the addresses of a that are not in b.
func without(a, b []netip.Addr) []netip.Addr {
	return slices.DeleteFunc(slices.Clone(a), func(x netip.Addr) bool { return slices.Contains(b, x) })
}
