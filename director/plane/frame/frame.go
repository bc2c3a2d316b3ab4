// Package frame turns a plane.Packet, an operator's description, into the Ethernet frame that a plane would see, and back.
//
// It holds no state and knows no plane. What a description leaves open is filled in the same way each time: TOS 0xba, an
// IPv6 flow label, payload bytes that count up, transport checksums that are right.
package frame

import (
	"encoding/binary"
	"fmt"
	"net"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"tunneldirector/director/plane"
)

const (
	tos       = 0xba // expedited forwarding, ECN-capable
	flowLabel = 0x12345
	id        = 0x4242
	offset    = 185  // of a later fragment, in units of 8 bytes
	small     = 32   // bytes of payload where Size is 0
	shortest  = 60   // Ethernet pads up to here
	longest   = 9000 // bytes of IP
)

// MACs are a frame's Ethernet addresses. Dst is the interface's own: Build makes another one of it for OtherMAC.
type MACs struct{ Src, Dst net.HardwareAddr }

// Build makes the frame that p describes, padded as on the wire. p.From is the caller's affair: it is m.Src. An ICMP
// error quotes the inner packet's headers and 8 bytes, as routers do at least. A Size too small for the headers, or
// addresses of two families, is an error.
func Build(p plane.Packet, m MACs) ([]byte, error) {
	ip, err := datagram(p)
	if err != nil {
		return nil, fmt.Errorf("build a frame from %v to %v: %w", p.Src, p.Dst, err)
	}
	eth := &layers.Ethernet{SrcMAC: m.Src, DstMAC: m.Dst, EthernetType: layers.EthernetTypeIPv4}
	if p.Dst.Is6() {
		eth.EthernetType = layers.EthernetTypeIPv6
	}
	if p.OtherMAC {
		eth.DstMAC = append(net.HardwareAddr(nil), m.Dst...)
		eth.DstMAC[len(eth.DstMAC)-1] ^= 0xff
	}
	stack := []gopacket.SerializableLayer{eth}
	if p.VLAN != 0 {
		stack = append(stack, &layers.Dot1Q{VLANIdentifier: p.VLAN, Type: eth.EthernetType})
		eth.EthernetType = layers.EthernetTypeDot1Q
	}
	b, err := serialize(append(stack, gopacket.Payload(ip))...)
	if err != nil {
		return nil, fmt.Errorf("build a frame from %v to %v: %w", p.Src, p.Dst, err)
	}
	for len(b) < shortest {
		b = append(b, 0)
	}
	return b, nil
}

// datagram is p from its IP header on.
func datagram(p plane.Packet) ([]byte, error) {
	if !p.Src.IsValid() || !p.Dst.IsValid() || p.Src.Is4() != p.Dst.Is4() {
		return nil, fmt.Errorf("source and destination are not of one IP family")
	}
	if p.Size > longest {
		return nil, fmt.Errorf("%d bytes of IP are more than %d", p.Size, longest)
	}
	if p.Dst.Is4() {
		return datagram4(p)
	}
	return datagram6(p)
}

func datagram4(p plane.Packet) ([]byte, error) {
	h := &layers.IPv4{Version: 4, TOS: tos, Id: id, TTL: p.Hops, Protocol: layers.IPProtocol(p.Proto),
		SrcIP: p.Src.AsSlice(), DstIP: p.Dst.AsSlice()}
	if p.DF {
		h.Flags |= layers.IPv4DontFragment
	}
	switch p.Fragment {
	case plane.First:
		h.Flags |= layers.IPv4MoreFragments
	case plane.Later:
		h.FragOffset = offset
	}
	body, err := transport(p, h, p.Size-20)
	if err != nil {
		return nil, err
	}
	return serialize(h, gopacket.Payload(body))
}

func datagram6(p plane.Packet) ([]byte, error) {
	h := &layers.IPv6{Version: 6, TrafficClass: tos, FlowLabel: flowLabel, HopLimit: p.Hops,
		NextHeader: layers.IPProtocol(p.Proto), SrcIP: p.Src.AsSlice(), DstIP: p.Dst.AsSlice()}
	var extension []byte
	if p.Fragment != plane.Whole {
		extension = make([]byte, 8)
		extension[0] = p.Proto
		extension[3] = 1 // more
		if p.Fragment == plane.Later {
			binary.BigEndian.PutUint16(extension[2:], offset<<3)
		}
		binary.BigEndian.PutUint32(extension[4:], id)
	}
	body, err := transport(p, h, p.Size-40-len(extension))
	if err != nil {
		return nil, err
	}
	if extension != nil {
		h.NextHeader = layers.IPProtocolIPv6Fragment
	}
	return serialize(h, gopacket.Payload(extension), gopacket.Payload(body))
}

// transport is what follows the IP header, in room bytes where Size says so.
func transport(p plane.Packet, ip gopacket.NetworkLayer, room int) ([]byte, error) {
	var head gopacket.SerializableLayer
	length, content := 0, []byte(nil)
	switch {
	case p.Fragment == plane.Later:
	case p.Proto == 17:
		u := &layers.UDP{SrcPort: layers.UDPPort(p.SrcPort), DstPort: layers.UDPPort(p.DstPort)}
		head, length = u, 8
		if err := u.SetNetworkLayerForChecksum(ip); err != nil {
			return nil, err
		}
	case p.Proto == 6:
		t := &layers.TCP{SrcPort: layers.TCPPort(p.SrcPort), DstPort: layers.TCPPort(p.DstPort), ACK: true, Window: 1024}
		head, length = t, 20
		if err := t.SetNetworkLayerForChecksum(ip); err != nil {
			return nil, err
		}
	case p.Proto == 1 && p.Dst.Is4():
		head, length = &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(p.ICMPType, p.ICMPCode)}, 8
	case p.Proto == 58 && p.Dst.Is6():
		c := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(p.ICMPType, p.ICMPCode)}
		head, length, content = c, 4, make([]byte, 4)
		if err := c.SetNetworkLayerForChecksum(ip); err != nil {
			return nil, err
		}
	}
	if p.Inner != nil {
		inner, err := quote(*p.Inner)
		if err != nil {
			return nil, fmt.Errorf("the packet that the ICMP error is about: %w", err)
		}
		content = append(content, inner...)
	}
	need := room - length - len(content)
	if p.Size == 0 {
		need = small
	}
	if need < 0 {
		return nil, fmt.Errorf("its headers do not fit into %d bytes; leave Size 0 for a small packet", p.Size)
	}
	for i := range need {
		content = append(content, byte(i))
	}
	if head == nil {
		return content, nil
	}
	return serialize(head, gopacket.Payload(content))
}

// quote is the beginning of inner: its IP header, with the length that the whole had, and 8 bytes.
func quote(inner plane.Packet) ([]byte, error) {
	b, err := datagram(inner)
	if err != nil {
		return nil, err
	}
	n := 20 + 8
	if inner.Dst.Is6() {
		n = 40 + 8
		if inner.Fragment != plane.Whole {
			n += 8
		}
	}
	return b[:n], nil
}

func serialize(stack ...gopacket.SerializableLayer) ([]byte, error) {
	b := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, stack...)
	return b.Bytes(), err
}

// walked tells whether proto is an IPv6 extension header that planes walk over, so that it is no packet's protocol.
func walked(proto uint8) bool { return proto == 0 || proto == 43 || proto == 44 || proto == 60 }
