package xdp

import (
	"encoding/binary"
	"fmt"
	"net"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"tunneldirector/director/plane"
)

// laterOffset is where a later fragment starts, in units of 8 bytes.
const laterOffset = 185

// buildFrame is p on the wire. What p does not say is as small and as plain as it can be.
func buildFrame(p plane.Packet, dst, src [6]byte) ([]byte, error) {
	eth := &layers.Ethernet{DstMAC: dst[:], SrcMAC: src[:], EthernetType: layers.EthernetTypeIPv4}
	if p.Dst.Is6() {
		eth.EthernetType = layers.EthernetTypeIPv6
	}
	stack := []gopacket.SerializableLayer{eth}
	if p.VLAN != 0 {
		stack = append(stack, &layers.Dot1Q{VLANIdentifier: p.VLAN, Type: eth.EthernetType})
		eth.EthernetType = layers.EthernetTypeDot1Q
	}
	ip, err := buildIP(p)
	if err != nil {
		return nil, err
	}
	return serialize(append(stack, gopacket.Payload(ip)))
}

func serialize(stack []gopacket.SerializableLayer) ([]byte, error) {
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, stack...); err != nil {
		return nil, fmt.Errorf("build a packet: %w", err)
	}
	return b.Bytes(), nil
}

// buildIP is p from its IP header on.
func buildIP(p plane.Packet) ([]byte, error) {
	payload, err := buildPayload(p)
	if err != nil {
		return nil, err
	}
	header := 20
	if p.Dst.Is6() {
		if header = 40; p.Fragment != plane.Whole {
			payload = append(fragmentHeader(p), payload...)
		}
	}
	if p.Size > 65535+header {
		return nil, fmt.Errorf("build a packet of %d bytes: no IP packet is that long", p.Size)
	}
	if more := p.Size - header - len(payload); more > 0 {
		payload = append(payload, make([]byte, more)...)
	}
	if p.Dst.Is6() {
		ip := &layers.IPv6{Version: 6, NextHeader: layers.IPProtocol(p.Proto), HopLimit: p.Hops,
			SrcIP: net.IP(p.Src.AsSlice()), DstIP: net.IP(p.Dst.AsSlice())}
		if p.Fragment != plane.Whole {
			ip.NextHeader = layers.IPProtocolIPv6Fragment
		}
		return serialize([]gopacket.SerializableLayer{ip, gopacket.Payload(payload)})
	}
	ip := &layers.IPv4{Version: 4, IHL: 5, TTL: p.Hops, Protocol: layers.IPProtocol(p.Proto),
		SrcIP: net.IP(p.Src.AsSlice()), DstIP: net.IP(p.Dst.AsSlice())}
	if p.DF {
		ip.Flags |= layers.IPv4DontFragment
	}
	switch p.Fragment {
	case plane.First:
		ip.Flags |= layers.IPv4MoreFragments
	case plane.Later:
		ip.FragOffset = laterOffset
	}
	return serialize([]gopacket.SerializableLayer{ip, gopacket.Payload(payload)})
}

func fragmentHeader(p plane.Packet) []byte {
	h := make([]byte, 8)
	h[0] = p.Proto
	if p.Fragment == plane.First {
		h[3] = 1
	} else {
		binary.BigEndian.PutUint16(h[2:], laterOffset<<3)
	}
	return h
}

// buildPayload is what follows the IP header: ports, or an ICMP message with what it is about.
func buildPayload(p plane.Packet) ([]byte, error) {
	out := make([]byte, 8)
	switch {
	case p.HasPorts():
		binary.BigEndian.PutUint16(out, p.SrcPort)
		binary.BigEndian.PutUint16(out[2:], p.DstPort)
	case p.Fragment != plane.Later && (p.Dst.Is4() && p.Proto == 1 || p.Dst.Is6() && p.Proto == 58):
		out[0], out[1] = p.ICMPType, p.ICMPCode
		if q := p.Inner; q != nil && q.Src.IsValid() && q.Src.Is4() == p.Dst.Is4() && q.Dst.IsValid() && q.Dst.Is4() == q.Src.Is4() {
			quoted := *q
			quoted.Inner, quoted.Size = nil, 0
			inner, err := buildIP(quoted)
			if err != nil {
				return nil, err
			}
			out = append(out, inner...)
		}
	}
	return out, nil
}
