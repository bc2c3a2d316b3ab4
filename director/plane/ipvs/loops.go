package ipvs

import (
	"net/netip"
	"slices"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
	"tunneldirector/director/plane/frame"
	"tunneldirector/director/plane/ipvs/gate"
)

// neighbours are the real servers that are not to get back what they have sent. Under masq that is for nobody to say: there a real server
// may well dial its own VIP, and an address that has masq as well as another method is left out. So is who has a MAC address in common with
// another neighbour: a router that answers ARP for real servers sends what comes from sites, too.
func (p *Plane) neighbours() (list []gate.Neighbour) {
	macs, err := p.survey.Neighbours()
	p.warn("know real servers by their MAC addresses", err)
	have := map[owner]int{}
	for a, mac := range macs {
		if !a.IsLinkLocalUnicast() {
			have[owner{mac, a.Is6()}]++
		}
	}
	masq := map[netip.Addr]bool{}
	for _, rs := range p.servers {
		for _, a := range rs.Addrs {
			masq[a] = masq[a] || rs.Method == affinity.Masq
		}
	}
	for a, with := range masq {
		if mac, known := macs[a]; known && !with && have[owner{mac, a.Is6()}] == 1 {
			list = append(list, gate.Neighbour{Addr: a, MAC: mac})
		}
	}
	return gate.Told(list)
}

// An owner is who has the addresses of one family that are at a MAC address.
type owner struct {
	mac [6]byte
	v6  bool
}

// loops tells whether a packet from one real server to another is cut: they have one MAC address.
func (p *Plane) loops(from, to affinity.Index, v6 bool) bool {
	a, ok := address(p.servers[from], v6)
	b, has := address(p.servers[to], v6)
	if !ok || !has {
		return false
	}
	mac, known := p.macs[a]
	return known && p.macs[b] == mac
}

// senderOf is a real server with the MAC address that a frame comes from; 0: none.
func (p *Plane) senderOf(head []byte) affinity.Index {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(head) < ethernet {
		return 0
	}
	for i, rs := range p.servers {
		for _, a := range rs.Addrs {
			if mac, ok := p.macs[a]; ok && mac == [6]byte(head[6:12]) {
				return i
			}
		}
	}
	return 0
}

const ethernet = 14 // bytes of its header

// returned adds what the table knows of a packet that the gate cut because it would have gone back where it came from.
func (p *Plane) returned(s plane.Sample) plane.Sample {
	s, to := p.unwrap(s)
	pk, err := frame.Parse(s.Head)
	if err != nil {
		return s
	}
	if s.Side = plane.SubnetSide; p.isVIP(pk.Dst) {
		s.Side = plane.TunnelSide
	}
	pk.Interface, pk.Hops = s.Interface, 64 // it had one more when it came
	if d, err := p.Lookup(pk); err == nil && d.Reason == plane.None && d.RealServer != 0 {
		s.Service, s.RealServer = d.Service, d.RealServer
	}
	return p.sentBy(s, to, pk.Dst.Is6())
}

// unwrap takes off the outer header of a packet under tunnel; to is the real server that it was for.
func (p *Plane) unwrap(s plane.Sample) (in plane.Sample, to netip.Addr) {
	pk, err := frame.Parse(s.Head)
	if err != nil || !p.hasMAC(pk.Dst) {
		return s, netip.Addr{}
	}
	layer := layers.LayerTypeIPv4
	if pk.Dst.Is6() {
		layer = layers.LayerTypeIPv6
	}
	all := gopacket.NewPacket(s.Head[ethernet:], layer, gopacket.DecodeOptions{NoCopy: true}).Layers()
	for _, l := range all[min(1, len(all)):] {
		if l.LayerType() != layers.LayerTypeIPv4 && l.LayerType() != layers.LayerTypeIPv6 {
			continue
		}
		head := make([]byte, ethernet-2, ethernet+len(l.LayerContents())+len(l.LayerPayload()))
		head = append(head, 8, 0)
		if l.LayerType() == layers.LayerTypeIPv6 {
			head[ethernet-2], head[ethernet-1] = 0x86, 0xdd
		}
		outer := len(s.Head) - ethernet - len(l.LayerContents()) - len(l.LayerPayload())
		s.Head, s.Length = append(append(head, l.LayerContents()...), l.LayerPayload()...), s.Length-outer
		if !slices.ContainsFunc(p.o.Interfaces, func(i plane.Interface) bool { return i.Name == s.Interface }) {
			s.Interface = "" // a tunnel device, which it came to after the one that it came in by
		}
		return s, pk.Dst
	}
	return s, netip.Addr{}
}

// sentBy adds the real server that sent s and to which it would go, and its MAC address, if they are not there yet.
func (p *Plane) sentBy(s plane.Sample, to netip.Addr, v6 bool) plane.Sample {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.RealServer == 0 && to.IsValid() {
		for i, rs := range p.servers {
			if rs.Alive && rs.Method == affinity.IPIP && slices.Contains(rs.Addrs, to) {
				s.RealServer = i
			}
		}
	}
	a, ok := address(p.servers[s.RealServer], v6)
	if mac, known := p.macs[a]; ok && known && [6]byte(s.Head[6:12]) == [6]byte{} {
		copy(s.Head[6:12], mac[:])
	}
	return s
}

func (p *Plane) isVIP(a netip.Addr) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.ContainsFunc(p.config.Services, func(s plane.Service) bool { return slices.Contains(s.VIPs, a) })
}

func (p *Plane) hasMAC(a netip.Addr) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.macs[a]
	return ok
}
