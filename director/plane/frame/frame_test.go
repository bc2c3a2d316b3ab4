package frame

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"tunneldirector/director/plane"
)

var macs = MACs{Src: net.HardwareAddr{2, 0, 0, 0, 0, 9}, Dst: net.HardwareAddr{2, 0, 0, 0, 0, 1}}

func packet(dst string, change func(*plane.Packet)) plane.Packet {
	p := plane.Packet{Src: netip.MustParseAddr("203.0.113.5"), Dst: netip.MustParseAddr(dst), Proto: 17, SrcPort: 4001, DstPort: 500, Hops: 7}
	if p.Dst.Is6() {
		p.Src = netip.MustParseAddr("2001:db8:f::5")
	}
	if change != nil {
		change(&p)
	}
	return p
}

// TestBuild reads each frame back with gopacket, and by hand where gopacket reassembles.
func TestBuild(t *testing.T) {
	for _, dst := range []string{"192.0.2.1", "2001:db8::1"} {
		for name, change := range map[string]func(*plane.Packet){
			"udp":            nil,
			"tcp":            func(p *plane.Packet) { p.Proto = 6 },
			"esp":            func(p *plane.Packet) { p.Proto, p.SrcPort, p.DstPort = 50, 0, 0 },
			"tagged":         func(p *plane.Packet) { p.VLAN = 70 },
			"DF":             func(p *plane.Packet) { p.DF = true },
			"to another MAC": func(p *plane.Packet) { p.OtherMAC = true },
			"1500 bytes":     func(p *plane.Packet) { p.Size = 1500 },
			"first fragment": func(p *plane.Packet) { p.Fragment, p.Size = plane.First, 1280 },
			"later fragment": func(p *plane.Packet) { p.Fragment, p.SrcPort, p.DstPort = plane.Later, 0, 0 },
		} {
			t.Run(dst+" "+name, func(t *testing.T) {
				p := packet(dst, change)
				b, err := Build(p, macs)
				if err != nil {
					t.Fatal(err)
				}
				if p.Dst.Is6() {
					p.DF = false // IPv6 has no such bit
				}
				if got := read(t, b); got != p {
					t.Errorf("read back %+v, want %+v", got, p)
				}
			})
		}
	}
}

// read describes a frame. Size is told where it is not a small one.
func read(t *testing.T, b []byte) plane.Packet {
	t.Helper()
	var p plane.Packet
	g := gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.Default)
	eth := g.Layer(layers.LayerTypeEthernet).(*layers.Ethernet)
	p.OtherMAC = !bytes.Equal(eth.DstMAC, macs.Dst)
	if !bytes.Equal(eth.SrcMAC, macs.Src) {
		t.Errorf("source MAC %v", eth.SrcMAC)
	}
	if tag, ok := g.Layer(layers.LayerTypeDot1Q).(*layers.Dot1Q); ok {
		p.VLAN = tag.VLANIdentifier
	}
	var l4 []byte
	size := 0
	switch ip := g.NetworkLayer().(type) {
	case *layers.IPv4:
		p.Src, _ = netip.AddrFromSlice(ip.SrcIP.To4())
		p.Dst, _ = netip.AddrFromSlice(ip.DstIP.To4())
		p.Proto, p.Hops, p.DF = uint8(ip.Protocol), ip.TTL, ip.Flags&layers.IPv4DontFragment != 0
		switch {
		case ip.FragOffset != 0:
			p.Fragment = plane.Later
		case ip.Flags&layers.IPv4MoreFragments != 0:
			p.Fragment = plane.First
		}
		l4, size = ip.Payload, int(ip.Length)
		if checksum(ip.Contents) != 0xffff {
			t.Error("IPv4 checksum")
		}
	case *layers.IPv6:
		p.Src, _ = netip.AddrFromSlice(ip.SrcIP)
		p.Dst, _ = netip.AddrFromSlice(ip.DstIP)
		p.Proto, p.Hops = uint8(ip.NextHeader), ip.HopLimit
		l4, size = ip.Payload, 40+int(ip.Length)
		if p.Proto == 44 {
			p.Proto, p.Fragment = l4[0], plane.First
			if binary.BigEndian.Uint16(l4[2:])>>3 != 0 {
				p.Fragment = plane.Later
			}
			l4 = l4[8:]
		}
	default:
		t.Fatalf("no IP in %x", b)
	}
	if p.HasPorts() {
		p.SrcPort, p.DstPort = binary.BigEndian.Uint16(l4), binary.BigEndian.Uint16(l4[2:])
	}
	if size > 200 {
		p.Size = size
	}
	if l4, ok := g.TransportLayer().(interface {
		SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
	}); ok {
		if err := l4.SetNetworkLayerForChecksum(g.NetworkLayer()); err != nil {
			t.Fatal(err)
		}
	}
	if c, ok := g.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6); ok {
		if err := c.SetNetworkLayerForChecksum(g.NetworkLayer()); err != nil {
			t.Fatal(err)
		}
	}
	if err, mismatches := g.VerifyChecksums(); err != nil || len(mismatches) > 0 {
		t.Errorf("checksums: %v %v", err, mismatches)
	}
	return p
}

func checksum(b []byte) uint16 {
	s := uint32(0)
	for ; len(b) > 1; b = b[2:] {
		s += uint32(binary.BigEndian.Uint16(b))
	}
	return uint16(s&0xffff + s>>16)
}

// An ICMP error quotes the beginning of the packet it is about, and that packet says its whole length.
func TestICMPError(t *testing.T) {
	for _, row := range []struct {
		dst         string
		proto, kind uint8
		head, icmp  int
	}{{"192.0.2.1", 1, 3, 20, 20}, {"2001:db8::1", 58, 2, 40, 40}} {
		inner := packet(row.dst, func(p *plane.Packet) { p.Src, p.Dst, p.Size = p.Dst, p.Src, 1400 })
		p := packet(row.dst, func(p *plane.Packet) {
			p.Proto, p.SrcPort, p.DstPort, p.ICMPType, p.ICMPCode, p.Inner = row.proto, 0, 0, row.kind, 1, &inner
		})
		b, err := Build(p, macs)
		if err != nil {
			t.Fatal(err)
		}
		got := read(t, b)
		if got.Inner = p.Inner; got.Proto != row.proto || got.Dst != p.Dst {
			t.Errorf("read back %+v", got)
		}
		icmp := b[14+row.icmp:]
		if icmp[0] != row.kind || icmp[1] != 1 {
			t.Errorf("type %d code %d", icmp[0], icmp[1])
		}
		quoted := icmp[8:]
		whole, err := datagram(inner)
		if err != nil {
			t.Fatal(err)
		}
		if n := row.head + 8; !bytes.Equal(quoted[:n], whole[:n]) || len(whole) != 1400 {
			t.Errorf("quotes %x, want %x of a packet of %d", quoted[:n], whole[:n], len(whole))
		}
	}
}

func TestRefusals(t *testing.T) {
	for name, p := range map[string]plane.Packet{
		"no addresses":   {},
		"mixed families": packet("192.0.2.1", func(p *plane.Packet) { p.Src = netip.MustParseAddr("2001:db8::5") }),
		"too small":      packet("192.0.2.1", func(p *plane.Packet) { p.Size = 27 }),
		"too big":        packet("192.0.2.1", func(p *plane.Packet) { p.Size = 9001 }),
	} {
		if b, err := Build(p, macs); err == nil {
			t.Errorf("%s: %x and no error", name, b)
		}
	}
}

func TestPadding(t *testing.T) {
	b, err := Build(packet("192.0.2.1", func(p *plane.Packet) { p.Size = 28 }), macs)
	if err != nil || len(b) != 60 {
		t.Errorf("%d bytes, %v; want Ethernet's 60", len(b), err)
	}
}
