package api

import (
	"net/netip"
	"net/url"
	"strconv"

	"tunneldirector/affinity"
)

// checkPacketFilter adds what is wrong with a query for packets.
func checkPacketFilter(q url.Values, f *faults) { packetFilter(q, f) }

// packetFilter reads which packets are meant. A number that is none is told by the description of the operation.
func packetFilter(q url.Values, f *faults) PacketFilter {
	w := PacketFilter{Src: f.addressOrPrefix("from", q.Get("from")), Dst: f.addressOrPrefix("to", q.Get("to")), SrcPort: portOf(q.Get("from_port")), DstPort: portOf(q.Get("to_port"))}
	family := w.Src
	if !family.IsValid() {
		family = w.Dst
	}
	if w.Dst.IsValid() && family.Addr().Is4() != w.Dst.Addr().Is4() {
		f.add("to", q.Get("to"), "is not of the address family of from", "both IPv4 or both IPv6")
	}
	if s := q.Get("proto"); s != "" {
		var err error
		if w.Proto, err = affinity.ParseProto(s); err != nil {
			f.add("proto", s, "is not an IP protocol", "esp, ah, gre, l2tp, ipip, udp, tcp, icmp, icmpv6 or a number from 1 to 255")
		}
	}
	if of, ok := map[uint8]struct {
		is4          bool
		what, remedy string
	}{1: {true, "is of IPv4, and the addresses are of IPv6", "icmpv6"}, 58: {false, "is of IPv6, and the addresses are of IPv4", "icmp"}}[w.Proto]; ok && family.IsValid() && family.Addr().Is4() != of.is4 {
		f.add("proto", q.Get("proto"), of.what, of.remedy)
	}
	for _, field := range []string{"from_port", "to_port"} {
		if s := q.Get(field); s != "" && w.Proto != 0 && !affinity.HasPorts(w.Proto) {
			f.add(field, s, "is a port, and "+affinity.ProtoName(w.Proto)+" has none", "leave it out, or say proto udp or tcp")
		}
	}
	return w
}

// addressOrPrefix reads one end of packets: an address or a prefix. Not valid: any, or a fault was added.
func (f *faults) addressOrPrefix(field, s string) netip.Prefix {
	if s == "" {
		return netip.Prefix{}
	}
	p, err := netip.ParsePrefix(s)
	if a, aerr := netip.ParseAddr(s); aerr == nil {
		p, err = netip.PrefixFrom(a.WithZone(""), a.BitLen()), nil
		if a.Zone() != "" {
			f.add(field, s, "has a zone, which packets do not carry", "write "+a.WithZone("").String())
			return netip.Prefix{}
		}
	}
	switch {
	case err != nil:
		f.add(field, s, "is neither an address nor a prefix", "like 203.0.113.5, 203.0.113.0/24 or 2001:db8::/32")
	case p.Addr().Is4In6() && p.Bits() >= 96:
		f.add(field, s, "is IPv4 in the form of IPv6", "write "+oneOrMore(netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96).Masked()))
	case p != p.Masked():
		f.add(field, s, "has host bits set", "write "+p.Masked().String())
	default:
		return p
	}
	return netip.Prefix{}
}

// oneOrMore writes a prefix that is one address as that.
func oneOrMore(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

func portOf(s string) uint16 {
	n, _ := strconv.ParseUint(s, 10, 16) // what is no port was told
	return uint16(n)
}
