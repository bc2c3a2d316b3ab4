package gate

import (
	"encoding/binary"
	"net/netip"

	"tunneldirector/director/vip/ruleset"
)

// elements are w's members of each set, by the set's name. The sealed interfaces are not among them: Seal's.
func (w Wanted) elements() map[string]ruleset.Elements {
	m := map[string]ruleset.Elements{}
	for set, names := range map[string][]string{setTunnel: w.Tunnel, setSubnet: w.Subnet, setRealServers: w.RealServers} {
		m[set] = interfaces(names)
	}
	for _, s := range sides {
		for _, set := range []string{setVIPs(s.v), setOurs(s.v), setPorts(s.v), setProtos(s.v), setNoPort(s.v)} {
			m[set] = ruleset.Elements{}
		}
	}
	for _, a := range w.VIPs {
		m[setVIPs(family(a))].Add(a.AsSlice())
		m[setOurs(family(a))].Add(a.AsSlice())
	}
	for _, a := range w.Own {
		m[setOurs(family(a))].Add(a.AsSlice())
	}
	for _, s := range w.ports() {
		m[setPorts(family(s.VIP))].AddRange(ruleset.Key(s.VIP.AsSlice(), port(s.Lo)), ruleset.Key(s.VIP.AsSlice(), port(s.Hi)))
	}
	for _, s := range w.Services {
		if s.Proto != protoUDP {
			m[setProtos(family(s.VIP))].Add(s.VIP.AsSlice(), []byte{s.Proto})
		}
	}
	for _, s := range w.NoPort {
		m[setNoPort(family(s.VIP))].Add(s.VIP.AsSlice(), s.Addr.AsSlice())
	}
	return m
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

func port(p uint16) []byte { return binary.BigEndian.AppendUint16(nil, p) }
