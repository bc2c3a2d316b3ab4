package ipvs

import (
	"iter"
	"net/netip"
	"slices"

	"tunneldirector/director/plane"
)

// shards is into how many parts a VIP's pins are cut, so that a refresh holds the lock for a part only.
const shards = 1024

// A vip is a virtual IP: the ports under which each of its pins has an entry in the kernel, and the pins.
type vip struct {
	addr   netip.Addr
	ports  []uint16 // ascending; empty while no service is there
	esp    bool     // a service there has ESP or AH
	pins   [shards]map[netip.AddrPort]plane.Target
	kinds  map[kind]int       // how many pins of each kind there are
	spots  map[netip.Addr]int // addresses that have pins by port -> how many
	turned bool               // a kind came or went since this was cleared
}

// A kind is what a pin's entries have in common: where they go, and whether they name a source port.
type kind struct {
	target plane.Target
	exact  bool
}

func newVIP(addr netip.Addr) *vip {
	return &vip{addr: addr, kinds: map[kind]int{}, spots: map[netip.Addr]int{}}
}

// shardOf spreads endpoints evenly and keeps all pins of one address together.
func shardOf(a netip.Addr) uint32 { return plane.HashAddr(a) % shards }

func (v *vip) get(e netip.AddrPort) (plane.Target, bool) {
	t, ok := v.pins[shardOf(e.Addr())][e]
	return t, ok
}

// set pins e.
func (v *vip) set(e netip.AddrPort, t plane.Target) {
	if was, ok := v.get(e); ok && was == t {
		return
	}
	v.drop(e)
	m := v.pins[shardOf(e.Addr())]
	if m == nil {
		m = map[netip.AddrPort]plane.Target{}
		v.pins[shardOf(e.Addr())] = m
	}
	m[e] = t
	k := kind{t, e.Port() != 0}
	if v.kinds[k]++; v.kinds[k] == 1 {
		v.turned = true
	}
	if e.Port() != 0 {
		v.spots[e.Addr()]++
	}
}

// drop forgets e, and tells whether it was pinned.
func (v *vip) drop(e netip.AddrPort) bool {
	m := v.pins[shardOf(e.Addr())]
	t, ok := m[e]
	if !ok {
		return false
	}
	delete(m, e)
	k := kind{t, e.Port() != 0}
	if v.kinds[k]--; v.kinds[k] == 0 {
		delete(v.kinds, k)
		v.turned = true
	}
	if e.Port() != 0 {
		if v.spots[e.Addr()]--; v.spots[e.Addr()] == 0 {
			delete(v.spots, e.Addr())
		}
	}
	return true
}

// all goes through the pins.
func (v *vip) all() iter.Seq2[netip.AddrPort, plane.Target] {
	return func(yield func(netip.AddrPort, plane.Target) bool) {
		for _, m := range v.pins {
			for e, t := range m {
				if !yield(e, t) {
					return
				}
			}
		}
	}
}

// at are the pins of one address: those by port first, in ascending order, then the one for any port.
func (v *vip) at(a netip.Addr) []netip.AddrPort {
	var out []netip.AddrPort
	if v.spots[a] > 0 {
		for e := range v.pins[shardOf(a)] {
			if e.Addr() == a && e.Port() != 0 {
				out = append(out, e)
			}
		}
		slices.SortFunc(out, netip.AddrPort.Compare)
	}
	if bare := netip.AddrPortFrom(a, 0); v.has(bare) {
		out = append(out, bare)
	}
	return out
}

func (v *vip) has(e netip.AddrPort) bool { _, ok := v.get(e); return ok }
