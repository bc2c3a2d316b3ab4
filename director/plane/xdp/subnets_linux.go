package xdp

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"

	"github.com/cilium/ebpf"

	"tunneldirector/director/plane"
)

// subnets is the subnets' table on this side of the seam; bpf/subnets.h is the other. Covers are entries of their own
// kind in it; a subnet that is also a cover hides it, and gives it back when it goes.
type subnets struct {
	v4      table[forwardSubnet4Key, forwardTarget]
	v6      table[forwardSubnet6Key, forwardTarget]
	lengths map[lengthsKey]*[129]int // how many entries of each length
	unused  map[lengthsKey]bool      // a length has lost its last entry
	len4    *ebpf.Map
	len6    *ebpf.Map
	covers  map[plane.SubnetKey]bool // as td_covers
	hidden  *ebpf.Map                // td_covers
}

type lengthsKey struct {
	tenant uint16
	v6     bool
}

var coverTarget = forwardTarget{Drop: uint8(plane.DropCover), Cover: 1}

func newSubnets(o *forwardObjects) *subnets {
	s := &subnets{len4: o.TdLengths4, len6: o.TdLengths6, hidden: o.TdCovers, lengths: map[lengthsKey]*[129]int{}, covers: map[plane.SubnetKey]bool{},
		unused: map[lengthsKey]bool{}}
	s.v4 = table[forwardSubnet4Key, forwardTarget]{m: o.TdSubnets4, name: "td_subnets4", option: "MaxSubnets",
		count: func(k forwardSubnet4Key, _ forwardTarget, d int) { s.counted(k.Tenant, false, k.Bits, d) }}
	s.v6 = table[forwardSubnet6Key, forwardTarget]{m: o.TdSubnets6, name: "td_subnets6", option: "MaxSubnets",
		count: func(k forwardSubnet6Key, _ forwardTarget, d int) { s.counted(k.Tenant, true, k.Bits, d) }}
	return s
}

func (s *subnets) counted(tenant uint16, v6 bool, bits uint16, d int) {
	n := s.of(tenant, v6)
	if n[bits] += d; n[bits] == 0 {
		s.unused[lengthsKey{tenant, v6}] = true
	}
}

func (s *subnets) of(tenant uint16, v6 bool) *[129]int {
	k := lengthsKey{tenant, v6}
	if s.lengths[k] == nil {
		s.lengths[k] = new([129]int)
	}
	return s.lengths[k]
}

func (s *subnets) census() error {
	clear(s.lengths)
	if err := s.v4.census(); err != nil {
		return err
	}
	if err := s.v6.census(); err != nil {
		return err
	}
	have, err := readSmall[forwardCoverKey, uint32](s.hidden)
	if err != nil {
		return err
	}
	clear(s.covers)
	for k := range have {
		s.covers[decodeCover(k)] = true
	}
	return nil
}

// A subnetBatch collects what goes into the table in one go.
type subnetBatch struct {
	v4 change[forwardSubnet4Key, forwardTarget]
	v6 change[forwardSubnet6Key, forwardTarget]
}

func (b *subnetBatch) len() int { return len(b.v4.keys) + len(b.v6.keys) }

func (b *subnetBatch) reset() {
	b.v4.reset()
	b.v6.reset()
}

func (b *subnetBatch) add(k plane.SubnetKey, t forwardTarget) {
	if k.Prefix.Addr().Is4() {
		b.v4.add(encodeSubnet4(k), t)
	} else {
		b.v6.add(encodeSubnet6(k), t)
	}
}

func (s *subnets) add(b *subnetBatch, e plane.Entry) error {
	if p := e.Subnet.Prefix; !p.IsValid() || p != p.Masked() {
		return fmt.Errorf("apply subnet %v of tenant %d: not a canonical prefix; write %v", p, e.Subnet.Tenant, p.Masked())
	}
	b.add(e.Subnet, encodeTarget(e.Target))
	return nil
}

// widen makes the program look for the lengths in b, before they are there.
func (s *subnets) widen(b *subnetBatch) error {
	wider := map[lengthsKey]*[129]int{}
	note := func(tenant uint16, v6 bool, bits uint16) {
		if s.of(tenant, v6)[bits] > 0 {
			return
		}
		k := lengthsKey{tenant, v6}
		if wider[k] == nil {
			n := *s.of(tenant, v6)
			wider[k] = &n
		}
		wider[k][bits]++
	}
	for _, k := range b.v4.keys {
		note(k.Tenant, false, k.Bits)
	}
	for _, k := range b.v6.keys {
		note(k.Tenant, true, k.Bits)
	}
	for k, n := range wider {
		if err := s.writeLengths(k, n); err != nil {
			return err
		}
	}
	return nil
}

// narrow makes the program forget lengths that are no more in use.
func (s *subnets) narrow() error {
	for k := range s.unused {
		if err := s.writeLengths(k, s.of(k.tenant, k.v6)); err != nil {
			return err
		}
	}
	clear(s.unused)
	return nil
}

func (s *subnets) writeLengths(k lengthsKey, n *[129]int) error {
	tenant := uint32(k.tenant)
	var v4 forwardLengths4
	var v6 forwardLengths6
	for bits := 128; bits >= 0; bits-- {
		switch {
		case n[bits] == 0:
		case k.v6:
			v6.Bits[v6.N] = uint8(bits)
			v6.N++
		default:
			v4.Bits[v4.N] = uint8(bits)
			v4.N++
		}
	}
	m, value := s.len4, any(&v4)
	if k.v6 {
		m, value = s.len6, &v6
	}
	if v4.N+v6.N == 0 {
		if err := m.Delete(&tenant); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("write prefix lengths of tenant %d: %w", tenant, err)
		}
		return nil
	}
	if err := m.Put(&tenant, value); err != nil {
		return fmt.Errorf("write prefix lengths of tenant %d: %w", tenant, err)
	}
	return nil
}

func (s *subnets) set(b *subnetBatch) error {
	if err := s.widen(b); err != nil {
		return err
	}
	if err := s.v4.set(&b.v4); err != nil {
		return err
	}
	return s.v6.set(&b.v6)
}

// remove deletes the keys, or leaves the cover that they hid.
func (s *subnets) remove(keys []plane.SubnetKey) error {
	var k4 []forwardSubnet4Key
	var k6 []forwardSubnet6Key
	var back subnetBatch
	for _, k := range keys {
		switch {
		case !k.Prefix.IsValid():
		case s.covers[k]:
			back.add(k, coverTarget)
		case k.Prefix.Addr().Is4():
			k4 = append(k4, encodeSubnet4(k))
		default:
			k6 = append(k6, encodeSubnet6(k))
		}
	}
	if err := s.set(&back); err != nil {
		return err
	}
	if err := s.v4.remove(k4); err != nil {
		return err
	}
	if err := s.v6.remove(k6); err != nil {
		return err
	}
	return s.narrow()
}

// look is what is there for k.
func (s *subnets) look(k plane.SubnetKey) (forwardTarget, bool, error) {
	if k.Prefix.Addr().Is4() {
		return s.v4.get(encodeSubnet4(k))
	}
	return s.v6.get(encodeSubnet6(k))
}

// setCovers makes want the covers. New ones are added first, where no subnet hides them.
func (s *subnets) setCovers(want map[plane.SubnetKey]bool) error {
	keys := map[forwardCoverKey]uint32{}
	for k := range want {
		keys[encodeCover(k)] = 1
	}
	if err := grow(s.hidden, keys); err != nil {
		return err
	}
	old := s.covers
	s.covers = want
	err := s.addCovers()
	if err == nil {
		err = s.removeCovers(old)
	}
	if err != nil { // some of old may still be there: the next call sees to them
		s.covers = maps.Clone(want)
		maps.Copy(s.covers, old)
		return err
	}
	return shrink(s.hidden, keys)
}

func (s *subnets) addCovers() error {
	var add subnetBatch
	for k := range s.covers {
		_, there, err := s.look(k)
		if err != nil {
			return err
		}
		if !there {
			add.add(k, coverTarget)
		}
	}
	return s.set(&add)
}

// removeCovers takes those of old away that are no covers any more.
func (s *subnets) removeCovers(old map[plane.SubnetKey]bool) error {
	var gone []plane.SubnetKey
	for k := range old {
		if s.covers[k] {
			continue
		}
		t, there, err := s.look(k)
		if err != nil {
			return err
		}
		if there && t.Cover != 0 {
			gone = append(gone, k)
		}
	}
	return s.remove(gone)
}

// A subnetReplacement is a replacement of both families. Covers are set before and are part of it.
type subnetReplacement struct {
	s  *subnets
	v4 *replacement[forwardSubnet4Key, forwardTarget]
	v6 *replacement[forwardSubnet6Key, forwardTarget]
}

func (s *subnets) replace() (r subnetReplacement, err error) {
	r.s = s
	if r.v4, err = s.v4.replace(); err != nil {
		return r, err
	}
	r.v6, err = s.v6.replace()
	return r, err
}

func (r subnetReplacement) want(b *subnetBatch) error {
	if err := r.s.widen(b); err != nil {
		return err
	}
	if err := r.v4.want(&b.v4); err != nil {
		return err
	}
	return r.v6.want(&b.v6)
}

func (r subnetReplacement) finish() error {
	// What is left is unwanted, or a cover in its place, or one that an unwanted subnet hides.
	var back subnetBatch
	for k := range r.s.covers {
		var left bool
		if e := k.Prefix.Addr(); e.Is4() {
			_, left = r.v4.rest[encodeSubnet4(k)]
		} else {
			_, left = r.v6.rest[encodeSubnet6(k)]
		}
		if left {
			back.add(k, coverTarget)
		}
	}
	if err := r.want(&back); err != nil {
		return err
	}
	if err := r.v4.finish(); err != nil {
		return err
	}
	if err := r.v6.finish(); err != nil {
		return err
	}
	return r.s.narrow()
}

// coversOf are the covers of a configuration.
func coversOf(tenants []plane.Tenant) (map[plane.SubnetKey]bool, error) {
	covers := map[plane.SubnetKey]bool{}
	for _, t := range tenants {
		for _, c := range t.Covers {
			if !c.IsValid() || c != c.Masked() {
				return nil, fmt.Errorf("configure tenant %q: cover %v is not a canonical prefix; write %v", t.Name, c, c.Masked())
			}
			covers[plane.SubnetKey{Tenant: t.Num, Prefix: netip.PrefixFrom(c.Addr(), c.Bits())}] = true
		}
	}
	return covers, nil
}
