package ipvs

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
)

// A pair is two incarnations: packets go to primary while that lives, else to backup.
type pair struct{ primary, backup affinity.Index }

func pairOf(t plane.Target) pair { return pair{t.Primary, t.Backup} }

// Nexthop ids carry the pair: what is found in the kernel at a start says by itself what it stands for.
const (
	nexthops4 = 0x7d << 24
	nexthops6 = 0x7e << 24
)

// nexthop is the id of the pair's nexthop object of a family.
func (p pair) nexthop(v6 bool) uint32 {
	id := uint32(nexthops4)
	if v6 {
		id = nexthops6
	}
	return id | uint32(p.primary)<<12 | uint32(p.backup)
}

// pairOfNexthop reads the id of a nexthop object back; ok is false for one that is not ours.
func pairOfNexthop(id uint32) (p pair, v6, ok bool) {
	switch id >> 24 {
	case nexthops4 >> 24:
	case nexthops6 >> 24:
		v6 = true
	default:
		return pair{}, false, false
	}
	return pair{affinity.Index(id >> 12 & 0xfff), affinity.Index(id & 0xfff)}, v6, true
}

// A book of pair addresses: who has which number, for life. Number 0 is nobody's: packets to it are dropped.
type book struct {
	four, six netip.Prefix
	numbers   map[pair]uint32
	pairs     map[uint32]pair
	next      uint32
}

func newBook(four, six netip.Prefix) *book {
	return &book{four: four, six: six, numbers: map[pair]uint32{}, pairs: map[uint32]pair{}, next: 1}
}

// room is how many numbers there are.
func (b *book) room() uint32 {
	bits := min(32-b.four.Bits(), 128-b.six.Bits(), 24)
	return 1 << bits
}

// adopt takes down a number that is in use in the kernel. A number that two pairs have is the first one's.
func (b *book) adopt(p pair, number uint32) {
	if _, taken := b.pairs[number]; taken || number == 0 || number >= b.room() {
		return
	}
	if _, twice := b.numbers[p]; twice {
		return
	}
	b.numbers[p], b.pairs[number] = number, p
}

// number is p's own, for which it may have to take a free one.
func (b *book) number(p pair) (uint32, error) {
	if n, ok := b.numbers[p]; ok {
		return n, nil
	}
	room := b.room()
	for range room {
		n := b.next
		if b.next++; b.next >= room {
			b.next = 1
		}
		if _, taken := b.pairs[n]; !taken && n != 0 {
			b.numbers[p], b.pairs[n] = n, p
			return n, nil
		}
	}
	return 0, fmt.Errorf("find an address for the pair of real servers %d and %d: all %d of %v and %v are in use; configure larger ipvs.pairs", p.primary, p.backup, room-1, b.four, b.six)
}

// free gives p's number back.
func (b *book) free(p pair) {
	if n, ok := b.numbers[p]; ok {
		delete(b.numbers, p)
		delete(b.pairs, n)
	}
}

// addr is the address of a number.
func (b *book) addr(number uint32, v6 bool) netip.Addr {
	if v6 {
		a := b.six.Masked().Addr().As16()
		binary.BigEndian.PutUint32(a[12:], binary.BigEndian.Uint32(a[12:])|number)
		return netip.AddrFrom16(a)
	}
	a := b.four.Masked().Addr().As4()
	binary.BigEndian.PutUint32(a[:], binary.BigEndian.Uint32(a[:])|number)
	return netip.AddrFrom4(a)
}

// numberOf reads an address of the book back; ok is false for any other.
func (b *book) numberOf(a netip.Addr) (number uint32, ok bool) {
	in := b.four
	if a.Is6() {
		in = b.six
	}
	if !in.Contains(a) {
		return 0, false
	}
	raw := a.AsSlice()
	base := in.Masked().Addr().AsSlice()
	n := len(raw)
	return binary.BigEndian.Uint32(raw[n-4:]) &^ binary.BigEndian.Uint32(base[n-4:]), true
}
