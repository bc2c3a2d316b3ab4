package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"
)

// whoHas asks an interface's segment for an address, in the namespace of the calling thread, and hears answers for a while.
// An IPv4 sender that is not valid is 0.0.0.0, as of a probe for duplicate addresses (RFC 5227).
func whoHas(ctx context.Context, device string, a, sender netip.Addr, wait time.Duration) (macs []net.HardwareAddr, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("ask on %s who has %v: %w", device, a, err)
		}
	}()
	ifi, err := net.InterfaceByName(device)
	if err != nil {
		return nil, err
	}
	kind := unix.ETH_P_ARP
	if a.Is6() {
		kind = unix.ETH_P_IPV6
	}
	c, err := packet.Listen(ifi, packet.Raw, kind, nil)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	frame, to, err := question(a, sender, ifi.HardwareAddr)
	if err != nil {
		return nil, err
	}
	if _, err := c.WriteTo(frame, &packet.Addr{HardwareAddr: to}); err != nil {
		return nil, err
	}
	end := time.Now().Add(wait)
	if d, ok := ctx.Deadline(); ok && d.Before(end) {
		end = d
	}
	if err := c.SetReadDeadline(end); err != nil {
		return nil, err
	}
	b := make([]byte, 1<<16)
	for {
		n, _, err := c.ReadFrom(b)
		var late net.Error
		if errors.As(err, &late) && late.Timeout() {
			return macs, ctx.Err()
		}
		if err != nil {
			return nil, err
		}
		if mac := answer(b[:n], a); mac != nil && !slices.ContainsFunc(macs, func(m net.HardwareAddr) bool { return slices.Equal(m, mac) }) {
			macs = append(macs, mac)
		}
	}
}

// question is an ARP request or a neighbour solicitation (RFC 4861, 4.3).
func question(a, sender netip.Addr, mac net.HardwareAddr) (frame []byte, to net.HardwareAddr, err error) {
	var parts []gopacket.SerializableLayer
	if a.Is4() {
		to = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
		if !sender.IsValid() {
			sender = netip.IPv4Unspecified()
		}
		parts = []gopacket.SerializableLayer{
			&layers.Ethernet{SrcMAC: mac, DstMAC: to, EthernetType: layers.EthernetTypeARP},
			&layers.ARP{AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4,
				Operation: layers.ARPRequest, SourceHwAddress: mac, SourceProtAddress: sender.AsSlice(),
				DstHwAddress: make([]byte, 6), DstProtAddress: a.AsSlice()},
		}
	} else {
		b := a.As16()
		group := append(net.ParseIP("ff02::1:ff00:0")[:13], b[13:]...)
		to = net.HardwareAddr{0x33, 0x33, 0xff, b[13], b[14], b[15]}
		if !sender.IsValid() {
			return nil, nil, errors.New("there is no IPv6 address to ask from")
		}
		ip := &layers.IPv6{Version: 6, HopLimit: 255, NextHeader: layers.IPProtocolICMPv6, SrcIP: sender.AsSlice(), DstIP: group}
		icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeNeighborSolicitation, 0)}
		if err := icmp.SetNetworkLayerForChecksum(ip); err != nil {
			return nil, nil, err
		}
		parts = []gopacket.SerializableLayer{
			&layers.Ethernet{SrcMAC: mac, DstMAC: to, EthernetType: layers.EthernetTypeIPv6}, ip, icmp,
			&layers.ICMPv6NeighborSolicitation{TargetAddress: a.AsSlice(), Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptSourceAddress, Data: mac}}},
		}
	}
	frame, err = serialize(parts...)
	return frame, to, err
}

// answer is who says that an address is his; nil if the frame does not.
func answer(frame []byte, a netip.Addr) net.HardwareAddr {
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
	if arp, ok := p.Layer(layers.LayerTypeARP).(*layers.ARP); ok && a.Is4() {
		if from, _ := netip.AddrFromSlice(arp.SourceProtAddress); arp.Operation == layers.ARPReply && from == a {
			return slices.Clone(net.HardwareAddr(arp.SourceHwAddress))
		}
	}
	if na, ok := p.Layer(layers.LayerTypeICMPv6NeighborAdvertisement).(*layers.ICMPv6NeighborAdvertisement); ok && a.Is6() {
		eth, isEthernet := p.LinkLayer().(*layers.Ethernet)
		if of, _ := netip.AddrFromSlice(na.TargetAddress); of == a && isEthernet {
			return slices.Clone(eth.SrcMAC)
		}
	}
	return nil
}
