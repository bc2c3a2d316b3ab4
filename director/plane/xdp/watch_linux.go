package xdp

import (
	"bytes"
	"fmt"
	"net/netip"
	"time"

	"tunneldirector/director/plane"
)

// What a watch says, for its flags; types.h.
const (
	watchFilter = 1
	watchV4     = 2
	watchV6     = 4
)

// Watch writes td_watch: while what is asked for changes, nobody watches, so that the program goes by no half of it.
func (p *Plane) Watch(w plane.Watch, until time.Time) error {
	next, err := encodeWatch(w)
	if err != nil {
		return err
	}
	end, err := ktimeOf(until)
	if err != nil {
		return err
	}
	p.watchMu.Lock()
	defer p.watchMu.Unlock()
	if err := p.unwatch(); err != nil || end == 0 {
		return err
	}
	for _, next.Until = range []uint64{0, end} {
		if err := p.o.TdWatch.Put(uint32(0), &next); err != nil {
			return fmt.Errorf("watch packets: %w", err)
		}
	}
	return nil
}

// unwatch ends the watch that there is, and leaves what it asks for as it is.
func (p *Plane) unwatch() error {
	var now forwardWatch
	if err := p.o.TdWatch.Lookup(uint32(0), &now); err != nil {
		return fmt.Errorf("read the watch: %w", err)
	}
	if now.Until == 0 {
		return nil
	}
	now.Until = 0
	if err := p.o.TdWatch.Put(uint32(0), &now); err != nil {
		return fmt.Errorf("end the watch: %w", err)
	}
	return nil
}

// ktimeOf is a time of the wall as the program has it; 0: it is over.
func ktimeOf(t time.Time) (uint64, error) {
	now, err := ktime()
	if err != nil {
		return 0, err
	}
	left := time.Until(t)
	if left <= 0 {
		return 0, nil
	}
	return now + uint64(left), nil
}

func encodeWatch(w plane.Watch) (v forwardWatch, err error) {
	for _, side := range []struct {
		field      string
		prefix     netip.Prefix
		want, mask *forwardAddr
	}{{"Src", w.Src, &v.Src, &v.SrcMask}, {"Dst", w.Dst, &v.Dst, &v.DstMask}} {
		switch {
		case side.prefix == netip.Prefix{}:
			continue
		case !side.prefix.IsValid():
			return v, fmt.Errorf("watch packets: %s is not a prefix; give an address and a length, or leave it empty to watch all", side.field)
		case side.prefix.Addr().Is4():
			v.Flags |= watchV4
		default:
			v.Flags |= watchV6
		}
		*side.want, *side.mask = encodeAddr(side.prefix.Masked().Addr()), encodeMask(side.prefix)
	}
	if v.Flags == watchV4|watchV6 {
		return v, fmt.Errorf("watch packets: Src %v and Dst %v are not of one family; give two IPv4 or two IPv6 prefixes", w.Src, w.Dst)
	}
	v.Proto, v.Sport, v.Dport = w.Proto, w.SrcPort, w.DstPort
	if w != (plane.Watch{}) {
		v.Flags |= watchFilter
	}
	return v, nil
}

// encodeMask has a bit for each one of an address that p tells, in the form of encodeAddr.
func encodeMask(p netip.Prefix) forwardAddr {
	ones := netip.AddrFrom16([16]byte(bytes.Repeat([]byte{0xff}, 16)))
	bits := p.Bits()
	if p.Addr().Is4() {
		bits += 96
	}
	return encodeAddr(netip.PrefixFrom(ones, bits).Masked().Addr())
}
