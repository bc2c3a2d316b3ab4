//go:build linux

package xdp

import (
	"bytes"
	"testing"

	"github.com/gopacket/gopacket/layers"

	"tunneldirector/director/plane"
)

func TestTooBigIsTold(t *testing.T) {
	p := examplePlane(t)
	must(t, setIfaceAddrs(p, "sub", "203.0.113.254", "2001:db8:aa::254"))
	for _, c := range []struct {
		name, by string
		q        plane.Packet
		from     string // "": not told
		mtu      uint32
	}{
		{"v4", "tun", plane.Packet{Src: addr("198.51.100.3"), Dst: addr("192.0.2.3"), Proto: 50, Size: 1481, DF: true}, "192.0.2.3", 1480},
		{"v4 with a tag", "tun", plane.Packet{VLAN: 7, Src: addr("198.51.100.3"), Dst: addr("192.0.2.3"), Proto: 50, Size: 1500, DF: true}, "192.0.2.3", 1480},
		{"v4 without DF", "tun", plane.Packet{Src: addr("198.51.100.3"), Dst: addr("192.0.2.3"), Proto: 50, Size: 1481}, "", 0},
		{"v4 dr, a jumbo frame", "tun", plane.Packet{Src: addr("198.51.100.1"), Dst: addr("192.0.2.1"), Proto: 50, Size: 3300, DF: true}, "192.0.2.1", 1500},
		{"v6", "tun", plane.Packet{Src: addr("2001:db8:f::3"), Dst: addr("2001:db8::3"), Proto: 50, Size: 1461}, "2001:db8::3", 1460},
		{"subnet v4", "sub", plane.Packet{Src: addr("203.0.113.1"), Dst: addr("100.64.3.3"), Proto: 6, Size: 1490, DF: true}, "203.0.113.254", 1480},
		{"subnet v6", "sub", plane.Packet{Src: addr("2001:db8:aa::1"), Dst: addr("2001:db8:6403::3"), Proto: 6, Size: 1490}, "2001:db8:aa::254", 1460},
		{"no error about an error", "sub", plane.Packet{Src: addr("203.0.113.1"), Dst: addr("100.64.3.3"), Proto: 1, ICMPType: 3, Size: 1490, DF: true}, "", 0},
		{"nor about a later fragment", "tun", plane.Packet{Src: addr("198.51.100.3"), Dst: addr("192.0.2.3"), Proto: 50, Size: 1481, DF: true, Fragment: plane.Later}, "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			frame, action, out := send(t, p, c.by, c.q)
			if c.from == "" {
				if action != xdpDrop {
					t.Fatalf("action %d, want a silent drop", action)
				}
				return
			}
			if action != xdpTX {
				t.Fatalf("action %d, want XDP_TX", action)
			}
			in, pkt := parsed(t, frame), parsed(t, out)
			if !bytes.Equal(out[:6], frame[6:12]) || !bytes.Equal(out[6:12], frame[:6]) {
				t.Errorf("from %x to %x", out[6:12], out[:6])
			}
			if (in.Layer(layers.LayerTypeDot1Q) == nil) != (pkt.Layer(layers.LayerTypeDot1Q) == nil) {
				t.Error("the answer's tag is not the question's")
			}
			src, dst := pkt.NetworkLayer().NetworkFlow().Endpoints()
			if src.String() != c.from || dst.String() != c.q.Src.String() {
				t.Errorf("from %v to %v", src, dst)
			}
			checkICMP(t, ipOf(pkt), ipOf(in), c.mtu)
		})
	}
	s, err := p.Stats()
	must(t, err)
	if s.Reasons[plane.DropTooBig] != 9 {
		t.Errorf("counted %v", s.Reasons)
	}
}

func checkICMP(t *testing.T, ip, quoted []byte, mtu uint32) {
	t.Helper()
	message, kind := ip[20:], []byte{3, 4}
	if ip[0]>>4 == 6 {
		message, kind = ip[40:], []byte{2, 0}
	}
	if !bytes.Equal(message[:2], kind) {
		t.Errorf("ICMP type and code %v, want %v", message[:2], kind)
	}
	if got := uint32(message[6])<<8 | uint32(message[7]); got != mtu {
		t.Errorf("MTU %d, want %d", got, mtu)
	}
	if len(message) < 8+128 || !bytes.HasPrefix(quoted, message[8:]) {
		t.Error("what is quoted is not the packet")
	}
}

func TestTooBigIsRateLimited(t *testing.T) {
	p := examplePlane(t)
	frame, err := buildFrame(plane.Packet{Src: addr("198.51.100.3"), Dst: addr("192.0.2.3"), Proto: 50, Size: 1481, DF: true, Hops: 9}, macOf(p, "tun"), siteMAC)
	must(t, err)
	told := 0
	for range 2000 {
		if action, _ := run(t, p, "tun", frame); action == xdpTX {
			told++
		}
	}
	if told == 0 || told == 2000 {
		t.Errorf("%d of 2000 senders were told", told)
	}
}

func setIfaceAddrs(p *Plane, name, v4, v6 string) error {
	for i := range p.ports.all() {
		if p.ports.all()[i].Name == name {
			p.ports.all()[i].v4, p.ports.all()[i].v6 = addr(v4), addr(v6)
		}
	}
	return grow(p.o.TdIfaces, encodeIfaces(p.ports.all()))
}
