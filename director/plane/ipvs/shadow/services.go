package shadow

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"tunneldirector/director/plane"
)

// services compares the virtual services and the real servers that our pins need with the kernel's.
func (a *audit) services(have []service) {
	marked := slices.ContainsFunc(have, func(s service) bool { return s.mark != 0 })
	done := map[place]bool{}
	for _, s := range a.config.Services {
		for _, vip := range s.VIPs {
			for _, m := range s.Match {
				m = carrier(m)
				for port := uint32(m.Lo); port <= uint32(m.Hi); port++ {
					at := place{m.Proto, netip.AddrPortFrom(vip, uint16(port))}
					if !done[at] {
						done[at] = true
						a.place(s, at, find(have, at), marked)
					}
				}
			}
		}
	}
}

// A place is where a virtual service is.
type place struct {
	protocol uint8
	addr     netip.AddrPort
}

func (p place) String() string {
	words := map[uint8]string{6: "TCP", 17: "UDP"}
	return fmt.Sprintf("%s %v", words[p.protocol], p.addr)
}

// find is the kernel's service at a place, or the one of all ports there.
func find(have []service, at place) *service {
	for _, port := range []uint16{at.addr.Port(), 0} {
		for i, s := range have {
			if s.mark == 0 && s.protocol == at.protocol && s.addr == netip.AddrPortFrom(at.addr.Addr(), port) {
				return &have[i]
			}
		}
	}
	return nil
}

// place compares one service. One by a firewall mark may be what stands in its place.
func (a *audit) place(s plane.Service, at place, have *service, marked bool) {
	if have == nil {
		if !marked {
			a.differ(&a.sum.Missing, fmt.Sprintf("virtual service %s at %s", s.Name, at), "a service of IPVS", "nothing")
		}
		return
	}
	a.sum.Equal++
	for _, i := range slices.Sorted(maps.Keys(a.pinned[at.addr.Addr()])) {
		if slices.ContainsFunc(have.servers, func(addr netip.Addr) bool { return a.has(i, addr) }) {
			a.sum.Equal++
			continue
		}
		name := a.name(i, at.addr.Addr())
		a.differ(&a.sum.Missing, fmt.Sprintf("real server %s of %s", name, at), name, "nothing")
	}
}
