package mem

import (
	"context"
	"maps"
	"time"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
)

func newStats() plane.Stats {
	return plane.Stats{
		RealServers: map[affinity.Index]plane.Traffic{},
		Services:    map[uint16]plane.Traffic{},
		Reasons:     map[plane.Reason]uint64{},
		ServiceDrop: map[uint16]map[plane.Reason]uint64{},
	}
}

// Forward decides on p as Lookup does, counts it, and marks the pin that it came through as seen now.
func (m *Plane) Forward(p plane.Packet) (plane.Decision, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, err := m.decide(p)
	if err != nil {
		return d, err
	}
	if d.Reason != plane.None {
		m.stats.Reasons[d.Reason]++
		if d.Service != 0 {
			if m.stats.ServiceDrop[d.Service] == nil {
				m.stats.ServiceDrop[d.Service] = map[plane.Reason]uint64{}
			}
			m.stats.ServiceDrop[d.Service][d.Reason]++
		}
		return d, nil
	}
	m.stats.RealServers[d.RealServer] = count(m.stats.RealServers[d.RealServer], p)
	if d.Side == plane.TunnelSide {
		m.stats.Services[d.Service] = count(m.stats.Services[d.Service], p)
	} else {
		m.stats.Subnet = count(m.stats.Subnet, p)
	}
	if d.Endpoint.VIP.IsValid() {
		m.seen[d.Endpoint] = time.Now()
	}
	return d, nil
}

func count(t plane.Traffic, p plane.Packet) plane.Traffic {
	return plane.Traffic{Packets: t.Packets + 1, Bytes: t.Bytes + uint64(p.Size)}
}

// Stats is a copy of the counters that Forward moves.
func (m *Plane) Stats() (plane.Stats, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.stats
	s.RealServers, s.Services, s.Reasons = maps.Clone(s.RealServers), maps.Clone(s.Services), maps.Clone(s.Reasons)
	s.ServiceDrop = map[uint16]map[plane.Reason]uint64{}
	for n, r := range m.stats.ServiceDrop {
		s.ServiceDrop[n] = maps.Clone(r)
	}
	s.Capacity = map[string]plane.Usage{
		"endpoints": {Entries: uint64(len(m.endpoints))},
		"subnets":   {Entries: uint64(len(m.subnets))},
	}
	return s, nil
}

// Seen tells when Forward last went through k.
func (m *Plane) Seen(k plane.EndpointKey) (time.Time, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.seen[k], nil
}

// LastSeen calls f for each pin that Forward went through since then. f may call the plane.
func (m *Plane) LastSeen(ctx context.Context, since time.Time, f func(plane.EndpointKey, time.Time) bool) error {
	m.mu.Lock()
	seen := maps.Clone(m.seen)
	m.mu.Unlock()
	for k, at := range seen {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !at.Before(since) && !f(k, at) {
			return nil
		}
	}
	return nil
}
