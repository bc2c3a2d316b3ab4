package affinity

import (
	"cmp"
	"encoding/binary"
	"net/netip"

	"github.com/tidwall/btree"
)

// A claim is one tunnel's wish for one key. Claims of one key stand together, the holder's first: the oldest creation
// stamp, then the lowest id.
type claim struct {
	space   uint16 // VIP number, or tenant number
	addr    bits128
	low     uint16 // port, or prefix length counted in the 128-bit form
	created Stamp
	id      string
}

func (c *claim) key() claim { return claim{space: c.space, addr: c.addr, low: c.low} }

func claimLess(a, b claim) bool {
	if a.space != b.space {
		return a.space < b.space
	}
	if c := a.addr.compare(b.addr); c != 0 {
		return c < 0
	}
	if a.low != b.low {
		return a.low < b.low
	}
	if a.created != b.created {
		return a.created < b.created
	}
	return a.id < b.id
}

// subnetLess puts the tenant after the prefix, so that overlaps across tenants are neighbours.
func subnetLess(a, b claim) bool {
	if c := a.addr.compare(b.addr); c != 0 {
		return c < 0
	}
	if a.low != b.low {
		return a.low < b.low
	}
	if a.space != b.space {
		return a.space < b.space
	}
	if a.created != b.created {
		return a.created < b.created
	}
	return a.id < b.id
}

// bits128 is an address, IPv4 mapped into ::ffff:0:0/96, in a form that compares fast.
type bits128 struct{ high, low uint64 }

func bitsOf(a netip.Addr) bits128 {
	b := a.As16()
	return bits128{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

func (b bits128) netip() netip.Addr {
	var a [16]byte
	binary.BigEndian.PutUint64(a[:8], b.high)
	binary.BigEndian.PutUint64(a[8:], b.low)
	return netip.AddrFrom16(a).Unmap()
}

func (b bits128) compare(o bits128) int {
	if b.high != o.high {
		return cmp.Compare(b.high, o.high)
	}
	return cmp.Compare(b.low, o.low)
}

// claims is a set of claims in order, and the keys that have several.
type claims struct {
	all     *btree.BTreeG[claim]
	crowded *btree.BTreeG[claim] // keys
}

func newClaims(less func(a, b claim) bool) claims {
	options := btree.Options{NoLocks: true, Degree: 32}
	return claims{btree.NewBTreeGOptions(less, options), btree.NewBTreeGOptions(less, options)}
}

func (c claims) clone() claims { return claims{c.all.Copy(), c.crowded.Copy()} }

func (c claims) lay(x claim) {
	c.all.Set(x)
	if c.several(x.key()) {
		c.crowded.Set(x.key())
	}
}

func (c claims) drop(x claim) {
	c.all.Delete(x)
	if c.crowded.Len() > 0 && !c.several(x.key()) {
		c.crowded.Delete(x.key())
	}
}

func (c claims) several(key claim) bool {
	n := 0
	c.each(key, func(claim) bool { n++; return n < 2 })
	return n == 2
}

// holder is the first claim of a key.
func (c claims) holder(key claim) (holder claim, ok bool) {
	c.all.Ascend(key, func(x claim) bool {
		holder, ok = x, x.key() == key
		return false
	})
	return holder, ok
}

// each calls f for every claim of a key, the holder's first, until it returns false.
func (c claims) each(key claim, f func(claim) bool) {
	c.all.Ascend(key, func(x claim) bool { return x.key() == key && f(x) })
}

// lengthOf is a prefix's length in the 128-bit form.
func lengthOf(p netip.Prefix) uint16 {
	if p.Addr().Is4() {
		return uint16(p.Bits() + 96)
	}
	return uint16(p.Bits())
}

func prefixOf(c claim) netip.Prefix {
	if a := c.addr.netip(); a.Is6() {
		return netip.PrefixFrom(a, int(c.low))
	}
	return netip.PrefixFrom(c.addr.netip(), int(c.low)-96)
}

// An EndpointKey is what a packet of the tunnel side is looked up by.
type EndpointKey struct {
	VIP  netip.Addr
	Addr netip.Addr
	Port uint16 // 0: any
}

// A SubnetKey is a subnet of a tenant.
type SubnetKey struct {
	Tenant uint16 // number
	Prefix netip.Prefix
}
