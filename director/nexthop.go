package director

import (
	"net"
	"net/netip"
	"strings"

	"tunneldirector/affinity"
	"tunneldirector/director/api"
	"tunneldirector/director/plane"
)

// NextHops tells how a real server is reached: by the kernel, the data plane and the wire, address by address.
func (d *Director) NextHops(realServer string) []api.NextHop {
	t := d.Table()
	rs, ok := t.RealServer(realServer)
	if !ok {
		return nil
	}
	index := affinity.Index(0)
	if life, ok := t.LifeOf(realServer); ok {
		index = life.Index
	}
	var out []api.NextHop
	for _, a := range rs.Addrs {
		h := api.NextHop{Why: "nobody looks at this machine's neighbours"}
		if d.o.NextHop != nil {
			h = d.o.NextHop(realServer, a)
		}
		h.RealServer, h.Address = realServer, a.String()
		d.planeHop(&h, index, a)
		out = append(out, h)
	}
	return out
}

// planeHop adds what the data plane keeps for itself.
func (d *Director) planeHop(h *api.NextHop, i affinity.Index, a netip.Addr) {
	g, ok := d.o.Plane.(plane.Guide)
	if !ok || i == 0 {
		return
	}
	w, err := g.Way(i, a.Is6())
	switch {
	case err != nil:
		h.Why = strings.TrimPrefix(h.Why+"; "+err.Error(), "; ")
	case !w.Known:
		h.PlaneUnknown = true
	default:
		h.PlaneMAC, h.PlaneInterface = w.MAC.String(), w.Interface
	}
}

// cameFrom is the real server that a packet comes from, by its name or its MAC address; 0: none.
func (d *Director) cameFrom(t *affinity.Table, from string) (i affinity.Index, ok bool) {
	if from == "" {
		return 0, true
	}
	if life, is := t.LifeOf(from); is {
		return life.Index, true
	}
	mac, err := net.ParseMAC(from)
	if err != nil {
		return 0, false
	}
	for _, rs := range t.RealServers() {
		life, alive := t.LifeOf(rs.Name)
		if !alive {
			continue
		}
		for _, h := range d.NextHops(rs.Name) {
			if h.Via == h.Address && (h.Sends() == mac.String() || h.WireMAC == mac.String()) {
				return life.Index, true
			}
		}
	}
	return 0, true // somebody else's
}
