package affinity

import (
	"fmt"
	"net/netip"
	"slices"
)

// Address is what an address that directors hold is in the records: a VIP or a gateway, and the directors that are to hold it, the
// first one first; without a list it goes by rank. Of several services at a VIP the first one by name that has a list counts.
func (t *Table) Address(a netip.Addr) (gateway bool, prefer []string, known bool) {
	first := ""
	of := func(name string, list []string) {
		if known = true; len(list) > 0 && (prefer == nil || name < first) {
			first, prefer = name, list
		}
	}
	for _, s := range t.services {
		if slices.Contains(s.VIPs, a) {
			of(s.Name, s.Prefer[a])
		}
	}
	if known {
		return false, prefer, true
	}
	for _, n := range t.tenants {
		if slices.Contains(n.Gateways, a) {
			of(n.Name, n.Prefer[a])
		}
	}
	return known, prefer, known
}

// preferred says where another service has another list of directors for a VIP.
func (t *Table) preferred(s *Service) []Fault {
	var out []Fault
	for _, o := range t.Services() {
		for _, v := range o.VIPs {
			mine, theirs := s.Prefer[v], o.Prefer[v]
			if o.Name != s.Name && len(mine) > 0 && len(theirs) > 0 && !slices.Equal(mine, theirs) {
				out = append(out, Fault{"prefer", v.String(), fmt.Sprintf("is %v, and %v at service %s, which has the VIP too", mine, theirs, o.Name), "a VIP has one holder: give its list at one of the services alone"})
			}
		}
	}
	return out
}

// gatewayInUse says whose gateway an address is already, but for one tenant; nil: for none.
func (t *Table) gatewayInUse(field string, a netip.Addr, but *Tenant) []Fault {
	var out []Fault
	for _, o := range t.Tenants() {
		if (but == nil || o.Name != but.Name) && slices.Contains(o.Gateways, a) {
			out = append(out, Fault{field, a.String(), "is a gateway of tenant " + nameOr(o.Name, "default"), "an address of its own"})
		}
	}
	return out
}
