package plane

import (
	"net/netip"
	"slices"

	"tunneldirector/affinity"
)

// RingSize is the number of slots by which unknown endpoints are spread.
const RingSize = 1024

// HashAddr is the hash of a source address by which unknown endpoints are spread. The eBPF program computes the same:
// the four little-endian 32-bit words of the 16-byte form (IPv4 mapped into ::ffff:0:0/96), each mixed in by
// h = (h ^ word) * 0x9E3779B1, then h ^= h >> 15; at the end MurmurHash3's finaliser, without which neighbouring addresses
// would share a few slots.
func HashAddr(a netip.Addr) uint32 {
	b := a.As16()
	h := uint32(0x811C9DC5)
	for i := 0; i < 16; i += 4 {
		w := uint32(b[i]) | uint32(b[i+1])<<8 | uint32(b[i+2])<<16 | uint32(b[i+3])<<24
		h = (h ^ w) * 0x9E3779B1
		h ^= h >> 15
	}
	return finish(h)
}

// NewRing spreads RingSize slots over real servers by highest random weight, so that one that comes or goes moves only
// its own slots. The backup of a slot is the second choice. Nil if there is nobody.
func NewRing(live []affinity.Index) []Target {
	if len(live) == 0 {
		return nil
	}
	live = slices.Clone(live)
	slices.Sort(live)
	ring := make([]Target, RingSize)
	for slot := range ring {
		var best, second uint32
		t := &ring[slot]
		for _, i := range live {
			switch s := score(uint32(slot), uint32(i)); {
			case t.Primary == 0 || s > best:
				t.Primary, t.Backup = i, t.Primary
				best, second = s, best
			case t.Backup == 0 || s > second:
				t.Backup, second = i, s
			}
		}
	}
	return ring
}

// score is the weight of an index at a slot.
func score(slot, index uint32) uint32 { return finish(slot*0x9E3779B1 ^ index*0x85EBCA77) }

// finish is the finaliser of MurmurHash3: each bit of h decides on each bit of the result.
func finish(h uint32) uint32 {
	h ^= h >> 16
	h *= 0x85EBCA6B
	h ^= h >> 13
	h *= 0xC2B2AE35
	return h ^ h>>16
}
