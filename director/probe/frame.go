package probe

import (
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"tunneldirector/affinity"
	"tunneldirector/director/agent"
)

var broadcast = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// An envelope is what all frames of a target's questions have in common.
type envelope struct {
	mac    net.HardwareAddr // ours
	to     net.HardwareAddr // the next hop's
	port   uint16           // our source port
	cookie uint32           // comes back in TCP's acknowledgement, in ICMP errors and in IKE's SPI
	outer  netip.Addr       // of IPIP; invalid: none
	local  netip.Addr       // outer source
}

// neighbour is an ARP request or a neighbour solicitation for q.dst; to nil asks the segment.
func neighbour(q *question, mac, to net.HardwareAddr) ([]byte, error) {
	if q.dst.Is4() {
		if to == nil {
			to = broadcast
		}
		return serialize(&layers.Ethernet{SrcMAC: mac, DstMAC: to, EthernetType: layers.EthernetTypeARP},
			&layers.ARP{AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4,
				Operation: layers.ARPRequest, SourceHwAddress: mac, SourceProtAddress: q.src.AsSlice(),
				DstHwAddress: make([]byte, 6), DstProtAddress: q.dst.AsSlice()})
	}
	dst := q.dst.AsSlice()
	if to == nil {
		low := q.dst.As16()
		dst = net.IP{0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, low[13], low[14], low[15]} // solicited-node, RFC 4291 2.7.1
		to = net.HardwareAddr{0x33, 0x33, 0xff, low[13], low[14], low[15]}
	}
	ip := &layers.IPv6{Version: 6, HopLimit: 255, NextHeader: layers.IPProtocolICMPv6, SrcIP: q.src.AsSlice(), DstIP: dst}
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeNeighborSolicitation, 0)}
	if err := icmp.SetNetworkLayerForChecksum(ip); err != nil {
		return nil, err
	}
	return serialize(&layers.Ethernet{SrcMAC: mac, DstMAC: to, EthernetType: layers.EthernetTypeIPv6}, ip, icmp,
		&layers.ICMPv6NeighborSolicitation{TargetAddress: q.dst.AsSlice(),
			Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptSourceAddress, Data: mac}}})
}

// packet is the frame of any other question.
func (e envelope) packet(q *question) ([]byte, error) {
	switch q.kind {
	case askEcho:
		return e.echo(q)
	case askTCP:
		return e.tcp(q, &layers.TCP{Seq: e.cookie, SYN: true, Window: 1024})
	case askIKE:
		return e.udp(q, ike(e.cookie, q.port == 4500))
	case askAgent:
		return e.udp(q, q.probe)
	}
	return e.udp(q, nil)
}

// reset ends what a SYN-ACK began.
func (e envelope) reset(q *question) ([]byte, error) {
	return e.tcp(q, &layers.TCP{Seq: e.cookie + 1, RST: true})
}

func (e envelope) echo(q *question) ([]byte, error) {
	e.outer = netip.Addr{}
	if q.dst.Is4() {
		return e.wrap(q, layers.IPProtocolICMPv4,
			&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeEchoRequest, 0), Id: e.port})
	}
	return e.wrap(q, layers.IPProtocolICMPv6,
		&layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeEchoRequest, 0)}, &layers.ICMPv6Echo{Identifier: e.port})
}

func (e envelope) tcp(q *question, t *layers.TCP) ([]byte, error) {
	t.SrcPort, t.DstPort = layers.TCPPort(e.port), layers.TCPPort(q.port)
	return e.wrap(q, layers.IPProtocolTCP, t)
}

func (e envelope) udp(q *question, payload []byte) ([]byte, error) {
	return e.wrap(q, layers.IPProtocolUDP, &layers.UDP{SrcPort: layers.UDPPort(e.port), DstPort: layers.UDPPort(q.port)}, gopacket.Payload(payload))
}

// wrap puts IP, perhaps IPIP, and Ethernet around a payload whose first layer wants IP's addresses for its checksum.
func (e envelope) wrap(q *question, proto layers.IPProtocol, payload ...gopacket.SerializableLayer) ([]byte, error) {
	inner := e.ip(q.src, q.dst, proto)
	if c, ok := payload[0].(interface {
		SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
	}); ok {
		if err := c.SetNetworkLayerForChecksum(inner.(gopacket.NetworkLayer)); err != nil {
			return nil, err
		}
	}
	parts := []gopacket.SerializableLayer{&layers.Ethernet{SrcMAC: e.mac, DstMAC: e.to, EthernetType: etherType(q.dst)}}
	if e.outer.IsValid() {
		parts = append(parts, e.ip(e.local, e.outer, ipip(q.dst)))
	}
	return serialize(append(append(parts, inner), payload...)...)
}

func (e envelope) ip(src, dst netip.Addr, proto layers.IPProtocol) gopacket.SerializableLayer {
	if dst.Is4() {
		return &layers.IPv4{Version: 4, IHL: 5, TTL: agent.ProbeTTL, Id: nonce4(e.cookie), Flags: layers.IPv4DontFragment, Protocol: proto, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
	}
	return &layers.IPv6{Version: 6, HopLimit: agent.ProbeTTL, FlowLabel: nonce6(e.cookie), NextHeader: proto, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
}

// nonce4 and nonce6 are where an ICMP error brings the cookie back.
func nonce4(cookie uint32) uint16 { return uint16(cookie) | 1 }
func nonce6(cookie uint32) uint32 { return cookie & 0xfffff }

func etherType(a netip.Addr) layers.EthernetType {
	if a.Is4() {
		return layers.EthernetTypeIPv4
	}
	return layers.EthernetTypeIPv6
}

func ipip(inner netip.Addr) layers.IPProtocol {
	if inner.Is4() {
		return layers.IPProtocolIPv4
	}
	return layers.IPProtocolIPv6
}

// ike is an IKE header of major version 3, RFC 7296 3.1; on port 4500 after the non-ESP marker, RFC 3948 2.2.
func ike(cookie uint32, marker bool) []byte {
	h := make([]byte, 32)
	b := h[4:]
	binary.BigEndian.PutUint32(b, cookie|1) // initiator's SPI, not zero
	binary.BigEndian.PutUint32(b[4:], cookie)
	b[17] = 3 << 4 // version
	b[18] = 34     // IKE_SA_INIT
	b[19] = 0x08   // from the initiator
	binary.BigEndian.PutUint32(b[24:], 28)
	if marker {
		return h
	}
	return b
}

func serialize(parts ...gopacket.SerializableLayer) ([]byte, error) {
	buf := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, parts...)
	return buf.Bytes(), err
}

// outerAddr is where IPIP carries a question of t.
func (t Target) outerAddr(q *question) netip.Addr {
	if t.Method != affinity.IPIP || q.kind == askEcho {
		return netip.Addr{}
	}
	for _, a := range t.Addrs {
		if a.Is4() == q.dst.Is4() {
			return a
		}
	}
	return netip.Addr{}
}
