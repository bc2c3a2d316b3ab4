package planetest

import (
	"net/netip"
	"slices"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
)

// changeService adds, removes or rewrites a service. VIPs are shared and port ranges overlap.
func (w *world) changeService() {
	if len(w.services) > 2 && w.chance(4) {
		i := w.rng.IntN(len(w.services))
		w.services = slices.Delete(slices.Clone(w.services), i, i+1)
		return
	}
	num := uint16(1 + w.rng.IntN(6))
	if w.chance(6) {
		num = 64
	}
	s := plane.Service{Num: num, Name: "service"}
	for range 1 + w.rng.IntN(3) {
		if a := w.vip(); !slices.Contains(s.VIPs, a) {
			s.VIPs = append(s.VIPs, a)
		}
	}
	for range 1 + w.rng.IntN(4) {
		s.Match = append(s.Match, w.match())
	}
	if !w.opt.Caps.NoRing && w.chance(2) {
		s.Ring = w.ring()
	}
	w.services = append(slices.DeleteFunc(slices.Clone(w.services), func(o plane.Service) bool { return o.Num == num }), s)
	w.rng.Shuffle(len(w.services), func(i, j int) { w.services[i], w.services[j] = w.services[j], w.services[i] })
}

func (w *world) match() affinity.Match {
	if bare := w.known([]uint8{50, 50, 51, 47, 115, 4, 41, 132}); len(bare) > 0 && w.chance(2) {
		return affinity.Match{Proto: pick(w, bare)}
	}
	lo := w.port()
	m := affinity.Match{Proto: pick(w, w.known([]uint8{17, 17, 6})), Lo: lo, Hi: lo}
	if w.chance(2) {
		m.Hi = lo + uint16(min(w.rng.IntN(1500), 65535-int(lo)))
	}
	if w.chance(12) {
		m.Lo, m.Hi = 1, 65535
	}
	if most := w.opt.Caps.MaxPorts; most != 0 {
		m.Hi = m.Lo + min(m.Hi-m.Lo, uint16(most-1))
	}
	return m
}

// known are those of a list of protocols that the plane has.
func (w *world) known(protocols []uint8) []uint8 {
	if w.opt.Caps.Protocols == nil {
		return protocols
	}
	return slices.DeleteFunc(protocols, func(p uint8) bool { return !slices.Contains(w.opt.Caps.Protocols, p) })
}

func (w *world) ring() []plane.Target {
	var some []affinity.Index
	for _, rs := range w.servers {
		if rs.Alive || w.chance(4) {
			some = append(some, rs.Index)
		}
	}
	return plane.NewRing(some)
}

// changeTenant adds, removes or rewrites a tenant. The default one may be told or left out.
func (w *world) changeTenant() {
	name := pick(w, w.tags)
	rest := slices.DeleteFunc(slices.Clone(w.tenants), func(t plane.Tenant) bool { return t.Name == name })
	if len(rest) < len(w.tenants) && w.chance(3) {
		w.tenants = rest
		return
	}
	t := plane.Tenant{Name: name, Num: uint16(slices.Index(w.tags, name))}
	for range w.rng.IntN(4) {
		if p := w.prefix(); !slices.Contains(t.Covers, p) {
			t.Covers = append(t.Covers, p)
		}
	}
	if len(w.entries) > 0 && w.chance(3) { // a cover that is a subnet too
		if p := pick(w, w.entries).Subnet.Prefix; p.IsValid() && !slices.Contains(t.Covers, p) {
			t.Covers = append(t.Covers, p)
		}
	}
	w.tenants = append(rest, t)
}

// bear is the birth of an incarnation: of a new real server, or of one that returns to a host that others are on.
func (w *world) bear() {
	if len(w.servers) >= 12 {
		i := w.rng.IntN(len(w.servers))
		w.servers = slices.Delete(slices.Clone(w.servers), i, i+1)
	}
	used := func(i affinity.Index) bool {
		return slices.ContainsFunc(w.servers, func(rs plane.RealServer) bool { return rs.Index == i })
	}
	index := affinity.Index(1 + w.rng.IntN(16))
	if w.chance(10) {
		index = affinity.MaxIndex
	}
	for used(index) {
		index = affinity.Index(1 + w.rng.IntN(16))
	}
	w.servers = append(slices.Clone(w.servers), w.server(index))
}

func (w *world) server(index affinity.Index) plane.RealServer {
	rs := plane.RealServer{Index: index, Name: "rs", Addrs: pick(w, w.opt.Hosts).Addrs, Method: pick(w, w.opt.Caps.Methods),
		MTU: pick(w, []int{0, 0, 1500, 1400, 1340}), Alive: !w.chance(5)}
	if w.opt.Caps.NoSizes {
		rs.MTU = 0
	}
	if !w.opt.Caps.NoVLANs && w.chance(3) {
		rs.VLANs = map[uint16]uint16{}
		for tenant := range uint16(len(w.tags)) {
			if w.chance(2) {
				rs.VLANs[tenant] = 100 + tenant
			}
		}
	}
	return rs
}

// changeServer removes an incarnation, whoever still names it, or changes its path.
func (w *world) changeServer() {
	if len(w.servers) == 0 {
		return
	}
	w.servers = slices.Clone(w.servers)
	i := w.rng.IntN(len(w.servers))
	if w.chance(2) {
		w.servers = slices.Delete(w.servers, i, i+1)
		return
	}
	w.servers[i] = w.server(w.servers[i].Index)
}

func (w *world) changeOwn() {
	a := w.inside(w.v6())
	if w.chance(3) {
		a = w.endpoint(w.v6())
	}
	if i := slices.Index(w.own, a); i >= 0 {
		w.own = slices.Delete(slices.Clone(w.own), i, i+1)
		return
	}
	w.own = append(slices.Clone(w.own), a)
	if len(w.own) > 6 {
		w.own = w.own[1:]
	}
}

// addrOf is an address of family v6 or not out of a list, if there is one.
func addrOf(list []netip.Addr, v6 bool) (netip.Addr, bool) {
	i := slices.IndexFunc(list, func(a netip.Addr) bool { return a.Is6() == v6 })
	if i < 0 {
		return netip.Addr{}, false
	}
	return list[i], true
}
