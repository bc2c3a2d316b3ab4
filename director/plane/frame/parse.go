package frame

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"tunneldirector/director/plane"
)

// Parse describes a frame, or the beginning of one: the counterpart of Build. Whose MAC addresses they are and which interface
// it came by is the caller's to know. What is not IP has no addresses, and no error. A transport header that is cut short leaves
// its fields 0; an IP header that is cut short, or contradicts itself, is an error.
func Parse(b []byte) (plane.Packet, error) {
	var eth layers.Ethernet
	if err := eth.DecodeFromBytes(b, gopacket.NilDecodeFeedback); err != nil {
		return plane.Packet{}, fmt.Errorf("read a frame: %w", err)
	}
	kind, rest, vlan := eth.EthernetType, eth.Payload, uint16(0)
	if kind == layers.EthernetTypeDot1Q {
		var tag layers.Dot1Q
		if err := tag.DecodeFromBytes(rest, gopacket.NilDecodeFeedback); err != nil {
			return plane.Packet{}, fmt.Errorf("read a frame: %w", err)
		}
		kind, rest, vlan = tag.Type, tag.Payload, tag.VLANIdentifier
	}
	if kind != layers.EthernetTypeIPv4 && kind != layers.EthernetTypeIPv6 {
		return plane.Packet{VLAN: vlan}, nil
	}
	p, rest, err := parseIP(rest, kind == layers.EthernetTypeIPv6)
	if err != nil {
		return plane.Packet{VLAN: vlan}, fmt.Errorf("read a frame: %w", err)
	}
	p.VLAN = vlan
	p.Inner = quoted(p, rest)
	return p, nil
}

// parseIP describes a datagram; rest is what follows its headers, cut to its length.
func parseIP(b []byte, v6 bool) (p plane.Packet, rest []byte, err error) {
	if len(b) > 0 && b[0]>>4 == 6 != v6 {
		return p, nil, errors.New("the IP version is not that of the Ethernet header")
	}
	if v6 {
		p, rest, err = parse6(b)
	} else {
		p, rest, err = parse4(b)
	}
	switch {
	case err != nil || p.Fragment == plane.Later:
	case p.HasPorts() && len(rest) >= 4:
		p.SrcPort, p.DstPort = binary.BigEndian.Uint16(rest), binary.BigEndian.Uint16(rest[2:])
	case isICMP(p) && len(rest) >= 2:
		p.ICMPType, p.ICMPCode = rest[0], rest[1]
	}
	return p, rest, err
}

func parse4(b []byte) (plane.Packet, []byte, error) {
	var h layers.IPv4
	if err := h.DecodeFromBytes(b, gopacket.NilDecodeFeedback); err != nil {
		return plane.Packet{}, nil, err
	}
	p := plane.Packet{Src: address(h.SrcIP), Dst: address(h.DstIP), Proto: uint8(h.Protocol), Hops: h.TTL, Size: int(h.Length),
		DF: h.Flags&layers.IPv4DontFragment != 0, Fragment: part(h.FragOffset, h.Flags&layers.IPv4MoreFragments != 0)}
	return p, h.Payload, nil
}

func parse6(b []byte) (plane.Packet, []byte, error) {
	var h layers.IPv6
	if err := h.DecodeFromBytes(b, gopacket.NilDecodeFeedback); err != nil {
		return plane.Packet{}, nil, err
	}
	p := plane.Packet{Src: address(h.SrcIP), Dst: address(h.DstIP), Hops: h.HopLimit, Size: 40 + int(h.Length)}
	next, rest := h.NextHeader, h.Payload
	if h.HopByHop != nil { // IPv6 has walked over it
		next = h.HopByHop.NextHeader
	}
	for walked(uint8(next)) && p.Fragment != plane.Later {
		if next == layers.IPProtocolIPv6Fragment {
			var f layers.IPv6Fragment
			if err := f.DecodeFromBytes(rest, gopacket.NilDecodeFeedback); err != nil {
				return p, nil, err
			}
			p.Fragment = part(f.FragmentOffset, f.MoreFragments)
			next, rest = f.NextHeader, f.Payload
			continue
		}
		var x layers.IPv6ExtensionSkipper
		if err := x.DecodeFromBytes(rest, gopacket.NilDecodeFeedback); err != nil {
			return p, nil, err
		}
		next, rest = x.NextHeader, x.Payload
	}
	p.Proto = uint8(next)
	return p, rest, nil
}

// quoted is the packet that p is about, if p is an ICMP error; rest is p from its ICMP header on.
func quoted(p plane.Packet, rest []byte) *plane.Packet {
	about := p.ICMPType == 3 || p.ICMPType == 11 || p.ICMPType == 12
	if p.Dst.Is6() {
		about = 1 <= p.ICMPType && p.ICMPType <= 4
	}
	const header = 8 // of either family's errors
	if !isICMP(p) || p.Fragment != plane.Whole || !about || len(rest) < header {
		return nil
	}
	inner, _, err := parseIP(rest[header:], p.Dst.Is6())
	if err != nil {
		return nil
	}
	return &inner
}

func isICMP(p plane.Packet) bool {
	return p.Dst.Is4() && p.Proto == uint8(layers.IPProtocolICMPv4) || p.Dst.Is6() && p.Proto == uint8(layers.IPProtocolICMPv6)
}

func part(offset uint16, more bool) plane.Fragment {
	switch {
	case offset > 0:
		return plane.Later
	case more:
		return plane.First
	}
	return plane.Whole
}

func address(b net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(b)
	return a
}
