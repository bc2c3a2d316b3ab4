package ipvs

import (
	"context"
	"net/netip"
	"slices"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
	"tunneldirector/director/plane/mem"
)

// Lookup tells what would become of a packet, by what the kernel was sent and has proved to hold by its counters: it asks the
// oracle about the few entries that p can meet. Where IPVS differs from the packet's way of package plane, Lookup tells what IPVS does:
// unknown endpoints are hashed by the kernel (RealServer is 0 then: it alone knows), and only those of UDP; ESP and AH of an endpoint that has a pin by
// port 500 which is not its pin for any port are dropped; so is what has a pin for any port under masq, and what goes to a real server without a connected address of its family.
// What a real server sends back is dropped where the gate knows its MAC address, and never under masq.
func (p *Plane) Lookup(pk plane.Packet) (plane.Decision, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	from := pk.From
	pk.From = 0 // the oracle knows no MAC addresses, nor what the gate does not cut
	d, err := p.lookup(pk)
	if from != 0 && d.RealServer != 0 && p.loops(from, d.RealServer, pk.Dst.Is6()) {
		d.RealServer, d.Backup, d.Reason = 0, false, plane.DropLoop
	}
	return d, err
}

func (p *Plane) lookup(pk plane.Packet) (plane.Decision, error) {
	m := mem.New(p.o.Interfaces)
	if err := m.Apply(context.Background(), plane.Update{Config: p.alive(), Entries: p.meets(pk)}); err != nil {
		return plane.Decision{}, err
	}
	d, err := m.Lookup(pk)
	if err != nil || d.Side != plane.TunnelSide {
		return d, err
	}
	proto, endpoint := pk.Proto, pk.Src
	if pk.Inner != nil {
		proto, endpoint = pk.Inner.Proto, pk.Inner.Dst
	}
	forwards := d.Reason == plane.None
	switch v := p.vips[pk.Dst]; {
	case forwards && !d.Hashed && d.Endpoint.Port == 0 && p.servers[d.RealServer].Method == affinity.Masq:
		d = plane.Decision{Side: d.Side, Service: d.Service, Reason: plane.DropNoPort}
	case forwards && !d.Hashed && p.unreachable(d, pk):
		d = plane.Decision{Side: d.Side, Service: d.Service, Reason: plane.DropNoNeighbour}
	case forwards && proto != protoUDP && v.splitsESP(endpoint):
		d = plane.Decision{Side: d.Side, Service: d.Service, Reason: plane.DropNoPort}
	case forwards && d.Hashed && proto != protoUDP:
		d = plane.Decision{Side: d.Side, Service: d.Service, Reason: plane.DropUnknown}
	case d.Hashed:
		d.RealServer, d.Backup = 0, false
	}
	return d, nil
}

// unreachable tells whether the pair that d found has no way to its real server: no address of the family, or none that is connected.
func (p *Plane) unreachable(d plane.Decision, pk plane.Packet) bool {
	rs := p.servers[d.RealServer]
	if rs.Method != affinity.DR {
		return false
	}
	a, ok := address(rs, pk.Dst.Is6())
	if ok {
		_, ok = p.survey.Connected(a)
	}
	return !ok
}

// alive is the configuration with what SetAlive said.
func (p *Plane) alive() *plane.Config {
	c := p.config
	c.RealServers = slices.Clone(c.RealServers)
	for i, rs := range c.RealServers {
		c.RealServers[i] = p.servers[rs.Index]
	}
	return &c
}

// meets are the entries that can decide on pk.
func (p *Plane) meets(pk plane.Packet) []plane.Entry {
	var out []plane.Entry
	if v := p.vips[pk.Dst]; v != nil {
		for _, e := range v.near(pk) {
			if t, ok := v.get(e); ok {
				out = append(out, plane.Entry{Endpoint: plane.EndpointKey{VIP: v.addr, Addr: e.Addr(), Port: e.Port()}, Target: t})
			}
		}
	}
	tenants := []uint16{0}
	for _, t := range p.config.Tenants {
		tenants = append(tenants, t.Num)
	}
	slices.Sort(tenants)
	for _, num := range slices.Compact(tenants) {
		for bits := 0; pk.Dst.IsValid() && bits <= pk.Dst.BitLen(); bits++ {
			k := plane.SubnetKey{Tenant: num, Prefix: netip.PrefixFrom(pk.Dst, bits).Masked()}
			if t, ok := p.subnets.targets[k]; ok {
				out = append(out, plane.Entry{Subnet: k, Target: t})
			}
		}
	}
	return out
}

// near are the endpoints that pk may come from or be about.
func (v *vip) near(pk plane.Packet) []netip.AddrPort {
	a, port := pk.Src, pk.SrcPort
	if pk.Inner != nil {
		a, port = pk.Inner.Dst, pk.Inner.DstPort
	}
	out := []netip.AddrPort{netip.AddrPortFrom(a, 0)}
	if port != 0 {
		out = append(out, netip.AddrPortFrom(a, port))
	}
	return out
}
