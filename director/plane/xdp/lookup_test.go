//go:build linux

package xdp

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"tunneldirector/director/plane"
	"tunneldirector/director/plane/mem"
)

// samplePackets are packets around the example: every pair of interesting values at least once.
func samplePackets() []plane.Packet {
	srcs4 := []string{"198.51.100.1", "198.51.100.2", "198.51.100.4", "198.51.100.44", "198.51.100.9", "198.51.100.3", "198.51.100.200",
		"192.0.2.1", "192.0.2.100", "127.0.0.1", "0.0.0.0", "224.0.0.1", "240.0.0.1", "255.255.255.255"}
	dsts4 := []string{"192.0.2.1", "192.0.2.3", "192.0.2.100", "100.64.1.5", "100.64.1.200", "100.64.3.3", "100.64.9.9", "100.64.0.1", "10.1.0.1", "10.2.0.1", "10.3.0.1", "203.0.113.7"}
	srcs6 := []string{"2001:db8:f::1", "2001:db8:f::3", "2001:db8:f::77", "2001:db8::1", "2001:db8::100", "::1", "::", "ff02::1", "::ffff:198.51.100.1"}
	dsts6 := []string{"2001:db8::1", "2001:db8::3", "2001:db8::100", "2001:db8:6401::1", "2001:db8:6403::1", "2001:db8:64ff::1", "2001:db8:aaaa::1", "::ffff:192.0.2.1"}
	shapes := []plane.Packet{
		{Proto: 50}, {Proto: 51}, {Proto: 47}, {Proto: 132}, {Proto: 50, Fragment: plane.Later}, {Proto: 50, VLAN: 7}, {Proto: 50, VLAN: 8},
		{Proto: 17, SrcPort: 500, DstPort: 500}, {Proto: 17, SrcPort: 4321, DstPort: 4500}, {Proto: 17, SrcPort: 777, DstPort: 500},
		{Proto: 17, SrcPort: 99, DstPort: 51825}, {Proto: 17, SrcPort: 99, DstPort: 51830}, {Proto: 17, SrcPort: 99, DstPort: 51825, Fragment: plane.First},
		{Proto: 17, Fragment: plane.Later}, {Proto: 6, SrcPort: 9, DstPort: 443}, {Proto: 6, Fragment: plane.Later},
		{Proto: 50, Hops: 1}, {Proto: 50, Hops: 255, Size: 1500, DF: true}, {Proto: 50, Size: 1481}, {Proto: 50, Size: 1461}, {Proto: 50, From: 1}, {Proto: 50, From: 2}, {Proto: 50, From: 3},
		{Proto: 50, OtherMAC: true}, {Proto: 1, ICMPType: 8}, {Proto: 1, ICMPType: 0}, {Proto: 1, ICMPType: 3, ICMPCode: 4}, {Proto: 58, ICMPType: 128}, {Proto: 58, ICMPType: 135}, {Proto: 58, ICMPType: 2},
		{Proto: 1, ICMPType: 3, Fragment: plane.First}, {Proto: 50, Interface: "tun"}, {Proto: 50, Interface: "sub"}, {Proto: 50, Interface: "rs"},
	}
	var out []plane.Packet
	cross := func(srcs, dsts []string) {
		for _, s := range srcs {
			for _, d := range dsts {
				for _, p := range shapes {
					p.Src, p.Dst = addr(s), addr(d)
					if p.Hops == 0 {
						p.Hops = 64
					}
					out = append(out, p)
				}
			}
		}
	}
	cross(srcs4, dsts4)
	cross(srcs6, dsts6)
	return append(out, icmpPackets()...)
}

// icmpPackets are errors about packets of the VIPs.
func icmpPackets() (out []plane.Packet) {
	for _, f := range []struct {
		vip, site, other string
		proto, kind      uint8
	}{{"192.0.2.1", "198.51.100.2", "203.0.113.1", 1, 3}, {"192.0.2.1", "198.51.100.9", "203.0.113.1", 1, 11}, {"2001:db8::1", "2001:db8:f::1", "2001:db8:99::1", 58, 2}} {
		for _, inner := range []plane.Packet{{Proto: 50}, {Proto: 17, SrcPort: 4500, DstPort: 4321}, {Proto: 17, SrcPort: 500, DstPort: 777},
			{Proto: 17, SrcPort: 51820, DstPort: 99}, {Proto: 17, Fragment: plane.Later}, {Proto: 17, Fragment: plane.First, SrcPort: 500, DstPort: 1}, {Proto: 200}, {Proto: f.proto}} {
			for _, src := range []string{f.vip, f.other} {
				in := inner
				in.Src, in.Dst, in.Hops = addr(src), addr(f.site), 60
				out = append(out, plane.Packet{Src: addr(f.other), Dst: addr(f.vip), Proto: f.proto, ICMPType: f.kind, Hops: 64, Inner: &in})
			}
		}
	}
	return out
}

var addrEqual = cmpopts.EquateComparable(plane.EndpointKey{}, plane.SubnetKey{})

func TestLookupDecidesAsMem(t *testing.T) {
	p := examplePlane(t)
	oracle := mem.New(threeSides)
	must(t, oracle.Replace(t.Context(), example(), slices.Values(exampleEntries())))
	seen := map[plane.Reason]int{}
	for _, q := range samplePackets() {
		want, err := oracle.Lookup(q)
		must(t, err)
		got, err := p.Lookup(q)
		must(t, err)
		seen[want.Reason]++
		if d := cmp.Diff(want, got, addrEqual); d != "" {
			t.Fatalf("packet %+v: (-mem +xdp)\n%s", q, d)
		}
	}
	t.Logf("decisions by reason: %v", seen)
	stats, err := p.Stats()
	must(t, err)
	delete(stats.Reasons, plane.PassMAC) // the veth's own neighbour discovery
	delete(stats.Reasons, plane.PassNotIP)
	if len(stats.Reasons) != 0 || len(stats.RealServers) != 0 {
		t.Errorf("Lookup moved counters: %+v", stats)
	}
}
