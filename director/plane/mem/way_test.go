package mem

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"tunneldirector/director/plane"
)

// udp is a packet from an endpoint to a VIP; the rows of TestWay change what they are about.
func udp(src, dst string, sport, dport uint16) plane.Packet {
	return plane.Packet{Src: addr(src), Dst: addr(dst), Proto: 17, SrcPort: sport, DstPort: dport, Hops: 64}
}

func ip(src, dst string, proto uint8) plane.Packet {
	return plane.Packet{Src: addr(src), Dst: addr(dst), Proto: proto, Hops: 64}
}

func icmp(src, dst string, kind uint8, inner *plane.Packet) plane.Packet {
	p := ip(src, dst, 1)
	if p.Dst.Is6() {
		p.Proto = 58
	}
	p.ICMPType, p.Inner = kind, inner
	return p
}

func with(p plane.Packet, change func(*plane.Packet)) plane.Packet {
	change(&p)
	return p
}

type decision = plane.Decision

func TestWay(t *testing.T) {
	const (
		tun, sub = plane.TunnelSide, plane.SubnetSide
		vip, v6  = "192.0.2.1", "2001:db8::1"
	)
	host := "192.0.2.99" // a target host
	later := func(p *plane.Packet) { p.Fragment, p.SrcPort, p.DstPort = plane.Later, 0, 0 }
	first := func(p *plane.Packet) { p.Fragment = plane.First }
	by := func(iface string, vlan uint16) func(*plane.Packet) {
		return func(p *plane.Packet) { p.Interface, p.VLAN = iface, vlan }
	}
	sent := func(p plane.Packet) *plane.Packet { return &p }
	one := pin(vip, "203.0.113.1", 0)
	for _, row := range []struct {
		name string
		p    plane.Packet
		want decision
	}{
		{"1 other MAC", with(ip("203.0.113.1", vip, 50), func(p *plane.Packet) { p.OtherMAC = true }), decision{Reason: plane.PassMAC}},
		{"2 not IP", plane.Packet{}, decision{Reason: plane.PassNotIP}},
		{"3 families mixed", ip("203.0.113.1", v6, 50), decision{Reason: plane.DropMalformed}},
		{"4 VIP by an interface without the role", with(ip("203.0.113.1", vip, 50), by("in", 0)), decision{Side: tun, Reason: plane.DropRole}},
		{"5 from a VIP", ip(vip, vip, 50), decision{Side: tun, Reason: plane.DropSource}},
		{"5 from an own address", ip("10.0.0.254", vip, 50), decision{Side: tun, Reason: plane.DropSource}},
		{"5 from loopback", ip("127.1.2.3", vip, 50), decision{Side: tun, Reason: plane.DropSource}},
		{"5 from ::1", ip("::1", v6, 50), decision{Side: tun, Reason: plane.DropSource}},
		{"5 from nobody", ip("0.0.0.0", vip, 50), decision{Side: tun, Reason: plane.DropSource}},
		{"5 from multicast", ip("ff02::1", v6, 50), decision{Side: tun, Reason: plane.DropSource}},
		{"5 from class E", ip("255.255.255.255", vip, 50), decision{Side: tun, Reason: plane.DropSource}},
		{"5 a bad source before ICMP", icmp("0.0.0.0", vip, 8, nil), decision{Side: tun, Reason: plane.DropSource}},
		{"6 echo request", icmp("203.0.113.1", vip, 8, nil), decision{Side: tun, Reason: plane.PassControl}},
		{"6 echo request in fragments", with(icmp("203.0.113.1", vip, 8, nil), first), decision{Side: tun, Reason: plane.DropICMP}},
		{"6 echo reply", icmp("203.0.113.1", vip, 0, nil), decision{Side: tun, Reason: plane.DropICMP}},
		{"6 neighbour solicitation", icmp("2001:db8:f::1", v6, 135, nil), decision{Side: tun, Reason: plane.PassControl}},
		{"6 router advertisement", icmp("2001:db8:f::1", v6, 134, nil), decision{Side: tun, Reason: plane.DropICMP}},
		{"6 ICMPv6 inside IPv4 is a protocol like others", ip("203.0.113.1", vip, 58), decision{Side: tun, Reason: plane.DropNoService}},
		{"6 error about ESP", icmp("198.51.100.9", vip, 3, sent(ip(vip, "203.0.113.1", 50))),
			decision{Side: tun, Service: 3, RealServer: 1, Endpoint: one}},
		{"6 error by ports, turned round", icmp("198.51.100.9", vip, 3, sent(udp(vip, "203.0.113.1", 500, 4001))),
			decision{Side: tun, Service: 3, RealServer: 2, Endpoint: pin(vip, "203.0.113.1", 4001)}},
		{"6 error about a later fragment", icmp("198.51.100.9", vip, 11, sent(with(udp(vip, "203.0.113.2", 0, 0), later))),
			decision{Side: tun, Service: 3, Reason: plane.DropNoPort, Endpoint: pin(vip, "203.0.113.2", 0)}},
		{"6 packet too big", icmp("2001:db8:f::99", v6, 2, sent(ip(v6, "2001:db8:f::7", 50))),
			decision{Side: tun, Service: 3, RealServer: 4, Endpoint: pin(v6, "2001:db8:f::7", 0)}},
		{"6 error about another VIP's packet", icmp("198.51.100.9", vip, 3, sent(ip("192.0.2.2", "203.0.113.1", 50))),
			decision{Side: tun, Reason: plane.DropICMP}},
		{"6 error about nothing", icmp("198.51.100.9", vip, 3, nil), decision{Side: tun, Reason: plane.DropICMP}},
		{"6 redirect", icmp("198.51.100.9", vip, 5, sent(ip(vip, "203.0.113.1", 50))), decision{Side: tun, Reason: plane.DropICMP}},
		{"7 no such protocol", ip("203.0.113.1", vip, 51), decision{Side: tun, Reason: plane.DropNoService}},
		{"7 no such port", udp("203.0.113.1", vip, 4001, 501), decision{Side: tun, Reason: plane.DropNoService}},
		{"7 another VIP's port", udp("203.0.113.1", "192.0.2.2", 4001, 500), decision{Side: tun, Reason: plane.DropNoService}},
		{"7 the lower number wins where both match", udp("203.0.113.1", vip, 7, 5000), decision{Side: tun, Service: 3, RealServer: 1, Endpoint: one}},
		{"7 end of a range", udp("203.0.113.1", vip, 7, 5999), decision{Side: tun, Service: 9, RealServer: 1, Endpoint: one}},
		{"7 a fragment matches by protocol alone", with(udp("203.0.113.1", vip, 0, 0), later), decision{Side: tun, Service: 3, RealServer: 1, Endpoint: one}},
		{"7 ... but not by another one", with(ip("203.0.113.1", vip, 6), later), decision{Side: tun, Reason: plane.DropNoService}},
		{"8 pin by port", udp("203.0.113.1", vip, 4001, 500), decision{Side: tun, Service: 3, RealServer: 2, Endpoint: pin(vip, "203.0.113.1", 4001)}},
		{"8 first fragment by port", with(udp("203.0.113.1", vip, 4001, 500), first),
			decision{Side: tun, Service: 3, RealServer: 2, Endpoint: pin(vip, "203.0.113.1", 4001)}},
		{"8 other port, bare pin", udp("203.0.113.1", vip, 4002, 500), decision{Side: tun, Service: 3, RealServer: 1, Endpoint: one}},
		{"8 no port, bare pin", ip("203.0.113.1", vip, 50), decision{Side: tun, Service: 3, RealServer: 1, Endpoint: one}},
		{"8 by port only: its port", udp("203.0.113.2", vip, 4001, 500), decision{Side: tun, Service: 3, RealServer: 1, Endpoint: pin(vip, "203.0.113.2", 4001)}},
		{"8 by port only: another port is unknown", udp("203.0.113.2", vip, 4002, 500), decision{Side: tun, Service: 3, Reason: plane.DropUnknown}},
		{"8 by port only: another port, hashed", udp("203.0.113.2", vip, 4002, 5500), decision{Side: tun, Service: 9, RealServer: 2, Hashed: true}},
		{"8 by port only: no port", ip("203.0.113.2", vip, 50), decision{Side: tun, Service: 3, Reason: plane.DropNoPort, Endpoint: pin(vip, "203.0.113.2", 0)}},
		{"8 unplaced", ip("203.0.113.5", vip, 50), decision{Side: tun, Service: 3, Reason: plane.DropUnplaced, Endpoint: pin(vip, "203.0.113.5", 0)}},
		{"8 contested", ip("203.0.113.6", vip, 50), decision{Side: tun, Service: 3, Reason: plane.DropContested, Endpoint: pin(vip, "203.0.113.6", 0)}},
		{"8 a pin is of its VIP", ip("203.0.113.3", "192.0.2.2", 50), decision{Side: tun, Reason: plane.DropNoService}},
		{"9 unknown", ip("203.0.113.99", vip, 50), decision{Side: tun, Service: 3, Reason: plane.DropUnknown}},
		{"9 hashed", ip("203.0.113.99", vip, 47), decision{Side: tun, Service: 9, RealServer: 2, Hashed: true}},
		{"9 ambiguous fragment", with(udp("203.0.113.99", vip, 0, 0), later), decision{Side: tun, Service: 3, Reason: plane.DropAmbiguous}},
		{"9 fragment with one service only", with(udp("203.0.113.99", "192.0.2.2", 0, 0), later), decision{Side: tun, Service: 4, RealServer: 2, Hashed: true}},
		{"10 to an own address", ip(host, "10.0.0.254", 6), decision{Reason: plane.PassLocal}},
		{"10 by an interface without the role", with(ip(host, "10.1.0.1", 6), by("out", 0)), decision{Reason: plane.PassLocal}},
		{"10 a tag of nobody's", with(ip(host, "10.1.0.1", 6), by("in", 69)), decision{Reason: plane.PassLocal}},
		{"10 a tag of a tenant unheard of", with(ip(host, "10.1.0.1", 6), by("in", 72)), decision{Reason: plane.PassLocal}},
		{"10 a tag of the default tenant", with(ip(host, "10.1.0.1", 6), by("in", 71)), decision{Side: sub, RealServer: 1, Subnet: subnet(0, "10.1.0.0/16")}},
		{"10 a tenant by tag", with(ip(host, "10.1.0.1", 6), by("in", 70)), decision{Side: sub, RealServer: 4, Subnet: subnet(7, "10.1.0.0/16")}},
		{"10 a tenant by interface", with(ip(host, "10.1.0.1", 6), by("green", 0)), decision{Side: sub, RealServer: 4, Subnet: subnet(7, "10.1.0.0/16")}},
		{"10 a tenant by name", with(ip(host, "10.1.0.1", 6), func(p *plane.Packet) { p.Tenant = "blue" }),
			decision{Side: sub, RealServer: 4, Subnet: subnet(7, "10.1.0.0/16")}},
		{"10 an interface tells more than a name", with(with(ip(host, "10.1.0.1", 6), func(p *plane.Packet) { p.Tenant = "blue" }), by("in", 0)),
			decision{Side: sub, RealServer: 1, Subnet: subnet(0, "10.1.0.0/16")}},
		{"11 longest match", ip(host, "10.1.2.9", 6), decision{Side: sub, RealServer: 2, Subnet: subnet(0, "10.1.2.0/24")}},
		{"11 an entry beats a cover of the same prefix", ip(host, "10.2.0.1", 6), decision{Side: sub, RealServer: 1, Subnet: subnet(0, "10.2.0.0/16")}},
		{"11 nothing", ip(host, "203.0.113.200", 6), decision{Reason: plane.PassLocal}},
		{"11 a subnet outside all covers", ip(host, "198.51.100.9", 6), decision{Side: sub, RealServer: 1, Subnet: subnet(0, "198.51.100.0/24")}},
		{"12 bad source", ip(vip, "10.1.0.1", 6), decision{Side: sub, Reason: plane.DropSource, Subnet: subnet(0, "10.1.0.0/16")}},
		{"12 cover", ip(host, "10.99.0.1", 6), decision{Side: sub, Reason: plane.DropCover, Subnet: subnet(0, "10.0.0.0/8")}},
		{"12 unplaced", ip(host, "10.1.3.1", 6), decision{Side: sub, Reason: plane.DropUnplaced, Subnet: subnet(0, "10.1.3.0/24")}},
		{"13 primary dead", ip("203.0.113.3", vip, 50), decision{Side: tun, Service: 3, RealServer: 2, Backup: true, Endpoint: pin(vip, "203.0.113.3", 0)}},
		{"13 backup not configured", ip("203.0.113.4", vip, 50), decision{Side: tun, Service: 3, Reason: plane.DropDead, Endpoint: pin(vip, "203.0.113.4", 0)}},
		{"13 both dead", ip("203.0.113.10", vip, 50), decision{Side: tun, Service: 3, Reason: plane.DropDead, Endpoint: pin(vip, "203.0.113.10", 0)}},
		{"13 nobody named", ip("203.0.113.8", vip, 50), decision{Side: tun, Service: 3, Reason: plane.DropDead, Endpoint: pin(vip, "203.0.113.8", 0)}},
		{"13 only a backup named", ip("203.0.113.9", vip, 50), decision{Side: tun, Service: 3, RealServer: 2, Backup: true, Endpoint: pin(vip, "203.0.113.9", 0)}},
		{"14 hops 1", with(ip("203.0.113.1", vip, 50), func(p *plane.Packet) { p.Hops = 1 }), decision{Side: tun, Service: 3, Reason: plane.DropHops, Endpoint: one}},
		{"14 hops 0", with(ip(host, "10.1.0.1", 6), func(p *plane.Packet) { p.Hops = 0 }), decision{Side: sub, Reason: plane.DropHops, Subnet: subnet(0, "10.1.0.0/16")}},
		{"14 hops 2", with(ip("203.0.113.1", vip, 50), func(p *plane.Packet) { p.Hops = 2 }), decision{Side: tun, Service: 3, RealServer: 1, Endpoint: one}},
		{"15 loop", with(ip(host, "10.1.0.1", 6), func(p *plane.Packet) { p.From = 1 }), decision{Side: sub, Reason: plane.DropLoop, Subnet: subnet(0, "10.1.0.0/16")}},
		{"15 loop by a neighbour on the same machine", with(ip(host, "10.1.0.1", 6), func(p *plane.Packet) { p.From = 6 }),
			decision{Side: sub, Reason: plane.DropLoop, Subnet: subnet(0, "10.1.0.0/16")}},
		{"15 from another real server", with(ip(host, "10.1.0.1", 6), func(p *plane.Packet) { p.From = 2 }),
			decision{Side: sub, RealServer: 1, Subnet: subnet(0, "10.1.0.0/16")}},
		{"16 no address of the family", ip("2001:db8:f::8", v6, 50), decision{Side: tun, Service: 3, Reason: plane.DropNoNeighbour, Endpoint: pin(v6, "2001:db8:f::8", 0)}},
		{"16 which dr does not need", ip("2001:db8:f::9", v6, 50), decision{Side: tun, Service: 3, RealServer: 1, Endpoint: pin(v6, "2001:db8:f::9", 0)}},
		{"17 dr, fits", with(ip("203.0.113.1", vip, 50), func(p *plane.Packet) { p.Size = 1500 }), decision{Side: tun, Service: 3, RealServer: 1, Endpoint: one}},
		{"17 dr, too big", with(ip("203.0.113.1", vip, 50), func(p *plane.Packet) { p.Size = 1501 }), decision{Side: tun, Service: 3, Reason: plane.DropTooBig, Endpoint: one}},
		{"17 IPIP 4in4, fits", with(ip("203.0.113.7", vip, 50), func(p *plane.Packet) { p.Size = 1380 }),
			decision{Side: tun, Service: 3, RealServer: 4, Endpoint: pin(vip, "203.0.113.7", 0)}},
		{"17 IPIP 4in4, too big", with(ip("203.0.113.7", vip, 50), func(p *plane.Packet) { p.Size = 1381 }),
			decision{Side: tun, Service: 3, Reason: plane.DropTooBig, Endpoint: pin(vip, "203.0.113.7", 0)}},
		{"17 IPIP 6in6, fits", with(ip("2001:db8:f::7", v6, 50), func(p *plane.Packet) { p.Size = 1360 }),
			decision{Side: tun, Service: 3, RealServer: 4, Endpoint: pin(v6, "2001:db8:f::7", 0)}},
		{"17 IPIP 6in6, too big", with(ip("2001:db8:f::7", v6, 50), func(p *plane.Packet) { p.Size = 1361 }),
			decision{Side: tun, Service: 3, Reason: plane.DropTooBig, Endpoint: pin(v6, "2001:db8:f::7", 0)}},
		{"a mapped VIP inside IPv6 is no VIP", ip("2001:db8:f::7", "::ffff:192.0.2.1", 50), decision{Reason: plane.PassLocal}},
	} {
		t.Run(row.name, func(t *testing.T) {
			if diff := cmp.Diff(row.want, lookup(t, rig(t), row.p), addrs); diff != "" {
				t.Error(diff)
			}
		})
	}
	if d, err := rig(t).Lookup(plane.Packet{Interface: "nowhere"}); err == nil {
		t.Errorf("by an interface that the plane has not: %+v and no error", d)
	}
}
