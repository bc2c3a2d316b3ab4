package director

import (
	"maps"
	"net/netip"
	"slices"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
)

// planeConfig is all that is small of the published table, as the plane needs it.
func (d *Director) planeConfig() plane.Config { return shape(d.work, d.local.own, d.condemned) }

// shape is all that is small of a table, as a plane needs it. Condemned incarnations are dead.
func shape(t *affinity.Table, own []netip.Addr, condemned map[affinity.Index]bool) plane.Config {
	alive := func(l *affinity.Life) bool { return l.Alive && !condemned[l.Index] }
	c := plane.Config{Own: own}
	for _, n := range t.Tenants() {
		c.Tenants = append(c.Tenants, plane.Tenant{Num: n.Num, Name: n.Name, Covers: n.Covers})
	}
	for _, s := range t.Services() {
		ps := plane.Service{Num: s.Num, Name: s.Name, VIPs: s.VIPs, Match: s.Match, Method: s.Method}
		if s.Unknown == affinity.UnknownHash {
			ps.Ring = plane.NewRing(hashable(t, s.Name, alive))
		}
		c.Services = append(c.Services, ps)
	}
	for _, l := range t.Lives() {
		if rs, ok := t.RealServer(l.RealServer); ok {
			c.RealServers = append(c.RealServers, shapeServer(t, rs, l.Index, alive(l)))
		}
	}
	return c
}

// asked is what a plane will be told of a table sooner or later: shape, and the real servers that were never alive.
func asked(t *affinity.Table, own []netip.Addr) plane.Config {
	c := shape(t, own, nil)
	next := affinity.Index(1)
	for _, rs := range t.RealServers() {
		if _, born := t.LifeOf(rs.Name); born {
			continue
		}
		for _, taken := t.Life(next); taken; _, taken = t.Life(next) {
			next++
		}
		c.RealServers = append(c.RealServers, shapeServer(t, rs, next, false))
		next++
	}
	return c
}

// hashable are the incarnations that may get unknown endpoints of a service.
func hashable(t *affinity.Table, service string, alive func(*affinity.Life) bool) []affinity.Index {
	var out []affinity.Index
	for _, rs := range t.RealServers() {
		if l, ok := t.LifeOf(rs.Name); ok && alive(l) && rs.Admin == affinity.Active && rs.Weight > 0 && slices.Contains(rs.Services, service) {
			out = append(out, l.Index)
		}
	}
	return out
}

func shapeServer(t *affinity.Table, rs *affinity.RealServer, i affinity.Index, alive bool) plane.RealServer {
	out := plane.RealServer{Index: i, Name: rs.Name, Addrs: rs.Addrs, Alive: alive}
	for _, name := range rs.Services {
		if s, ok := t.Service(name); ok {
			out.Method = s.Method
			break
		}
	}
	for _, name := range slices.Sorted(maps.Keys(rs.VLANs)) {
		if n, ok := t.Tenant(name); ok {
			if out.VLANs == nil {
				out.VLANs = map[uint16]uint16{}
			}
			out.VLANs[n.Num] = rs.VLANs[name]
		}
	}
	return out
}
