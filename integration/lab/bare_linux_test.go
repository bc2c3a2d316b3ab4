package lab

import (
	"net/netip"
	"slices"
	"testing"
	"time"
)

// TestBareSitesBehindNAT: two sites share one public address, each with a port of the box's choosing, and the real server
// sees datagrams whole or in parts for what they are.
func TestBareSitesBehindNAT(t *testing.T) {
	t.Parallel()
	l := newLab(t, Options{Sites: 3, RealServers: 1, Bare: true, BehindNAT: 2})
	open, hidden := l.Sites[0], l.Sites[1:]
	if open.Local != open.Endpoint || hidden[0].Endpoint != l.NAT.Outer.Addrs[0] || hidden[0].Local == hidden[0].Endpoint {
		t.Fatalf("sites dial from %s as %s, from %s as %s", open.Local, open.Endpoint, hidden[0].Local, hidden[0].Endpoint)
	}
	d, err := l.NewStandin()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range l.Sites[:2] { // the third has the second's endpoint
		if err := d.Pin(s, l.RealServers[0]); err != nil {
			t.Fatal(err)
		}
	}
	c, err := l.RealServers[0].NS.Capture(l.RealServers[0].DR)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ports := map[uint16]bool{}
	for _, s := range l.Sites {
		before := len(c.Seen())
		if err := s.NS.SendUDP(netip.AddrPortFrom(s.Local, 4500), netip.AddrPortFrom(s.VIP, 4500), 1); err != nil {
			t.Fatal(err)
		}
		got := await(t, c, before)
		if got.Src != s.Endpoint || got.Dst != VIP4 || got.DstPort != 4500 || got.Part {
			t.Errorf("%s: the real server saw %+v", s.Name, got)
		}
		if s != open {
			ports[got.SrcPort] = true
		}
	}
	if len(ports) != 2 || ports[4500] {
		t.Errorf("the NAT box chose source ports %v, want two others than 4500", ports)
	}
}

// await waits for a datagram that was captured after the first n packets.
func await(t *testing.T, c *Capture, n int) Seen {
	t.Helper()
	ctx := within(t, 5*time.Second)
	for ctx.Err() == nil {
		seen := c.Seen()[n:]
		if i := slices.IndexFunc(seen, func(s Seen) bool { return s.Proto == 17 }); i >= 0 {
			return seen[i]
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("nothing came")
	return Seen{}
}

func TestParsePacket(t *testing.T) {
	v4 := func(proto, flags byte, payload ...byte) []byte {
		return append([]byte{0x45, 0, 0, byte(20 + len(payload)), 0, 0, flags, 0, 64, proto, 0, 0, 203, 0, 113, 11, 192, 0, 2, 10}, payload...)
	}
	udp := []byte{0x9c, 0x40, 0x11, 0x94, 0, 0, 0, 0}
	src, dst := netip.MustParseAddr("203.0.113.11"), netip.MustParseAddr("192.0.2.10")
	src6, dst6 := netip.MustParseAddr("2001:db8:a::b"), netip.MustParseAddr("2001:db8::10")
	v6 := func(next byte, payload ...byte) []byte {
		a, b := src6.As16(), dst6.As16()
		return slices.Concat([]byte{0x60, 0, 0, 0, 0, byte(len(payload)), next, 64}, a[:], b[:], payload)
	}
	for _, tt := range []struct {
		name   string
		packet []byte
		want   Seen
	}{
		{"ESP", v4(50, 0, 1, 2, 3, 4), Seen{Src: src, Dst: dst, Proto: 50, Type: 1, SPI: 0x01020304}},
		{"AH", v4(51, 0, 4, 4, 0, 0, 1, 2, 3, 4), Seen{Src: src, Dst: dst, Proto: 51, Type: 4, SPI: 0x01020304}},
		{"ESP in UDP", v4(17, 0, append(udp, 1, 2, 3, 4, 0, 0, 0, 1)...), Seen{Src: src, Dst: dst, Proto: 17, Type: 0x9c, SrcPort: 40000, DstPort: 4500, SPI: 0x01020304}},
		{"IKE in UDP/4500", v4(17, 0, append(udp, 0, 0, 0, 0, 9, 9, 9, 9)...), Seen{Src: src, Dst: dst, Proto: 17, Type: 0x9c, SrcPort: 40000, DstPort: 4500}},
		{"first fragment", v4(17, 0x20, udp...), Seen{Src: src, Dst: dst, Proto: 17, Type: 0x9c, SrcPort: 40000, DstPort: 4500, Part: true}},
		{"later fragment", v4(17, 0x01, udp...), Seen{Src: src, Dst: dst, Proto: 17, Type: 0x9c, Part: true}},
		{"in IPIP", v4(4, 0, v4(50, 0, 1, 2, 3, 4)...), Seen{Src: src, Dst: dst, Proto: 50, Type: 1, SPI: 0x01020304, InIPIP: true}},
		{"IPv6 ESP", v6(50, 1, 2, 3, 4), Seen{Src: src6, Dst: dst6, Proto: 50, Type: 1, SPI: 0x01020304}},
		{"IPv6 later fragment", v6(44, append([]byte{17, 0, 1, 0, 0, 0, 0, 1}, udp...)...), Seen{Src: src6, Dst: dst6, Proto: 17, Type: 0x9c, Part: true}},
		{"cut short", v4(17, 0, 1, 2), Seen{Src: src, Dst: dst, Proto: 17, Type: 1}},
	} {
		if got, ok := parsePacket(tt.packet); !ok || got != tt.want {
			t.Errorf("%s: got %+v, %t, want %+v", tt.name, got, ok, tt.want)
		}
	}
}
