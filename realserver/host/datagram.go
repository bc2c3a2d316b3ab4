package host

import (
	"net/netip"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// datagram is a UDP datagram with its IP header.
func datagram(from, to netip.Addr, fromPort, toPort uint16, payload []byte) ([]byte, error) {
	udp := &layers.UDP{SrcPort: layers.UDPPort(fromPort), DstPort: layers.UDPPort(toPort)}
	ip := header(from, to, layers.IPProtocolUDP)
	if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
		return nil, err
	}
	return serialize(ip, udp, gopacket.Payload(payload))
}

// inIPIP puts an outer header around a packet of the same family.
func inIPIP(from, to netip.Addr, inner []byte) ([]byte, error) {
	next := layers.IPProtocolIPv4
	if to.Is6() {
		next = layers.IPProtocolIPv6
	}
	return serialize(header(from, to, next), gopacket.Payload(inner))
}

type ipHeader interface {
	gopacket.NetworkLayer
	gopacket.SerializableLayer
}

func header(from, to netip.Addr, next layers.IPProtocol) ipHeader {
	if to.Is4() {
		return &layers.IPv4{Version: 4, TTL: 64, Protocol: next, SrcIP: from.AsSlice(), DstIP: to.AsSlice()}
	}
	return &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: next, SrcIP: from.AsSlice(), DstIP: to.AsSlice()}
}

func serialize(parts ...gopacket.SerializableLayer) ([]byte, error) {
	b := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, parts...)
	return b.Bytes(), err
}
