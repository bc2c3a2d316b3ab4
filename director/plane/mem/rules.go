package mem

import (
	"net/netip"
	"slices"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
)

func (m *Plane) isVIP(a netip.Addr) bool {
	return slices.ContainsFunc(m.config.Services, func(s plane.Service) bool { return slices.Contains(s.VIPs, a) })
}

// badSource is rule 5. An IPv4 address mapped into IPv6 is an IPv6 address like any other.
func (m *Plane) badSource(a netip.Addr) bool {
	if m.isVIP(a) || slices.Contains(m.config.Own, a) {
		return true
	}
	if a.Is4In6() {
		return false
	}
	reserved := netip.MustParsePrefix("240.0.0.0/4")
	return a.IsLoopback() || a.IsUnspecified() || a.IsMulticast() || a.Is4() && (reserved.Contains(a) || a.As4()[0] == 127)
}

func isICMP(proto uint8, dst netip.Addr) bool {
	return dst.Is4() && proto == 1 || dst.Is6() && proto == 58
}

// isControl: echo request, neighbour solicitation, neighbour advertisement.
func isControl(p plane.Packet) bool {
	if p.Dst.Is4() {
		return p.ICMPType == 8
	}
	return p.ICMPType == 128 || p.ICMPType == 135 || p.ICMPType == 136
}

// isError: destination unreachable, time exceeded, parameter problem; in IPv6 packet too big.
func isError(p plane.Packet) bool {
	if p.Dst.Is4() {
		return p.ICMPType == 3 || p.ICMPType == 11 || p.ICMPType == 12
	}
	return 1 <= p.ICMPType && p.ICMPType <= 4
}

// sameMachine tells whether a frame from real server i has rs's MAC: they are one, or share an address.
func (m *Plane) sameMachine(i affinity.Index, rs plane.RealServer) bool {
	from, ok := m.servers[i]
	shared := func(a netip.Addr) bool { return slices.Contains(rs.Addrs, a) }
	return ok && (i == rs.Index || slices.ContainsFunc(from.Addrs, shared))
}

func hasFamily(rs plane.RealServer, a netip.Addr) bool {
	return slices.ContainsFunc(rs.Addrs, func(b netip.Addr) bool { return a.Is4() == b.Is4() })
}

// outer is the length of the header that the method puts on.
func outer(rs plane.RealServer, dst netip.Addr) int {
	switch {
	case rs.Method != affinity.IPIP:
		return 0
	case dst.Is4():
		return 20
	}
	return 40
}

func pathMTU(rs plane.RealServer) int {
	if rs.MTU != 0 {
		return rs.MTU
	}
	return 1500
}
