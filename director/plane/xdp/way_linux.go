package xdp

import (
	"fmt"
	"net"
	"slices"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
)

// Way is where the program sends packets of one family that are for a real server.
func (p *Plane) Way(i affinity.Index, v6 bool) (plane.Way, error) {
	mac, known, err := p.macOf(i, v6)
	if err != nil || !known {
		return plane.Way{}, err
	}
	var l forwardLink
	if err := p.o.TdLinks.Lookup(linkIndex(i, v6), &l); err != nil {
		return plane.Way{}, fmt.Errorf("look up the way to real server %d: %w", i, err)
	}
	w := plane.Way{Known: true, MAC: net.HardwareAddr(mac[:])}
	list := p.ports.all()
	if n := slices.IndexFunc(list, func(x iface) bool { return uint32(x.index) == l.Ifindex }); n >= 0 {
		w.Interface = list[n].Name
	}
	return w, nil
}
