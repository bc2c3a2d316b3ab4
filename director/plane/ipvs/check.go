package ipvs

import (
	"fmt"
	"net/netip"
	"slices"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
)

// Protocols that IPVS can be made to carry.
const (
	protoUDP = 17
	protoESP = 50
	protoAH  = 51
)

// portIKE is the UDP port under which IPVS looks up ESP and AH (net/netfilter/ipvs/ip_vs_proto_ah_esp.c).
const portIKE = 500

// maxPorts is how many UDP ports a line of a service's protocols may have: each is an entry per tunnel.
const maxPorts = 16

// portsOf are the UDP ports under which a pin needs an entry for m.
func portsOf(m affinity.Match) []uint16 {
	if m.Proto != protoUDP {
		return []uint16{portIKE}
	}
	var ports []uint16
	for n := uint32(m.Lo); n <= uint32(m.Hi); n++ {
		ports = append(ports, uint16(n))
	}
	return ports
}

// Check tells what of c the plane cannot do, with the pair addresses that it was given.
func (p *Plane) Check(c plane.Config) []plane.Inability {
	out := Check(c)
	taken := func(kind, name, field string, at netip.Prefix) {
		for _, pairs := range []netip.Prefix{p.o.Pairs4, p.o.Pairs6} {
			if pairs.Overlaps(at) {
				out = append(out, plane.Inability{Kind: kind, Name: name, Fault: affinity.Fault{Field: field, Value: at.String(),
					Problem: fmt.Sprintf("plane ipvs has %v for itself, for the pairs of real servers", pairs), Remedy: "other addresses; or another ipvs.pairs in the director's file"}})
			}
		}
	}
	single := func(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
	for _, s := range c.Services {
		for i, a := range s.VIPs {
			taken("service", s.Name, fmt.Sprintf("vips[%d]", i), single(a))
		}
	}
	for _, rs := range c.RealServers {
		for i, a := range rs.Addrs {
			taken("realserver", rs.Name, fmt.Sprintf("addresses[%d]", i), single(a))
		}
	}
	return out
}

// Check tells what of c IPVS cannot do, on any machine.
func Check(c plane.Config) []plane.Inability {
	var out []plane.Inability
	for _, s := range c.Services {
		if s.Method == affinity.Masq && len(s.Ring) > 0 {
			out = append(out, plane.Inability{Kind: "service", Name: s.Name, Fault: affinity.Fault{Field: "unknown", Value: affinity.UnknownHash.String(),
				Problem: "under masq an endpoint that nobody pinned would become an entry that beats its later pin", Remedy: "unknown: drop; or method dr or tunnel"}})
		}
		for i, m := range s.Match {
			if f, bad := checkMatch(s, m); bad {
				f.Field = fmt.Sprintf("protocols[%d]", i)
				out = append(out, plane.Inability{Kind: "service", Name: s.Name, Fault: f})
			}
		}
	}
	for _, rs := range c.RealServers {
		if len(rs.VLANs) > 0 {
			out = append(out, plane.Inability{Kind: "realserver", Name: rs.Name, Fault: affinity.Fault{Field: "vlans", Value: fmt.Sprint(rs.VLANs),
				Problem: "plane ipvs puts no 802.1Q tags on", Remedy: "run the director with plane: xdp, or leave vlans out and keep tenants with overlapping subnets on real servers of their own"}})
		}
	}
	return out
}

func checkMatch(s plane.Service, m affinity.Match) (affinity.Fault, bool) {
	f := affinity.Fault{Value: m.String()}
	known := slices.Contains([]uint8{protoUDP, protoESP, protoAH}, m.Proto)
	switch {
	case !known && affinity.HasPorts(m.Proto):
		f.Problem = "IPVS keeps the state of each TCP connection, which a pin outlives"
		f.Remedy = "udp, esp or ah; or run the director with plane: xdp"
	case !known:
		f.Problem = "IPVS has no handler for this protocol"
		f.Remedy = "udp, esp or ah; or run the director with plane: xdp"
	case m.Proto == protoUDP && int(m.Hi)-int(m.Lo) >= maxPorts:
		f.Problem = fmt.Sprintf("IPVS needs an entry per tunnel and port, and these are %d ports", int(m.Hi)-int(m.Lo)+1)
		f.Remedy = fmt.Sprintf("at most %d ports a line; or run the director with plane: xdp", maxPorts)
	case m.Proto == protoAH && slices.ContainsFunc(s.VIPs, netip.Addr.Is6):
		f.Problem = "IPVS takes AH in IPv6 for an extension header and looks at what is inside (ipv6_find_hdr)"
		f.Remedy = "a service of its own for AH, with IPv4 VIPs only; or esp; or run the director with plane: xdp"
	case m.Proto != protoUDP && s.Method == affinity.Masq:
		f.Problem = "method masq carries UDP only: ESP and AH do not survive a change of address"
		f.Remedy = "method dr or tunnel, or let the sites use NAT traversal (udp/4500)"
	default:
		return f, false
	}
	return f, true
}
