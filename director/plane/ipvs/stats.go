package ipvs

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
)

// traffic sums up what IPVS counts per destination: a destination goes when its pair or its label does, and its counters
// with it, and a pair leads to one real server first and then to another.
type traffic struct {
	servers  map[affinity.Index]plane.Traffic
	services map[uint16]plane.Traffic
	last     map[netip.AddrPort]map[dest]state
}

func newTraffic() traffic {
	return traffic{map[affinity.Index]plane.Traffic{}, map[uint16]plane.Traffic{}, map[netip.AddrPort]map[dest]state{}}
}

// Stats reads all counters. Those of real servers are of the tunnel side, since this program's start.
func (p *Plane) Stats() (plane.Stats, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	list, err := p.lvs.Read()
	if err != nil {
		return plane.Stats{}, fmt.Errorf("read IPVS's counters: %w", err)
	}
	p.count(list)
	reasons, subnet, err := p.gate.Counters()
	if err != nil {
		return plane.Stats{}, err
	}
	endpoints := 0
	for _, v := range p.vips {
		for _, n := range v.kinds {
			endpoints += n
		}
	}
	return plane.Stats{
		RealServers: maps.Clone(p.traffic.servers), Services: maps.Clone(p.traffic.services), Subnet: subnet, Reasons: reasons,
		Capacity: map[string]plane.Usage{"endpoints": {Entries: uint64(endpoints)}, "subnets": {Entries: uint64(len(p.subnets.targets))}},
	}, nil
}

// count adds to the sums what went through since it was last called. The proof calls it every few seconds, so that a death puts
// down to the wrong real server what went through in these.
func (p *Plane) count(list []virtual) {
	now := map[netip.AddrPort]map[dest]state{}
	for _, v := range list {
		if !v.ours {
			continue
		}
		now[v.key] = v.dests
		for d, st := range v.dests {
			was := p.traffic.last[v.key][d]
			if st.bytes < was.bytes { // made anew
				was = state{}
			}
			more := plane.Traffic{Packets: uint64(st.packets - was.packets), Bytes: st.bytes - was.bytes}
			if i, ok := p.serverAt(d); ok && more.Packets > 0 {
				p.traffic.servers[i] = plus(p.traffic.servers[i], more)
			}
			if num, ok := p.serviceAt(v.key); ok && more.Packets > 0 {
				p.traffic.services[num] = plus(p.traffic.services[num], more)
			}
		}
	}
	p.traffic.last = now
}

func plus(a, b plane.Traffic) plane.Traffic {
	return plane.Traffic{Packets: a.Packets + b.Packets, Bytes: a.Bytes + b.Bytes}
}

// serverAt is the incarnation that d leads to now.
func (p *Plane) serverAt(d dest) (affinity.Index, bool) {
	if n, ok := p.book.numberOf(d.addr.Addr()); ok {
		rs, ok := p.servers.live(p.book.pairs[n])
		return rs.Index, ok
	}
	for i, rs := range p.servers {
		if rs.Alive && slices.Contains(rs.Addrs, d.addr.Addr()) {
			return i, true
		}
	}
	return 0, false
}

// serviceAt is the number of the service that UDP packets to key belong to; ESP and AH count as UDP/500.
func (p *Plane) serviceAt(key netip.AddrPort) (num uint16, ok bool) {
	for _, s := range p.config.Services {
		if !slices.Contains(s.VIPs, key.Addr()) || ok && s.Num > num {
			continue
		}
		for _, m := range s.Match {
			if slices.Contains(portsOf(m), key.Port()) {
				num, ok = s.Num, true
			}
		}
	}
	return num, ok
}
