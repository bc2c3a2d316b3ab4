package gate

import (
	"encoding/binary"
	"net/netip"

	"tunneldirector/director/vip/ruleset"
)

// elements are w's members of each set, by the set's name. The sealed interfaces are not among them: Seal's.
func (w Wanted) elements() map[string]ruleset.Elements {
	m := map[string]ruleset.Elements{setTunnel: interfaces(w.Tunnel), setSubnet: interfaces(w.Subnet), setRouted: {}, setMACs: {}, setMarks: {}}
	for _, s := range sides {
		for _, set := range []string{setVIPs(s.v), setOurs(s.v), setPorts(s.v), setProtos(s.v), setNoPort(s.v), setLoops(s.v)} {
			m[set] = ruleset.Elements{}
		}
	}
	for _, from := range w.Subnet {
		for _, to := range w.RealServers {
			m[setRouted].Add(ruleset.Name(from), ruleset.Name(to))
		}
	}
	for _, a := range w.VIPs {
		m[setVIPs(family(a))].Add(a.AsSlice())
		m[setOurs(family(a))].Add(a.AsSlice())
	}
	for _, a := range w.Own {
		m[setOurs(family(a))].Add(a.AsSlice())
	}
	for _, s := range w.Services {
		for _, by := range w.Tunnel {
			s.add(m, ruleset.Name(by))
		}
	}
	for _, s := range w.NoPort {
		m[setNoPort(family(s.VIP))].Add(s.VIP.AsSlice(), s.Addr.AsSlice())
	}
	for _, n := range Told(w.Neighbours) {
		m[setMACs].Add(n.MAC[:])
		m[setMarks].Add(n.mark())
		m[setLoops(family(n.Addr))].Add(n.Addr.AsSlice(), n.mark())
	}
	return m
}

func (s Allowed) add(m map[string]ruleset.Elements, by []byte) {
	if s.Proto != protoUDP {
		m[setProtos(family(s.VIP))].Add(by, s.VIP.AsSlice(), []byte{s.Proto})
		return
	}
	for port := int(s.Lo); port <= int(s.Hi); port++ {
		m[setPorts(family(s.VIP))].Add(by, s.VIP.AsSlice(), binary.BigEndian.AppendUint16(nil, uint16(port)))
	}
}

func interfaces(names []string) ruleset.Elements {
	e := ruleset.Elements{}
	for _, n := range names {
		e.Add(ruleset.Name(n))
	}
	return e
}

func family(a netip.Addr) int {
	if a.Is4() {
		return 4
	}
	return 6
}
