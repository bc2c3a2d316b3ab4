package xdp

import (
	"fmt"
	"net/netip"

	"tunneldirector/director/plane"
)

// pins is the endpoints' table on this side of the seam; bpf/pins.h is the other. It knows VIPs by the numbers that keys
// carry, and how many pins each has.
type pins struct {
	v4     table[forwardPin4Key, forwardPin]
	v6     table[forwardPin6Key, forwardPin]
	number func(netip.Addr) (uint16, error) // of a VIP; makes one for a new VIP
	known  func(netip.Addr) (uint16, bool)
	// ported is called before the first pin with a port goes in at a VIP.
	ported func(vip netip.Addr) error
	all    map[uint16]int // pins by VIP number
	byPort map[uint16]int // of these, those with a port
}

func newPins(o *forwardObjects, number func(netip.Addr) (uint16, error), known func(netip.Addr) (uint16, bool),
	ported func(netip.Addr) error) *pins {
	p := &pins{number: number, known: known, ported: ported, all: map[uint16]int{}, byPort: map[uint16]int{}}
	count := func(vip, port uint16, d int) {
		p.all[vip] += d
		if port != 0 {
			p.byPort[vip] += d
		}
	}
	p.v4 = table[forwardPin4Key, forwardPin]{m: o.TdPins4, name: "td_pins4", option: "MaxPins", merge: keepSeen,
		count: func(k forwardPin4Key, _ forwardPin, d int) { count(k.Vip, k.Port, d) }}
	p.v6 = table[forwardPin6Key, forwardPin]{m: o.TdPins6, name: "td_pins6", option: "MaxPins", merge: keepSeen,
		count: func(k forwardPin6Key, _ forwardPin, d int) { count(k.Vip, k.Port, d) }}
	return p
}

func keepSeen(old, next forwardPin) forwardPin {
	next.Seen = old.Seen
	return next
}

func (p *pins) census() error {
	clear(p.all)
	clear(p.byPort)
	if err := p.v4.census(); err != nil {
		return err
	}
	return p.v6.census()
}

// A pinBatch collects what goes into the table in one go.
type pinBatch struct {
	v4 change[forwardPin4Key, forwardPin]
	v6 change[forwardPin6Key, forwardPin]
}

func (b *pinBatch) len() int { return len(b.v4.keys) + len(b.v6.keys) }

func (b *pinBatch) reset() {
	b.v4.reset()
	b.v6.reset()
}

func (p *pins) add(b *pinBatch, e plane.Entry) error {
	k := e.Endpoint
	if !k.Addr.IsValid() || k.Addr.Is4() != k.VIP.Is4() {
		return fmt.Errorf("apply endpoint %v at VIP %v: the two are not of one family", k.Addr, k.VIP)
	}
	vip, err := p.number(k.VIP)
	if err != nil {
		return err
	}
	if k.Port != 0 && p.byPort[vip] == 0 {
		if err := p.ported(k.VIP); err != nil {
			return err
		}
	}
	pin := forwardPin{Target: encodeTarget(e.Target)}
	if k.VIP.Is4() {
		b.v4.add(encodePin4(k, vip), pin)
	} else {
		b.v6.add(encodePin6(k, vip), pin)
	}
	return nil
}

func (p *pins) set(b *pinBatch) error {
	if err := p.v4.set(&b.v4); err != nil {
		return err
	}
	return p.v6.set(&b.v6)
}

// remove deletes the keys; those that are not there, or whose VIP nobody knows, are gone already.
func (p *pins) remove(keys []plane.EndpointKey) error {
	var k4 []forwardPin4Key
	var k6 []forwardPin6Key
	for _, k := range keys {
		vip, ok := p.known(k.VIP)
		if !ok {
			continue
		}
		if k.VIP.Is4() {
			k4 = append(k4, encodePin4(k, vip))
		} else {
			k6 = append(k6, encodePin6(k, vip))
		}
	}
	if err := p.v4.remove(k4); err != nil {
		return err
	}
	return p.v6.remove(k6)
}

// A pinReplacement is a replacement of both families.
type pinReplacement struct {
	v4 *replacement[forwardPin4Key, forwardPin]
	v6 *replacement[forwardPin6Key, forwardPin]
}

func (p *pins) replace() (r pinReplacement, err error) {
	if r.v4, err = p.v4.replace(); err != nil {
		return r, err
	}
	r.v6, err = p.v6.replace()
	return r, err
}

func (r pinReplacement) want(b *pinBatch) error {
	if err := r.v4.want(&b.v4); err != nil {
		return err
	}
	return r.v6.want(&b.v6)
}

func (r pinReplacement) finish() error {
	if err := r.v4.finish(); err != nil {
		return err
	}
	return r.v6.finish()
}

// seen calls f with the time of each pin, in the program's units, until f returns false.
func (p *pins) seen(vip func(uint16) (netip.Addr, bool), f func(plane.EndpointKey, uint32) bool) error {
	more := true
	err := p.v4.all(func(k forwardPin4Key, v forwardPin) bool {
		if a, ok := vip(k.Vip); ok && v.Seen != 0 {
			more = f(plane.EndpointKey{VIP: a, Addr: decode4(k.Addr), Port: k.Port}, v.Seen)
		}
		return more
	})
	if err != nil || !more {
		return err
	}
	return p.v6.all(func(k forwardPin6Key, v forwardPin) bool {
		if a, ok := vip(k.Vip); ok && v.Seen != 0 {
			more = f(plane.EndpointKey{VIP: a, Addr: decodeAddr(k.Addr, true), Port: k.Port}, v.Seen)
		}
		return more
	})
}

// seenAt reads one pin.
func (p *pins) seenAt(k plane.EndpointKey, vip uint16) (uint32, error) {
	if k.VIP.Is4() {
		v, _, err := p.v4.get(encodePin4(k, vip))
		return v.Seen, err
	}
	v, _, err := p.v6.get(encodePin6(k, vip))
	return v.Seen, err
}
