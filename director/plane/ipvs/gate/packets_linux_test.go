package gate

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tunneldirector/integration/spaces"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// ip is a packet without options.
func ip(src, dst string, proto byte, payload ...byte) []byte {
	a, b := addr(src), addr(dst)
	if a.Is6() {
		h := append([]byte{0x60, 0, 0, 0}, binary.BigEndian.AppendUint16(nil, uint16(len(payload)))...)
		return slices.Concat(h, []byte{proto, 64}, a.AsSlice(), b.AsSlice(), payload)
	}
	return fragment(a, b, proto, 0, payload)
}

// fragment is an IPv4 packet with the given flags and offset.
func fragment(src, dst netip.Addr, proto byte, offset uint16, payload []byte) []byte {
	h := []byte{0x45, 0}
	h = binary.BigEndian.AppendUint16(h, uint16(20+len(payload)))
	h = append(h, 0, 7)
	h = binary.BigEndian.AppendUint16(h, offset)
	h = append(h, 64, proto, 0, 0)
	h = append(append(h, src.AsSlice()...), dst.AsSlice()...)
	var sum uint32
	for i := 0; i < len(h); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(h[i:]))
	}
	sum = sum>>16 + sum&0xffff
	binary.BigEndian.PutUint16(h[10:], ^uint16(sum>>16+sum))
	return append(h, payload...)
}

// udp is without a checksum: nobody looks.
func udp(src, dst string, to uint16) []byte {
	h := binary.BigEndian.AppendUint16([]byte{0x30, 0x39}, to)
	return ip(src, dst, protoUDP, append(h, 0, 12, 0, 0, 'p', 'i', 'n', 's')...)
}

// icmp is of the kind that dst's family has.
func icmp(src, dst string, kind byte) []byte {
	proto := byte(unix.IPPROTO_ICMP)
	if addr(dst).Is6() {
		proto = unix.IPPROTO_ICMPV6
	}
	return ip(src, dst, proto, slices.Concat([]byte{kind, 0}, make([]byte, 30))...)
}

func esp(src, dst string) []byte { return ip(src, dst, protoESP, make([]byte, 24)...) }

// ah carries UDP to port 500, which must not be taken for the packet's own.
func ah(src, dst string) []byte {
	h := append([]byte{protoUDP, 4}, make([]byte, 22)...)
	return ip(src, dst, protoAH, append(h, 0x30, 0x39, 1, 244, 0, 8, 0, 0)...)
}

// send sends packets from s to the MAC address of one's interface.
func send(s spaces.Space, ifname string, to spaces.Space, toName string, packets ...[]byte) {
	s.T.Helper()
	var mac net.HardwareAddr
	to.Do(func() {
		l, err := netlink.LinkByName(toName)
		must(s.T, err)
		mac = l.Attrs().HardwareAddr
	})
	s.Do(func() {
		l, err := netlink.LinkByName(ifname)
		must(s.T, err)
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM, 0)
		must(s.T, err)
		defer unix.Close(fd)
		for _, p := range packets {
			ll := &unix.SockaddrLinklayer{Ifindex: l.Attrs().Index, Halen: 6, Protocol: swap(unix.ETH_P_IP)}
			if p[0]>>4 == 6 {
				ll.Protocol = swap(unix.ETH_P_IPV6)
			}
			copy(ll.Addr[:], mac)
			must(s.T, unix.Sendto(fd, p, 0, ll))
		}
	})
}

func swap(v uint16) uint16 { return v<<8 | v>>8 }
