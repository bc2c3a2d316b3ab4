package director

import (
	"net/netip"
	"slices"
	"strings"

	"tunneldirector/cluster"
)

// Of an address that two directors hold neighbours have been told two things, and the last one counts. That happens where this director
// speaks and is not heard, and another one takes its addresses over; and, for a moment, whenever an address changes hands.
//
//	held ──▶ another one says that it holds it, too ──▶ told again: it has just told neighbours otherwise
//	                        │
//	                        └─ no more, or it is dead ──▶ told again: nobody answers where neighbours look for it
//
// Only its owner has it told again. Silent addresses are told of by nobody.

// rivals are the live directors that say they hold an address, too, in words, for those held here that have any.
func (d *Director) rivals(v cluster.View, h Held) map[netip.Addr]string {
	out := map[netip.Addr]string{}
	list := h.Gateways
	if !h.Silent {
		list = slices.Concat(h.Own, h.Gateways)
	}
	for _, a := range list {
		var names []string
		for _, p := range v.Peers {
			if p.Alive && p.Beat.HoldsAddr(a) {
				names = append(names, p.Member.Name)
			}
		}
		if len(names) > 0 {
			out[a] = strings.Join(names, " ")
		}
	}
	return out
}

// disputed are the addresses of which neighbours are to be told again, by who holds them now beside this director.
func (d *Director) disputed(v cluster.View, h Held, rivals map[netip.Addr]string) (out []netip.Addr) {
	for _, a := range slices.Concat(h.Own, h.Gateways) {
		if _, held := d.joint.holds[a.String()]; !held || rivals[a] == d.joint.rivals[a] {
			continue // what is new is told of in any case
		}
		side, prefer, _ := d.addressOf(a)
		if owner, _ := v.Owner(a, side, prefer, d.o.PreemptAfter); owner == d.o.Name {
			out = append(out, a)
			d.o.Log.Info("neighbours are told again of a held address", "address", a, "held_too_by", rivals[a], "before_by", d.joint.rivals[a])
		}
	}
	return out
}
