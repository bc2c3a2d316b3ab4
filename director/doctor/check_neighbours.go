package doctor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tunneldirector/affinity"
	"tunneldirector/director/api"
	"tunneldirector/director/plane"
)

// neighbours looks at where packets to real servers go, by MAC address: as the kernel, the data plane and the wire have it.
func (e *exam) neighbours(context.Context) error {
	if e.NextHops == nil || e.Table == nil {
		return errors.New("the neighbours of real servers are not known here")
	}
	type holder struct{ name, host, via string }
	macs := map[string]holder{}
	for _, rs := range e.Table().RealServers() {
		for _, h := range e.NextHops(rs.Name) {
			e.neighbour(&h)
			mac := h.Sends()
			if mac == "" || h.Via != h.Address {
				continue // of a gateway several real servers have the same
			}
			if o, taken := macs[mac]; taken && o.host != rs.Host {
				e.find(api.Breaks, rs.Name, time.Time{}, fmt.Sprintf("real servers %s (%s) and %s (%s), of different hosts, have the same MAC address %s", o.name, o.via, rs.Name, h.Via, mac),
					"packets for one of them go to the other", fmt.Sprintf("ip neigh flush %s; ip neigh flush %s; then who answers: arping -I %s %s", o.via, h.Via, h.Interface, h.Via))
			}
			macs[mac] = holder{rs.Name, rs.Host, h.Via}
		}
	}
	return nil
}

func (e *exam) neighbour(h *api.NextHop) {
	to := fmt.Sprintf("%s (%s)", h.RealServer, h.Address)
	again := fmt.Sprintf("ip neigh replace %s lladdr %s dev %s nud reachable", h.Via, h.WireMAC, h.Interface)
	switch sends := h.Sends(); {
	case h.PlaneUnknown:
		e.find(api.Breaks, h.RealServer, time.Time{}, "the data plane knows no MAC address of "+to, "packets for it are dropped (no-neighbour)", fmt.Sprintf("ip neigh show %s; ip route get %s; is it on, and on the right segment?", firstOf(h.Via, h.Address), h.Address))
	case sends == "" && h.Why != "":
		e.unchecked("neighbour of %s: %s", to, h.Why)
	case sends == "":
		e.find(api.Risks, h.RealServer, time.Time{}, fmt.Sprintf("the kernel knows no MAC address of %s: %s", to, firstOf(h.State, "no entry")), "the first packets wait for it, or are dropped", "arping -c 1 -I "+h.Interface+" "+h.Via)
	case h.WireMAC != "" && h.WireMAC != sends:
		e.find(api.Breaks, h.RealServer, time.Time{}, fmt.Sprintf("wrong MAC address: packets for %s go to %s, and on the wire %s answers for it", to, sends, h.WireMAC),
			"its tunnels get no packets, though it answers probes", again)
	case h.PlaneMAC != "" && h.MAC != "" && h.PlaneMAC != h.MAC:
		e.find(api.Breaks, h.RealServer, time.Time{}, fmt.Sprintf("the data plane sends packets for %s to %s, the kernel knows it at %s", to, h.PlaneMAC, h.MAC), "its tunnels get no packets", "journalctl -u director; restart the director (forwarding goes on)")
	case h.Static:
		e.find(api.Notes, h.RealServer, time.Time{}, fmt.Sprintf("the neighbour entry of %s was written by hand: %s is at %s", to, h.Via, sends), "if the real server changes its network card, its tunnels get no packets",
			fmt.Sprintf("ip neigh change %s lladdr %s dev %s nud reachable", h.Via, sends, h.Interface))
	}
	if h.PlaneInterface != "" && h.Interface != "" && h.PlaneInterface != h.Interface {
		e.find(api.Breaks, h.RealServer, time.Time{}, fmt.Sprintf("the data plane sends packets for %s by %s, the kernel's route is by %s", to, h.PlaneInterface, h.Interface), "its tunnels get no packets", "ip route get "+h.Address)
	}
}

// sizes looks whether the ways to real servers carry what comes from sites, and IPIP's header where it is used.
func (e *exam) sizes(context.Context) error {
	if e.NextHops == nil || e.Table == nil {
		return errors.New("the ways to real servers are not known here")
	}
	widest, err := e.widest()
	if err != nil {
		return err
	}
	if s, err := e.status(); err == nil && s.Plane.Kind == "xdp" && e.PlaneWarnings != nil {
		return e.narrow(widest, false) // of IPIP plane xdp warns by itself
	}
	return e.narrow(widest, true)
}

func (e *exam) narrow(widest int, ipip bool) error {
	t := e.Table()
	for _, rs := range t.RealServers() {
		tunnel := false
		for _, name := range rs.Services {
			if svc, ok := t.Service(name); ok && svc.Method == affinity.IPIP {
				tunnel = true
			}
		}
		if tunnel && !ipip {
			continue
		}
		for _, h := range e.NextHops(rs.Name) {
			need, why := widest, ""
			if tunnel {
				need, why = need+20, " and the outer header of method tunnel"
				if len(h.Address) > 0 && isV6(h.Address) {
					need += 20
				}
			}
			if h.MTU > 0 && h.MTU < need {
				e.find(api.Risks, rs.Name, time.Time{}, fmt.Sprintf("the way to %s by %s has an MTU of %d, and packets of up to %d bytes come from sites%s", rs.Name, h.Interface, h.MTU, need, why),
					"longer packets to it are dropped or fragmented", fmt.Sprintf("ip link set dev %s mtu %d, and the same on the way", h.Interface, need))
			}
		}
	}
	return nil
}

// widest is the largest MTU of the interfaces that sites come by.
func (e *exam) widest() (most int, err error) {
	for _, i := range e.Interfaces {
		if i.Roles&plane.RoleTunnel == 0 {
			continue
		}
		n, err := mtuOf(i.Name)
		if err != nil {
			return 0, err
		}
		most = max(most, n)
	}
	return most, nil
}
