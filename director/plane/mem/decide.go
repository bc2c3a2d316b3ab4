package mem

import (
	"fmt"
	"net/netip"
	"slices"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
)

// Lookup tells what would become of p now. A packet by an interface that the plane was not made with is an error.
//
// Of a Decision that does not forward, RealServer is 0 and Backup false. Side is TunnelSide as soon as the destination
// is a VIP, and SubnetSide as soon as a subnet or a cover matched. Hashed says that a ring's target was followed.
func (m *Plane) Lookup(p plane.Packet) (plane.Decision, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.decide(p)
}

// decide is the packet's way of package plane; the numbers are those of its rules.
func (m *Plane) decide(p plane.Packet) (plane.Decision, error) {
	var d plane.Decision
	in, err := m.ingress(p)
	if err != nil {
		return d, err
	}
	switch {
	case p.OtherMAC: // 1
		d.Reason = plane.PassMAC
	case !p.Src.IsValid() || !p.Dst.IsValid(): // 2
		d.Reason = plane.PassNotIP
	case p.Src.Is4() != p.Dst.Is4(): // 3; what else a frame can get wrong, a plane.Packet cannot say
		d.Reason = plane.DropMalformed
	case m.isVIP(p.Dst):
		d.Side = plane.TunnelSide
		m.tunnelSide(&d, p, in)
	default:
		m.subnetSide(&d, p, in)
	}
	return d, nil
}

// ingress is the interface of p: the one it names, else the first with the role that p needs, else
// one without any.
func (m *Plane) ingress(p plane.Packet) (plane.Interface, error) {
	need := plane.RoleSubnet
	if m.isVIP(p.Dst) {
		need = plane.RoleTunnel
	}
	for _, i := range m.interfaces {
		if i.Name == p.Interface || p.Interface == "" && i.Roles&need != 0 {
			return i, nil
		}
	}
	if p.Interface != "" {
		return plane.Interface{}, fmt.Errorf("look up a packet by interface %q: the plane does not use it", p.Interface)
	}
	return plane.Interface{}, nil
}

func (m *Plane) tunnelSide(d *plane.Decision, p plane.Packet, in plane.Interface) {
	if in.Roles&plane.RoleTunnel == 0 { // 4
		d.Reason = plane.DropRole
		return
	}
	if m.badSource(p.Src) { // 5
		d.Reason = plane.DropSource
		return
	}
	w := way{p.Proto, p.HasPorts(), p.Src, p.SrcPort, p.DstPort}
	if isICMP(p.Proto, p.Dst) { // 6
		switch {
		case p.Fragment == plane.Whole && isControl(p):
			d.Reason = plane.PassControl
			return
		case p.Fragment == plane.Whole && isError(p) && p.Inner != nil && p.Inner.Src == p.Dst:
			w = way{p.Inner.Proto, p.Inner.HasPorts(), p.Inner.Dst, p.Inner.DstPort, p.Inner.SrcPort}
		default:
			d.Reason = plane.DropICMP
			return
		}
	}
	services := m.services(p.Dst, w)
	if len(services) == 0 { // 7
		d.Reason = plane.DropNoService
		return
	}
	d.Service = services[0].Num
	t, ok := m.pin(d, p.Dst, w) // 8
	if !ok {
		t, ok = fromRing(d, services, w) // 9
	}
	if ok {
		m.forward(d, p, t)
	}
}

// A way is what the tunnel side asks of a packet, or of the packet that an ICMP error is about.
type way struct {
	proto    uint8
	ports    bool
	endpoint netip.Addr
	source   uint16 // the endpoint's port
	service  uint16 // the service's port
}

// services are those with this VIP that match w, the lowest numbered first.
func (m *Plane) services(vip netip.Addr, w way) []plane.Service {
	var found []plane.Service
	for _, s := range m.config.Services {
		matches := func(r affinity.Match) bool {
			return r.Proto == w.proto && (!w.ports || r.Lo <= w.service && w.service <= r.Hi)
		}
		if slices.Contains(s.VIPs, vip) && slices.ContainsFunc(s.Match, matches) {
			found = append(found, s)
		}
	}
	slices.SortFunc(found, func(a, b plane.Service) int { return int(a.Num) - int(b.Num) })
	return found
}

func (m *Plane) pin(d *plane.Decision, vip netip.Addr, w way) (plane.Target, bool) {
	keys := []plane.EndpointKey{{VIP: vip, Addr: w.endpoint}}
	if w.ports {
		keys = []plane.EndpointKey{{VIP: vip, Addr: w.endpoint, Port: w.source}, {VIP: vip, Addr: w.endpoint}}
	}
	for _, k := range keys {
		if t, ok := m.endpoints[k]; ok && !(w.ports && t.Drop == plane.DropNoPort) {
			d.Endpoint = k
			return t, true
		}
	}
	return plane.Target{}, false
}

func fromRing(d *plane.Decision, services []plane.Service, w way) (plane.Target, bool) {
	hashes := func(s plane.Service) bool { return len(s.Ring) > 0 }
	ring := services[0].Ring
	switch {
	case affinity.HasPorts(w.proto) && !w.ports && len(services) > 1 && slices.ContainsFunc(services, hashes):
		d.Reason = plane.DropAmbiguous
		return plane.Target{}, false
	case len(ring) == 0:
		d.Reason = plane.DropUnknown
		return plane.Target{}, false
	}
	d.Hashed = true
	return ring[plane.HashAddr(w.endpoint)%uint32(len(ring))], true
}

func (m *Plane) subnetSide(d *plane.Decision, p plane.Packet, in plane.Interface) {
	tenant, ok := m.tenant(in, p)
	if slices.Contains(m.config.Own, p.Dst) || in.Roles&plane.RoleSubnet == 0 || !ok { // 10
		d.Reason = plane.PassLocal
		return
	}
	t, k, found := m.longest(tenant, p.Dst)
	if !found { // 11
		d.Reason = plane.PassLocal
		return
	}
	d.Side, d.Subnet = plane.SubnetSide, k
	if m.badSource(p.Src) { // 12
		d.Reason = plane.DropSource
		return
	}
	m.forward(d, p, t)
}

// tenant is the number of the tenant that a tag, or the lack of one, tells on an interface; or of the one that p names
// where it names no interface.
func (m *Plane) tenant(in plane.Interface, p plane.Packet) (uint16, bool) {
	name, ok := in.Tenant, true
	switch {
	case p.Interface == "" && p.Tenant != "":
		name = p.Tenant
	case p.VLAN != 0:
		name, ok = in.VLANs[p.VLAN]
	}
	if !ok || name == "" {
		return 0, ok
	}
	for _, t := range m.config.Tenants {
		if t.Name == name {
			return t.Num, true
		}
	}
	return 0, false
}

// longest is the longest prefix of the tenant, subnet or cover, around a; a cover's target is DropCover.
func (m *Plane) longest(tenant uint16, a netip.Addr) (target plane.Target, key plane.SubnetKey, found bool) {
	for _, t := range m.config.Tenants {
		for _, c := range t.Covers {
			if t.Num == tenant && c.Contains(a) && (!found || c.Bits() > key.Prefix.Bits()) {
				target, key, found = plane.Target{Drop: plane.DropCover}, plane.SubnetKey{Tenant: tenant, Prefix: c}, true
			}
		}
	}
	for k, t := range m.subnets {
		if k.Tenant == tenant && k.Prefix.Contains(a) && (!found || k.Prefix.Bits() >= key.Prefix.Bits()) {
			target, key, found = t, k, true
		}
	}
	return target, key, found
}

// forward decides which real server of t gets p, and whether p may go there.
func (m *Plane) forward(d *plane.Decision, p plane.Packet, t plane.Target) {
	if t.Drop != plane.None { // 8, 12
		d.Reason = t.Drop
		return
	}
	rs, backup := m.servers[t.Primary], false
	if !rs.Alive {
		rs, backup = m.servers[t.Backup], true
	}
	switch {
	case !rs.Alive: // 13
		d.Reason = plane.DropDead
	case p.Hops <= 1: // 14
		d.Reason = plane.DropHops
	case m.sameMachine(p.From, rs): // 15
		d.Reason = plane.DropLoop
	case rs.Method == affinity.IPIP && !hasFamily(rs, p.Dst): // 16
		d.Reason = plane.DropNoNeighbour
	case p.Size+outer(rs, p.Dst) > pathMTU(rs): // 17
		d.Reason = plane.DropTooBig
	default: // 18
		d.RealServer, d.Backup = rs.Index, backup
	}
}
