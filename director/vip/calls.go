package vip

import (
	"maps"
	"net/netip"
	"time"
)

// repeats are when neighbours are told of an address, from the moment it is held. Frames are lost, and a switch or a
// neighbour may have been told otherwise by the last holder meanwhile, which may answer for it until its lifetime is over.
var repeats = []time.Duration{0, 200 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second, 5 * time.Second,
	10 * time.Second, 20 * time.Second, 40 * time.Second}

// repeatEvery is between the later ones, as long as the address is held.
const repeatEvery = time.Minute

// downAgain is when what could not be told on an interface that is down is tried again.
const downAgain = time.Second

// A called address is one that neighbours on an interface are told of.
type called struct {
	addr netip.Addr
	kind kind
	on   string
}

// calls remember what was told.
type calls map[called]call

type call struct {
	told int // times
	next time.Time
}

// keep forgets all but list, and begins with what is new in it.
func (c calls) keep(list []called, now time.Time) {
	want := map[called]bool{}
	for _, x := range list {
		want[x] = true
		if _, known := c[x]; !known {
			c[x] = call{next: now}
		}
	}
	for x := range c {
		if !want[x] {
			delete(c, x)
		}
	}
}

// due is what is to be told now, taken for told. What was missed is not made up for.
func (c calls) due(now time.Time) (list []called) {
	for x, k := range c {
		if k.next.After(now) {
			continue
		}
		list = append(list, x)
		k.told++
		k.next = now.Add(repeatEvery)
		if k.told < len(repeats) {
			k.next = now.Add(repeats[k.told] - repeats[k.told-1])
		}
		c[x] = k
	}
	return list
}

// putOff takes back that something was told.
func (c calls) putOff(x called, next time.Time) { c[x] = call{told: c[x].told - 1, next: next} }

// forget begins anew with an address: it is not where neighbours were told that it is, or was not for a while.
func (c calls) forget(addr netip.Addr, k kind) {
	maps.DeleteFunc(c, func(x called, _ call) bool { return x.addr == addr && x.kind == k })
}

// next is when something is due; the zero time: never.
func (c calls) next() (at time.Time) {
	for _, k := range c {
		if at.IsZero() || k.next.Before(at) {
			at = k.next
		}
	}
	return at
}

// addrsOn are the addresses that are told of on an interface, sorted.
func addrsOn(list []called, ifname string) (addrs []netip.Addr) {
	for _, x := range list {
		if x.on == ifname {
			addrs = append(addrs, x.addr)
		}
	}
	return union(addrs)
}
