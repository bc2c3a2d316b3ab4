package xdp

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
)

const reasons = 64 // REASONS of types.h

// A numbering is the VIPs and the numbers that keys carry, as a snapshot for readers.
type numbering struct {
	number map[netip.Addr]uint16
	vip    map[uint16]netip.Addr
	tenant map[string]uint16 // of the last configuration
}

func (p *Plane) publish() {
	n := &numbering{maps.Clone(p.small.vips), map[uint16]netip.Addr{}, maps.Clone(p.small.tenants)}
	for a, i := range n.number {
		n.vip[i] = a
	}
	p.numbers.Store(n)
}

// perCPU reads a whole per-CPU array and calls f with each index and its values of all CPUs.
func perCPU[V any](m *ebpf.Map, f func(i int, values []V)) error {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return fmt.Errorf("count CPUs: %w", err)
	}
	size := int(m.MaxEntries())
	keys, values := make([]uint32, size), make([]V, size*cpus)
	var cursor ebpf.MapBatchCursor
	n, err := m.BatchLookup(&cursor, keys, values, nil)
	if err != nil && n != size {
		return fmt.Errorf("read counters %s: %w", m, err)
	}
	for i := range n {
		f(int(keys[i]), values[i*cpus:(i+1)*cpus])
	}
	return nil
}

func sum(values []forwardTraffic) (t plane.Traffic) {
	for _, v := range values {
		t.Packets += v.Packets
		t.Bytes += v.Bytes
	}
	return t
}

// Stats reads all counters.
func (p *Plane) Stats() (plane.Stats, error) {
	s := plane.Stats{
		RealServers: map[affinity.Index]plane.Traffic{},
		Services:    map[uint16]plane.Traffic{},
		Reasons:     map[plane.Reason]uint64{},
		ServiceDrop: map[uint16]map[plane.Reason]uint64{},
		Capacity: map[string]plane.Usage{
			"td_pins4":    p.pins.v4.usage(),
			"td_pins6":    p.pins.v6.usage(),
			"td_subnets4": p.subnets.v4.usage(),
			"td_subnets6": p.subnets.v6.usage(),
		},
	}
	err := perCPU(p.o.TdN_server, func(i int, values []forwardTraffic) {
		if t := sum(values); t.Packets > 0 {
			s.RealServers[affinity.Index(i)] = t
		}
	})
	if err != nil {
		return s, err
	}
	err = perCPU(p.o.TdN_service, func(i int, values []forwardTraffic) {
		switch t := sum(values); {
		case i == 0:
			s.Subnet = t
		case t.Packets > 0:
			s.Services[uint16(i)] = t
		}
	})
	if err != nil {
		return s, err
	}
	err = p.countReasons(func(service uint16, reason plane.Reason, n uint64) {
		s.Reasons[reason] += n
		if service == 0 {
			return
		}
		if s.ServiceDrop[service] == nil {
			s.ServiceDrop[service] = map[plane.Reason]uint64{}
		}
		s.ServiceDrop[service][reason] += n
	})
	return s, err
}

// countReasons calls f for each service (0: none known) and reason that has been counted.
func (p *Plane) countReasons(f func(service uint16, r plane.Reason, n uint64)) error {
	return perCPU(p.o.TdN_reason, func(i int, values []uint64) {
		var n uint64
		for _, v := range values {
			n += v
		}
		if n > 0 {
			f(uint16(i/reasons), plane.Reason(i%reasons), n)
		}
	})
}

func (t *table[K, V]) usage() plane.Usage {
	return plane.Usage{Entries: uint64(max(0, t.n.Load())), Max: uint64(t.m.MaxEntries())}
}

// seenUnit is the program's unit of time: CLOCK_MONOTONIC by 2^30 ns.
const seenUnit = time.Duration(1 << 30)

// seenTime turns the program's time of pins into the wall's.
func seenTime(units uint32) (time.Time, error) {
	return monotonicTime(uint64(units) * uint64(seenUnit))
}

// monotonicTime turns CLOCK_MONOTONIC, in ns, into the wall's time.
func monotonicTime(ns uint64) (time.Time, error) {
	now, err := ktime()
	if err != nil {
		return time.Time{}, err
	}
	return time.Now().Add(time.Duration(ns) - time.Duration(now)), nil
}

// ktime is what bpf_ktime_get_ns says now: CLOCK_MONOTONIC, in ns.
func ktime() (uint64, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0, fmt.Errorf("read the monotonic clock: %w", err)
	}
	return uint64(ts.Nano()), nil
}

// Seen tells when a packet last came through a pin.
func (p *Plane) Seen(k plane.EndpointKey) (time.Time, error) {
	vip, ok := p.numbers.Load().number[k.VIP]
	if !ok {
		return time.Time{}, nil
	}
	units, err := p.pins.seenAt(k, vip)
	if err != nil || units == 0 {
		return time.Time{}, err
	}
	return seenTime(units)
}

// LastSeen reads the whole table, a chunk at a time.
func (p *Plane) LastSeen(ctx context.Context, since time.Time, f func(plane.EndpointKey, time.Time) bool) error {
	zero, err := seenTime(0)
	if err != nil {
		return err
	}
	vips := p.numbers.Load().vip
	n := 0
	vip := func(i uint16) (netip.Addr, bool) { a, ok := vips[i]; return a, ok }
	err = p.pins.seen(vip, func(k plane.EndpointKey, units uint32) bool {
		if n++; n%chunk == 0 && ctx.Err() != nil {
			return false
		}
		at := zero.Add(time.Duration(units) * seenUnit)
		return at.Before(since) || f(k, at)
	})
	if err != nil {
		return err
	}
	return ctx.Err()
}
