package planetest

import (
	"maps"
	"net/netip"
	"slices"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
)

// packet draws one near the keys that there are.
func (w *world) packet() plane.Packet {
	var p plane.Packet
	if w.rng.IntN(5) < 3 {
		p = w.toVIP()
	} else {
		p = w.toSubnet()
	}
	if w.chance(10) {
		p.Hops = pick(w, []uint8{0, 1, 2, 255})
	}
	if w.chance(16) {
		p.Src = w.badSource(p.Dst.Is6())
	}
	if w.chance(40) {
		p.OtherMAC = true
	}
	if w.chance(5) && !w.opt.Caps.NoSizes {
		p.Size = w.size()
	}
	p.DF = w.chance(2)
	return p
}

// size is near what a path takes, with and without an outer header, or ordinary.
func (w *world) size() int {
	if w.chance(4) {
		return 300 + w.rng.IntN(900)
	}
	return pick(w, []int{1500, 1400, 1340}) - pick(w, []int{0, 0, 20, 40}) + pick(w, []int{-1, 0, 1})
}

func (w *world) badSource(v6 bool) netip.Addr {
	list := []string{"127.0.0.1", "127.255.0.9", "0.0.0.0", "224.0.0.5", "239.1.1.1", "240.0.0.1", "255.255.255.255", "223.255.255.255", "0.0.0.1"}
	if v6 {
		list = []string{"::1", "::", "ff02::1", "ff0e::9", "fe80::1", "::2"}
	}
	if w.opt.Caps.Stack { // it does not forward from these, though they are no lies
		list = slices.DeleteFunc(list, func(a string) bool { return slices.Contains([]string{"0.0.0.1", "fe80::1", "::2"}, a) })
	}
	a := netip.MustParseAddr(pick(w, list))
	for _, s := range w.services {
		if vip, ok := addrOf(s.VIPs, v6); ok && w.chance(6) {
			a = vip
		}
	}
	if own, ok := addrOf(w.own, v6); ok && w.chance(4) {
		a = own
	}
	return a
}

// by is an interface, mostly one with the role, and a tag that it may know.
func (w *world) by(p *plane.Packet, role plane.Role) {
	fit := slices.DeleteFunc(slices.Clone(w.opt.Interfaces), func(i plane.Interface) bool { return i.Roles&role == 0 })
	if len(fit) == 0 || w.chance(12) {
		fit = w.opt.Interfaces
	}
	in := pick(w, fit)
	if p.Interface = in.Name; w.chance(16) {
		p.Interface = "" // Lookup only
	}
	if w.opt.Caps.NoVLANs || !w.chance(3) {
		return
	}
	p.VLAN = 99
	var tags []uint16
	for tag := range in.VLANs {
		tags = append(tags, tag)
	}
	if slices.Sort(tags); len(tags) > 0 && !w.chance(6) {
		p.VLAN = pick(w, tags)
	}
}

func (w *world) toVIP() plane.Packet {
	p := plane.Packet{Dst: w.vip(), Hops: 64}
	if len(w.services) > 0 && !w.chance(12) {
		p.Dst = pick(w, pick(w, w.services).VIPs)
	}
	v6 := p.Dst.Is6()
	p.Src, p.SrcPort = w.endpoint(v6), w.port()
	if w.chance(20) {
		p.SrcPort = 0
	}
	if k, t, ok := w.pinAt(p.Dst); ok && !w.chance(4) {
		p.Src = k.Addr
		if k.Port != 0 && !w.chance(4) {
			p.SrcPort = k.Port
		}
		w.from(&p, t)
	}
	w.protocol(&p)
	w.by(&p, plane.RoleTunnel)
	if w.chance(5) && !w.opt.Caps.NoICMP {
		p = w.icmp(p)
	} else if w.chance(20) {
		p.Proto, p.SrcPort, p.DstPort, p.ICMPType = 1, 0, 0, 8
		if v6 {
			p.Proto, p.ICMPType = 58, pick(w, []uint8{128, 135, 136})
		}
	}
	if !v6 && !w.opt.Caps.NoIPv6 && w.chance(60) { // a VIP mapped into IPv6 is no VIP
		p.Dst, p.Src, p.Inner = netip.AddrFrom16(p.Dst.As16()), w.endpoint(true), nil
	}
	return p
}

// pinAt is one of the pins at a VIP, or one that was.
func (w *world) pinAt(vip netip.Addr) (plane.EndpointKey, plane.Target, bool) {
	at := slices.DeleteFunc(slices.Concat(w.entries, w.gone), func(e plane.Entry) bool { return e.Endpoint.VIP != vip })
	if len(at) == 0 {
		return plane.EndpointKey{}, plane.Target{}, false
	}
	e := pick(w, at)
	return e.Endpoint, e.Target, true
}

// from says, now and then, that the packet comes from a real server, even the one that it would go to.
func (w *world) from(p *plane.Packet, t plane.Target) {
	if len(w.servers) > 0 && w.chance(10) && !w.opt.Caps.NoLoops {
		p.From = pick(w, []affinity.Index{t.Primary, t.Primary, t.Backup, pick(w, w.servers).Index})
	}
}

// protocol draws protocol, service port and fragment part, mostly so that a service at p.Dst matches.
func (w *world) protocol(p *plane.Packet) {
	p.Proto, p.DstPort = pick(w, []uint8{50, 51, 47, 115, 17, 6, 132, 2, 1, 58}), w.port()
	var m []affinity.Match
	for _, s := range w.services {
		if slices.Contains(s.VIPs, p.Dst) {
			m = append(m, s.Match...)
		}
	}
	if len(m) > 0 && !w.chance(8) {
		one := pick(w, m)
		p.Proto = one.Proto
		p.DstPort = one.Lo + uint16(w.rng.IntN(int(one.Hi-one.Lo)+1))
		p.DstPort = pick(w, []uint16{p.DstPort, one.Lo, one.Hi, one.Lo - 1, one.Hi + 1})
	}
	if w.chance(5) && !w.opt.Caps.NoFragments {
		p.Fragment = pick(w, []plane.Fragment{plane.First, plane.Later})
	}
	if p.Dst.Is4() && p.Proto == 1 || p.Dst.Is6() && p.Proto == 58 {
		p.ICMPType = pick(w, []uint8{0, 1, 2, 3, 4, 5, 8, 11, 12, 128, 129, 133, 134, 135, 136, 137})
	}
	if !p.HasPorts() {
		p.SrcPort, p.DstPort = 0, 0
	}
}

// icmp is an error about a packet that the VIP sent as an answer to p.
func (w *world) icmp(p plane.Packet) plane.Packet {
	inner := plane.Packet{Src: p.Dst, Dst: p.Src, Proto: p.Proto, SrcPort: p.DstPort, DstPort: p.SrcPort, Fragment: p.Fragment,
		Hops: 60, ICMPType: p.ICMPType, Size: pick(w, []int{0, 1400})}
	if w.chance(10) {
		inner.Src = numbered(p.Dst.Is6(), "192.0.2.0", "2001:db8::", 1+w.rng.IntN(5))
	}
	p.Inner, p.SrcPort, p.DstPort, p.Fragment = &inner, 0, 0, plane.Whole
	p.Proto, p.ICMPType, p.ICMPCode = 1, pick(w, []uint8{3, 3, 11, 12, 4, 5}), uint8(w.rng.IntN(5))
	if p.Dst.Is6() {
		p.Proto, p.ICMPType = 58, pick(w, []uint8{1, 2, 2, 3, 4, 5, 100})
	}
	if w.chance(2) { // the router that says so
		p.Src = numbered(p.Dst.Is6(), "198.51.100.0", "2001:db8:d::", 200)
	}
	return p
}

func (w *world) toSubnet() plane.Packet {
	v6 := w.v6()
	p := plane.Packet{Src: numbered(v6, "198.51.100.0", "2001:db8:d::", 9), Dst: w.inside(v6), Hops: 64,
		SrcPort: w.port(), DstPort: w.port(), Proto: pick(w, []uint8{17, 6, 47, 50})}
	w.by(&p, plane.RoleSubnet)
	if e, ok := w.subnetOf(v6); ok && !w.chance(5) {
		p.Dst = w.near(e.Subnet.Prefix)
		w.from(&p, e.Target)
		w.told(&p, e.Subnet.Tenant)
	}
	for w.opt.Caps.Stack && !routed(p.Dst) {
		p.Dst = w.inside(v6)
	}
	if own, ok := addrOf(w.own, v6); ok && w.chance(20) {
		p.Dst = own
	}
	if w.chance(8) && !w.opt.Caps.NoFragments {
		p.Fragment = pick(w, []plane.Fragment{plane.First, plane.Later})
	}
	if !p.HasPorts() {
		p.SrcPort, p.DstPort = 0, 0
	}
	return p
}

// routed tells whether the kernel routes packets to a, whatever its tables say.
func routed(a netip.Addr) bool {
	if a.Is4() && (a.As4()[0] == 0 || a.As4()[0] >= 240) {
		return false
	}
	return a.IsGlobalUnicast() && !a.Is4In6()
}

// subnetOf is a subnet of one family that is there, or was, or a cover.
func (w *world) subnetOf(v6 bool) (plane.Entry, bool) {
	list := slices.Concat(w.entries, w.entries, w.gone)
	for _, t := range w.tenants {
		for _, c := range t.Covers {
			list = append(list, plane.Entry{Subnet: plane.SubnetKey{Tenant: t.Num, Prefix: c}})
		}
	}
	list = slices.DeleteFunc(list, func(e plane.Entry) bool {
		return !e.Subnet.Prefix.IsValid() || e.Subnet.Prefix.Addr().Is6() != v6
	})
	if len(list) == 0 {
		return plane.Entry{}, false
	}
	return pick(w, list), true
}

// told sends p, mostly, by an interface and a tag that tell this tenant.
func (w *world) told(p *plane.Packet, tenant uint16) {
	type way struct {
		iface string
		vlan  uint16
	}
	var ways []way
	for _, i := range w.opt.Interfaces {
		if i.Roles&plane.RoleSubnet == 0 {
			continue
		}
		if i.Tenant == w.tags[tenant] {
			ways = append(ways, way{iface: i.Name})
		}
		for _, tag := range slices.Sorted(maps.Keys(i.VLANs)) {
			if i.VLANs[tag] == w.tags[tenant] && !w.opt.Caps.NoVLANs {
				ways = append(ways, way{i.Name, tag})
			}
		}
	}
	switch {
	case len(ways) == 0 || w.chance(6):
	case w.chance(8): // Lookup only
		p.Interface, p.VLAN, p.Tenant = "", 0, w.tags[tenant]
	default:
		to := pick(w, ways)
		p.Interface, p.VLAN = to.iface, to.vlan
	}
}

// near is inside q, or one bit outside.
func (w *world) near(q netip.Prefix) netip.Addr {
	b := q.Addr().AsSlice()
	bits := len(b) * 8
	flip := func(bit int) { b[bit/8] ^= 0x80 >> (bit % 8) }
	for bit := q.Bits(); bit < bits; bit++ {
		if w.chance(2) {
			flip(bit)
		}
	}
	if q.Bits() > 0 && w.chance(5) {
		flip(q.Bits() - 1 - w.rng.IntN(min(3, q.Bits())))
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}
