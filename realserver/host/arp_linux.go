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
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// A query asks who has an address. An IPv4 sender that is not valid is 0.0.0.0, as of a probe for duplicate addresses (RFC 5227).
type query struct{ addr, sender netip.Addr }

// whoHas asks an interface's segment, in the namespace of the calling thread, and gives answers a while. What it returns is in
// the order of the queries.
func whoHas(ctx context.Context, device string, queries []query, wait time.Duration) (macs [][]net.HardwareAddr, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("ask on %s who has addresses: %w", device, err)
		}
	}()
	ifi, err := net.InterfaceByName(device)
	if err != nil {
		return nil, err
	}
	var conns []*packet.Conn
	for _, q := range queries {
		c, err := ask(ifi, q)
		if err != nil {
			return nil, err
		}
		defer c.Close()
		conns = append(conns, c)
	}
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(wait):
	}
	for i, c := range conns {
		list, err := hear(c, queries[i].addr)
		if err != nil {
			return nil, err
		}
		macs = append(macs, list)
	}
	return macs, nil
}

// ask returns where answers come.
func ask(ifi *net.Interface, q query) (c *packet.Conn, err error) {
	kind, filter := unix.ETH_P_ARP, []bpf.Instruction{bpf.RetConstant{Val: 1 << 16}}
	if q.addr.Is6() { // neighbour advertisements alone: there may be much else
		kind, filter = unix.ETH_P_IPV6, []bpf.Instruction{
			bpf.LoadAbsolute{Off: 14 + 6, Size: 1},
			bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_ICMPV6, SkipTrue: 3},
			bpf.LoadAbsolute{Off: 14 + 40, Size: 1},
			bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 136, SkipTrue: 1},
			bpf.RetConstant{Val: 1 << 16},
			bpf.RetConstant{Val: 0},
		}
	}
	raw, err := bpf.Assemble(filter)
	if err != nil {
		return nil, err
	}
	frame, to, err := question(q.addr, q.sender, ifi.HardwareAddr)
	if err != nil {
		return nil, err
	}
	if c, err = packet.Listen(ifi, packet.Raw, kind, &packet.Config{Filter: raw}); err != nil {
		return nil, err
	}
	if _, err := c.WriteTo(frame, &packet.Addr{HardwareAddr: to}); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// hear takes what came, each MAC once.
func hear(c *packet.Conn, a netip.Addr) (macs []net.HardwareAddr, err error) {
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
		return nil, err
	}
	b := make([]byte, 1<<16)
	for range 10_000 { // whatever the wire says, there is an end
		n, _, err := c.ReadFrom(b)
		var late net.Error
		if errors.As(err, &late) && late.Timeout() {
			break
		}
		if err != nil {
			return nil, err
		}
		if mac := answer(b[:n], a); mac != nil && !slices.ContainsFunc(macs, func(m net.HardwareAddr) bool { return slices.Equal(m, mac) }) {
			macs = append(macs, mac)
		}
	}
	return macs, nil
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
