//go:build linux

package xdp

import (
	"bytes"
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
)

var siteMAC = [6]byte{2, 0, 0, 0, 0, 0x51}

// send builds q as if it came by the interface and runs the forwarder.
func send(t *testing.T, p *Plane, by string, q plane.Packet) (frame []byte, action uint32, out []byte) {
	t.Helper()
	if q.Hops == 0 {
		q.Hops = 64
	}
	frame, err := buildFrame(q, macOf(p, by), siteMAC)
	must(t, err)
	action, out = run(t, p, by, frame)
	return frame, action, out
}

// parsed decodes a frame and fails on wrong checksums of IPv4, ICMP and ICMPv6.
func parsed(t *testing.T, frame []byte) gopacket.Packet {
	t.Helper()
	pkt := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
	for _, l := range pkt.Layers() {
		if c, ok := l.(interface {
			SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
		}); ok {
			must(t, c.SetNetworkLayerForChecksum(pkt.NetworkLayer()))
		}
	}
	err, faults := pkt.VerifyChecksums()
	must(t, err)
	for _, f := range faults {
		if k := f.Layer.LayerType(); k == layers.LayerTypeIPv4 || k == layers.LayerTypeICMPv4 || k == layers.LayerTypeICMPv6 {
			t.Errorf("wrong checksum in %v: %+v", k, f.ChecksumVerificationResult)
		}
	}
	return pkt
}

// ipOf is the frame from its IP header on.
func ipOf(pkt gopacket.Packet) []byte {
	l := pkt.NetworkLayer()
	return append(bytes.Clone(l.LayerContents()), l.LayerPayload()...)
}

// hopLess is an IP packet with one hop less.
func hopLess(t *testing.T, ip []byte) []byte {
	t.Helper()
	out := bytes.Clone(ip)
	if ip[0]>>4 == 6 {
		out[7]--
		return out
	}
	out[8]--
	out[10], out[11] = 0, 0
	var sum uint32
	for i := 0; i < 20; i += 2 {
		sum += uint32(out[i])<<8 | uint32(out[i+1])
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	out[10], out[11] = byte(^sum>>8), byte(^sum)
	return out
}

func TestForwardRewrites(t *testing.T) {
	p := examplePlane(t)
	for _, c := range []struct {
		name string
		by   string
		q    plane.Packet
		to   string // the real server's address: gives the MAC
		tag  uint16
		out  string // outer destination
	}{
		{name: "dr v4", by: "tun", q: plane.Packet{Src: addr("198.51.100.1"), Dst: addr("192.0.2.1"), Proto: 50}, to: "10.9.0.11"},
		{name: "dr v6", by: "tun", q: plane.Packet{Src: addr("2001:db8:f::1"), Dst: addr("2001:db8::1"), Proto: 50}, to: "2001:db8:9::11"},
		{name: "by port", by: "tun", q: plane.Packet{Src: addr("198.51.100.2"), Dst: addr("192.0.2.1"), Proto: 17, SrcPort: 4321, DstPort: 4500}, to: "10.9.0.11"},
		{name: "tag off", by: "tun", q: plane.Packet{VLAN: 9, Src: addr("198.51.100.1"), Dst: addr("192.0.2.1"), Proto: 50}, to: "10.9.0.11"},
		{name: "ipip 4in4", by: "tun", q: plane.Packet{Src: addr("198.51.100.3"), Dst: addr("192.0.2.3"), Proto: 50, Size: 100}, to: "10.9.0.13", out: "10.9.0.13"},
		{name: "ipip 6in6", by: "tun", q: plane.Packet{Src: addr("2001:db8:f::3"), Dst: addr("2001:db8::3"), Proto: 50, Size: 100}, to: "2001:db8:9::13", out: "2001:db8:9::13"},
		{name: "ipip from a tag", by: "tun", q: plane.Packet{VLAN: 9, Src: addr("198.51.100.3"), Dst: addr("192.0.2.3"), Proto: 50}, to: "10.9.0.13", out: "10.9.0.13"},
		{name: "subnet", by: "sub", q: plane.Packet{Src: addr("203.0.113.1"), Dst: addr("100.64.1.5"), Proto: 6, SrcPort: 80, DstPort: 9}, to: "10.9.0.11"},
		{name: "longest", by: "sub", q: plane.Packet{Src: addr("203.0.113.1"), Dst: addr("100.64.1.200"), Proto: 6}, to: "10.9.0.12"},
		{name: "subnet v6", by: "sub", q: plane.Packet{Src: addr("2001:db8:aa::1"), Dst: addr("2001:db8:6401::9"), Proto: 6}, to: "2001:db8:9::11"},
		{name: "subnet by ipip", by: "sub", q: plane.Packet{Src: addr("203.0.113.1"), Dst: addr("100.64.3.5"), Proto: 6}, to: "10.9.0.13", out: "10.9.0.13"},
		{name: "tenant, other tag", by: "sub", q: plane.Packet{VLAN: 7, Src: addr("203.0.113.1"), Dst: addr("10.1.0.5"), Proto: 17}, to: "10.9.0.11", tag: 105},
		{name: "tenant, no tag wanted", by: "sub", q: plane.Packet{VLAN: 7, Src: addr("203.0.113.1"), Dst: addr("10.2.0.5"), Proto: 17}, to: "10.9.0.12"},
	} {
		t.Run(c.name, func(t *testing.T) {
			frame, action, out := send(t, p, c.by, c.q)
			if action != xdpRedirect {
				t.Fatalf("action %d, want redirect", action)
			}
			in, pkt := parsed(t, frame), parsed(t, out)
			eth := pkt.Layer(layers.LayerTypeEthernet).(*layers.Ethernet)
			if [6]byte(eth.DstMAC) != rsMAC(addr(c.to)) || [6]byte(eth.SrcMAC) != macOf(p, "rs") {
				t.Errorf("from %v to %v", eth.SrcMAC, eth.DstMAC)
			}
			var tag uint16
			if l := pkt.Layer(layers.LayerTypeDot1Q); l != nil {
				tag = l.(*layers.Dot1Q).VLANIdentifier
			}
			if tag != c.tag {
				t.Errorf("tag %d, want %d", tag, c.tag)
			}
			got := ipOf(pkt)
			if c.out != "" {
				got = checkOuter(t, pkt, got, addr(c.out))
			}
			if d := cmp.Diff(hopLess(t, ipOf(in)), got); d != "" {
				t.Errorf("IP packet (-want +got)\n%s", d)
			}
		})
	}
}

// checkOuter checks the IPIP header and returns what is in it.
func checkOuter(t *testing.T, pkt gopacket.Packet, ip []byte, dst netip.Addr) []byte {
	t.Helper()
	if l, ok := pkt.NetworkLayer().(*layers.IPv4); ok {
		if !l.DstIP.Equal(dst.AsSlice()) || l.SrcIP.String() != "10.9.0.1" || l.Protocol != 4 || l.TTL != 64 || l.Flags != layers.IPv4DontFragment || int(l.Length) != len(ip) {
			t.Errorf("outer header %+v of %d bytes", l, len(ip))
		}
		return ip[20:]
	}
	l := pkt.NetworkLayer().(*layers.IPv6)
	if !l.DstIP.Equal(dst.AsSlice()) || l.SrcIP.String() != "2001:db8:9::1" || l.NextHeader != 41 || l.HopLimit != 64 || int(l.Length) != len(ip)-40 {
		t.Errorf("outer header %+v of %d bytes", l, len(ip))
	}
	return ip[40:]
}

func TestForwardOutOfTheSameInterface(t *testing.T) {
	p := oneNamespace(t, []plane.Interface{{Name: "one", Roles: plane.RoleTunnel | plane.RoleSubnet | plane.RoleRealServers}}, nil)
	c := example()
	replaceAll(t, p, c, exampleEntries()...)
	fakeLinks(t, p, c.RealServers, "one")
	_, action, _ := send(t, p, "one", plane.Packet{Src: addr("198.51.100.1"), Dst: addr("192.0.2.1"), Proto: 50})
	if action != xdpTX {
		t.Errorf("action %d, want XDP_TX", action)
	}
}

func TestFragmentsGoOneWay(t *testing.T) {
	p := examplePlane(t)
	for _, f := range []plane.Fragment{plane.Whole, plane.First, plane.Later} {
		for _, src := range []string{"198.51.100.1", "2001:db8:f::1"} {
			q := plane.Packet{Src: addr(src), Dst: addr("192.0.2.1"), Proto: 17, SrcPort: 4500, DstPort: 4500, Fragment: f}
			to := addr("10.9.0.11")
			if q.Src.Is6() {
				q.Dst, to = addr("2001:db8::1"), addr("2001:db8:9::11")
			}
			_, action, out := send(t, p, "tun", q)
			if action != xdpRedirect || [6]byte(out[:6]) != rsMAC(to) {
				t.Errorf("fragment part %d from %s: action %d to %x", f, src, action, out[:6])
			}
		}
	}
}

func TestSetAliveTurnsEveryPin(t *testing.T) {
	p := examplePlane(t)
	to := func() [6]byte {
		_, action, out := send(t, p, "tun", plane.Packet{Src: addr("198.51.100.1"), Dst: addr("192.0.2.1"), Proto: 50})
		if action != xdpRedirect {
			t.Fatalf("action %d", action)
		}
		return [6]byte(out[:6])
	}
	for i, c := range []struct {
		alive bool
		to    string
	}{{true, "10.9.0.11"}, {false, "10.9.0.12"}, {true, "10.9.0.11"}} {
		must(t, p.SetAlive(1, c.alive))
		if got := to(); got != rsMAC(addr(c.to)) {
			t.Errorf("step %d: to %x, want %s", i, got, c.to)
		}
	}
	if err := p.SetAlive(99, true); err == nil {
		t.Error("an unknown index came alive")
	}
	must(t, p.SetAlive(1, false))
	must(t, p.SetAlive(2, false))
	if _, action, _ := send(t, p, "tun", plane.Packet{Src: addr("198.51.100.1"), Dst: addr("192.0.2.1"), Proto: 50}); action != xdpDrop {
		t.Errorf("both dead: action %d, want drop", action)
	}
}

func TestUnknownNeighbourDrops(t *testing.T) {
	p := examplePlane(t)
	k := linkIndex(1, false)
	must(t, p.o.TdLinks.Put(&k, &forwardLink{}))
	_, action, _ := send(t, p, "tun", plane.Packet{Src: addr("198.51.100.1"), Dst: addr("192.0.2.1"), Proto: 50})
	s, err := p.Stats()
	must(t, err)
	if action != xdpDrop || s.Reasons[plane.DropNoNeighbour] != 1 || s.ServiceDrop[1][plane.DropNoNeighbour] != 1 {
		t.Errorf("action %d, counted %v", action, s.ServiceDrop)
	}
}

// TestSuccessorNeverGetsOldMAC: an index that comes to mean another address does not inherit the way to the first.
func TestSuccessorNeverGetsOldMAC(t *testing.T) {
	p := examplePlane(t)
	c := example()
	c.RealServers[0].Addrs = []netip.Addr{addr("10.9.0.99")}
	must(t, p.Apply(context.Background(), plane.Update{Config: &c}))
	if _, action, _ := send(t, p, "tun", plane.Packet{Src: addr("198.51.100.1"), Dst: addr("192.0.2.1"), Proto: 50}); action != xdpDrop {
		t.Errorf("action %d, want drop until the neighbour is found", action)
	}
}

func TestCounters(t *testing.T) {
	p := examplePlane(t)
	before := time.Now().Add(-10 * time.Second)
	site := plane.Packet{Src: addr("198.51.100.1"), Dst: addr("192.0.2.1"), Proto: 50, Size: 200}
	for range 3 {
		send(t, p, "tun", site)
	}
	send(t, p, "sub", plane.Packet{Src: addr("203.0.113.1"), Dst: addr("100.64.1.5"), Proto: 6, Size: 90})
	send(t, p, "tun", plane.Packet{Src: addr("198.51.100.77"), Dst: addr("192.0.2.1"), Proto: 50})
	send(t, p, "sub", plane.Packet{Src: addr("203.0.113.1"), Dst: addr("100.99.1.5"), Proto: 6})
	s, err := p.Stats()
	must(t, err)
	delete(s.Reasons, plane.PassMAC)
	want := plane.Stats{
		RealServers: map[affinity.Index]plane.Traffic{1: {Packets: 4, Bytes: 690}},
		Services:    map[uint16]plane.Traffic{1: {Packets: 3, Bytes: 600}},
		Subnet:      plane.Traffic{Packets: 1, Bytes: 90},
		Reasons:     map[plane.Reason]uint64{plane.DropUnknown: 1, plane.DropCover: 1},
		ServiceDrop: map[uint16]map[plane.Reason]uint64{1: {plane.DropUnknown: 1}},
		Capacity:    s.Capacity,
	}
	if d := cmp.Diff(want, s); d != "" {
		t.Errorf("Stats (-want +got)\n%s", d)
	}
	key := plane.EndpointKey{VIP: site.Dst, Addr: site.Src}
	at, err := p.Seen(key)
	must(t, err)
	if at.Before(before) || at.After(time.Now().Add(2*time.Second)) {
		t.Errorf("seen at %v", at)
	}
	var seen []plane.EndpointKey
	must(t, p.LastSeen(t.Context(), before, func(k plane.EndpointKey, _ time.Time) bool {
		seen = append(seen, k)
		return true
	}))
	if len(seen) != 1 || seen[0] != key {
		t.Errorf("LastSeen says %v, want %v", seen, key)
	}
	// a pin that changes is still the same tunnel
	must(t, p.Apply(t.Context(), plane.Update{Entries: []plane.Entry{endpoint("192.0.2.1", "198.51.100.1", 0, 2, 0)}}))
	again, err := p.Seen(key)
	must(t, err)
	if d := again.Sub(at).Abs(); d > time.Second {
		t.Errorf("last-seen moved by %v when the pin changed", d)
	}
}
