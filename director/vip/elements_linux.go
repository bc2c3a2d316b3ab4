package vip

import (
	"net/netip"

	"github.com/google/nftables"
)

// elements are a set's members by their bytes.
type elements map[string]nftables.SetElement

func (e elements) add(el nftables.SetElement) {
	if len(el.KeyEnd) == 0 {
		el.KeyEnd = nil
	}
	e[string(el.Key)+"-"+string(el.KeyEnd)] = el
}

// elements are w's members of each set, by the set's name.
func (w Wanted) elements() map[string]elements {
	m := map[string]elements{setVIP4: {}, setVIP6: {}, setCover4: {}, setCover6: {}}
	for _, a := range w.VIPs {
		name := setVIP6
		if a.Is4() {
			name = setVIP4
		}
		m[name].add(nftables.SetElement{Key: a.AsSlice()})
	}
	for ifname, covers := range w.SubnetInterfaces {
		for _, p := range outermost(covers) {
			name := setCover6
			if p.Addr().Is4() {
				name = setCover4
			}
			m[name].add(nftables.SetElement{Key: coverKey(ifname, p.Addr()), KeyEnd: coverKey(ifname, lastAddr(p))})
		}
	}
	return m
}

func coverKey(ifname string, a netip.Addr) []byte {
	key := make([]byte, 16, 32)
	copy(key, ifname)
	return append(key, a.AsSlice()...)
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

// diff is what is to be added to and removed from have.
func diff(have, want elements) (add, remove []nftables.SetElement) {
	for k, e := range want {
		if _, ok := have[k]; !ok {
			add = append(add, e)
		}
	}
	for k, e := range have {
		if _, ok := want[k]; !ok {
			remove = append(remove, e)
		}
	}
	return add, remove
}
