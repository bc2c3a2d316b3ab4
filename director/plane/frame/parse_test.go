package frame

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"tunneldirector/director/plane"
)

// What Build makes of a description, Parse describes again, also of the first 128 bytes alone.
func TestParseBuilt(t *testing.T) {
	for _, vip := range []string{"192.0.2.1", "2001:db8::1"} {
		icmp := uint8(1)
		if vip != "192.0.2.1" {
			icmp = 58
		}
		about := func(p *plane.Packet) *plane.Packet {
			return &plane.Packet{Src: p.Dst, Dst: p.Src, Proto: 17, SrcPort: 500, DstPort: 4001, Hops: 60, Size: 1400}
		}
		for name, change := range map[string]func(*plane.Packet){
			"UDP":            nil,
			"TCP":            func(p *plane.Packet) { p.Proto = 6 },
			"ESP":            func(p *plane.Packet) { p.Proto, p.SrcPort, p.DstPort = 50, 0, 0 },
			"tagged":         func(p *plane.Packet) { p.VLAN = 70 },
			"large":          func(p *plane.Packet) { p.Size = 1500 },
			"first fragment": func(p *plane.Packet) { p.Fragment, p.Size = plane.First, 1280 },
			"later fragment": func(p *plane.Packet) { p.Fragment, p.SrcPort, p.DstPort = plane.Later, 0, 0 },
			"echo":           func(p *plane.Packet) { p.Proto, p.SrcPort, p.DstPort, p.ICMPType = icmp, 0, 0, 8 },
			"ICMP error": func(p *plane.Packet) {
				p.Proto, p.SrcPort, p.DstPort, p.ICMPType, p.ICMPCode, p.Inner = icmp, 0, 0, 3, 1, about(p)
			},
		} {
			t.Run(vip+" "+name, func(t *testing.T) {
				want := packet(vip, change)
				b, err := Build(want, macs)
				if err != nil {
					t.Fatal(err)
				}
				for _, head := range [][]byte{b, b[:min(len(b), plane.SampleBytes)]} {
					got, err := Parse(head)
					if err != nil {
						t.Fatal(err)
					}
					if want.Size == 0 {
						got.Size = 0
					}
					if d := cmp.Diff(want, got, addresses); d != "" {
						t.Errorf("of %d bytes (-want +got):\n%s", len(head), d)
					}
				}
			})
		}
	}
}

var addresses = cmpopts.EquateComparable(netip.Addr{})

func TestParseOthers(t *testing.T) {
	v4, err := Build(packet("192.0.2.1", nil), macs)
	if err != nil {
		t.Fatal(err)
	}
	arp := append(bytes.Clone(v4[:12]), 8, 6, 0, 1)
	if p, err := Parse(arp); err != nil || p.Src.IsValid() || p.Dst.IsValid() {
		t.Errorf("ARP: %+v (%v), want no addresses and no error", p, err)
	}
	if p, err := Parse(v4[:14+20+3]); err != nil || p.Proto != 17 || p.SrcPort != 0 || p.Size != 60 {
		t.Errorf("UDP cut short: %+v (%v), want no ports and the length that the header says", p, err)
	}
	v6, err := Build(packet("2001:db8::1", nil), macs)
	if err != nil {
		t.Fatal(err)
	}
	walked := bytes.Clone(v6[:54])
	walked[20] = 60 // destination options, then a routing header, then UDP
	walked = append(walked, 43, 0, 1, 4, 0, 0, 0, 0, 17, 0, 4, 0, 0, 0, 0, 0)
	walked = append(walked, v6[54:]...)
	if p, err := Parse(walked); err != nil || p.Proto != 17 || p.SrcPort != 4001 || p.DstPort != 500 {
		t.Errorf("IPv6 behind extension headers: %+v (%v)", p, err)
	}
	lying := bytes.Clone(v4)
	lying[12], lying[13] = 0x86, 0xdd
	for name, b := range map[string][]byte{"nothing": nil, "no IP header": v4[:14], "half an IP header": v4[:30], "half an IPv6 header": v6[:40],
		"IPv4 that is called IPv6": lying} {
		if p, err := Parse(b); err == nil {
			t.Errorf("%s: %+v and no error", name, p)
		}
	}
}

// Whatever comes, Parse answers.
func FuzzParse(f *testing.F) {
	for _, vip := range []string{"192.0.2.1", "2001:db8::1"} {
		for _, fragment := range []plane.Fragment{plane.Whole, plane.First, plane.Later} {
			b, err := Build(packet(vip, func(p *plane.Packet) { p.Fragment = fragment }), macs)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Parse(b)
		if err == nil && p.Src.Is4() != p.Dst.Is4() {
			t.Errorf("%+v has addresses of two families", p)
		}
	})
}
