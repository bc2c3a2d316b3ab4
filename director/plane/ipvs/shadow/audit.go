package shadow

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
	"tunneldirector/director/plane/ipvs/conntab"
)

// Audit compares the table with the kernel's IPVS; see the package's text. It reads the network namespace of the calling
// thread. For what it costs see package conntab.
func (p *Plane) Audit(ctx context.Context, f func(plane.Difference) bool) (plane.Audited, error) {
	a := audit{p: p, f: f, more: true, seen: map[key]struct{}{}}
	a.config, a.pinned = p.snapshot()
	services, err := p.kernel.services()
	if err != nil {
		return a.sum, fmt.Errorf("audit IPVS: %w", err)
	}
	a.services(services)
	for e, err := range p.kernel.conns() {
		if err == nil {
			err = ctx.Err()
		}
		if err == nil && a.more {
			err = a.conn(e)
		}
		if err != nil {
			return a.sum, fmt.Errorf("audit IPVS: %w", err)
		}
		if !a.more {
			break
		}
	}
	return a.sum, nil
}

// snapshot is the configuration and, by VIP, the real servers that are a pin's primary there.
func (p *Plane) snapshot() (plane.Config, map[netip.Addr]map[affinity.Index]bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	pinned := map[netip.Addr]map[affinity.Index]bool{}
	for k, i := range p.primaries {
		if pinned[k.VIP] == nil {
			pinned[k.VIP] = map[affinity.Index]bool{}
		}
		pinned[k.VIP][i] = true
	}
	return p.config, pinned
}

// An audit is one under way.
type audit struct {
	p      *Plane
	config plane.Config
	pinned map[netip.Addr]map[affinity.Index]bool
	seen   map[key]struct{} // the connections so far: a reading may show one twice
	f      func(plane.Difference) bool
	more   bool
	sum    plane.Audited
}

// A key is a connection's.
type key struct {
	protocol    uint8
	client, vip netip.AddrPort
	template    bool
}

func (k key) String() string {
	at := place{k.protocol, k.vip}
	switch {
	case k.template:
		return fmt.Sprintf("persistent client %v at %v", k.client.Addr(), at)
	case k.client.Port() == 0:
		return fmt.Sprintf("endpoint %v, any port, at %v", k.client.Addr(), at)
	}
	return fmt.Sprintf("endpoint %v at %v", k.client, at)
}

// differ counts a difference and tells it, while it is listened to.
func (a *audit) differ(count *uint64, what, want, have string) {
	if a.more {
		*count++
		a.more = a.f(plane.Difference{Key: what, Want: want, Have: have})
	}
}

// conn compares one connection or template with what the table says of a packet of its.
func (a *audit) conn(e conntab.Entry) error {
	d, ours, err := a.decide(e)
	if err != nil || !ours {
		return err
	}
	k := key{e.Protocol, e.Client, e.VIP, e.Template()}
	if _, twice := a.seen[k]; twice {
		return nil
	}
	a.seen[k] = struct{}{}
	have := a.say(e.Dest.Addr())
	switch {
	case d.Hashed || d.Reason == plane.DropUnknown:
		a.differ(&a.sum.Surplus, k.String(), "nothing", have)
	case d.Reason != plane.None:
		a.differ(&a.sum.Other, k.String(), "a drop: "+d.Reason.String(), have)
	case !a.has(d.RealServer, e.Dest.Addr()):
		a.differ(&a.sum.Other, k.String(), a.name(d.RealServer, e.VIP.Addr()), have)
	default:
		a.sum.Equal++
	}
	return nil
}

// decide looks up a packet of e's. Under UDP/500 may be ESP and AH, and under port 0 all ports.
func (a *audit) decide(e conntab.Entry) (d plane.Decision, ours bool, err error) {
	packet := plane.Packet{Hops: 64, Src: e.Client.Addr(), SrcPort: e.Client.Port(), Dst: e.VIP.Addr(), DstPort: e.VIP.Port()}
	for _, s := range a.config.Services {
		for _, m := range s.Match {
			carried := carrier(m)
			if !slices.Contains(s.VIPs, packet.Dst) || carried.Proto != e.Protocol {
				continue
			}
			if e.VIP.Port() != 0 && (e.VIP.Port() < carried.Lo || e.VIP.Port() > carried.Hi) {
				continue
			}
			packet.Proto = m.Proto
			if packet.DstPort = e.VIP.Port(); packet.DstPort == 0 {
				packet.DstPort = m.Lo
			}
			d, err = a.p.table.Lookup(packet)
			return d, true, err
		}
	}
	return d, false, nil
}

// carrier is what IPVS knows m as: ESP and AH are looked up under UDP/500.
func carrier(m affinity.Match) affinity.Match {
	if m.Proto == 50 || m.Proto == 51 {
		return affinity.Match{Proto: 17, Lo: 500, Hi: 500}
	}
	return m
}

// has tells whether an address is a real server's.
func (a *audit) has(i affinity.Index, addr netip.Addr) bool {
	return slices.ContainsFunc(a.config.RealServers, func(rs plane.RealServer) bool {
		return rs.Index == i && slices.Contains(rs.Addrs, addr)
	})
}

// name is a real server's, with its address of a VIP's family.
func (a *audit) name(i affinity.Index, vip netip.Addr) string {
	for _, rs := range a.config.RealServers {
		if rs.Index != i {
			continue
		}
		for _, addr := range rs.Addrs {
			if addr.Is4() == vip.Is4() {
				return fmt.Sprintf("%s (%v)", rs.Name, addr)
			}
		}
		return rs.Name
	}
	return fmt.Sprintf("real server %d", i)
}

// say names whoever has an address.
func (a *audit) say(addr netip.Addr) string {
	for _, rs := range a.config.RealServers {
		if slices.Contains(rs.Addrs, addr) {
			return fmt.Sprintf("%s (%v)", rs.Name, addr)
		}
	}
	return addr.String()
}
