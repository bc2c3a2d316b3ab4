package api

import (
	"fmt"
	"time"

	"tunneldirector/affinity"
)

// Records become answers.

func revision(t *affinity.Table, seq uint64) string { return fmt.Sprintf("%s:%d", t.StoreID(), seq) }

func timeOf(s affinity.Stamp) *time.Time {
	if s == 0 {
		return nil
	}
	t := s.Time()
	return &t
}

func wireTunnel(t *affinity.Tunnel) Tunnel {
	w := Tunnel{
		ID: t.ID, Service: t.Service, Bandwidth: t.Bandwidth, Group: t.Group, Tenant: t.Tenant, State: t.State.String(),
		Labels: t.Labels, SeparateFrom: t.SeparateFrom, Generation: t.Generation,
	}
	w.Endpoints = endpointTexts(t.Endpoints)
	for _, p := range t.Subnets {
		w.Subnets = append(w.Subnets, p.String())
	}
	return w
}

func endpointTexts(list []affinity.Endpoint) (out []string) {
	for _, ep := range list {
		if ep.Port() == 0 {
			out = append(out, ep.Addr().String())
		} else {
			out = append(out, ep.String())
		}
	}
	return out
}

func tunnelState(t *affinity.Table, tun *affinity.Tunnel, ev Evidence) TunnelState {
	pin, ok := t.PinOf(tun)
	out := TunnelState{
		Tunnel: wireTunnel(tun), Owner: tun.Owner, Created: tun.Created.Time(), Updated: tun.Header.Stamp.Time(),
		Placement: placement(t, pin, ok), Up: ev.Up, Evidence: ev.By, At: ev.At, Roamed: endpointTexts(tun.Roamed), Contested: t.Contested(tun), Split: t.Split(tun),
	}
	if !ev.LastSeen.IsZero() {
		out.LastSeen = &ev.LastSeen
	}
	return out
}

func placement(t *affinity.Table, pin affinity.Pin, ok bool) *Placement {
	switch {
	case !ok:
		return &Placement{Unplaced: "not placed yet"}
	case pin.Primary == 0:
		return &Placement{Since: timeOf(pin.Since), Why: pin.Why.String(), Unplaced: pin.Note}
	}
	return &Placement{
		RealServer: realServerName(t, pin.Primary), Backup: realServerName(t, pin.Backup), Since: timeOf(pin.Since), Why: pin.Why.String(),
	}
}

func realServerName(t *affinity.Table, i affinity.Index) string {
	if i == 0 {
		return ""
	}
	if l, ok := t.Life(i); ok {
		return l.RealServer
	}
	return fmt.Sprintf("unknown (index %d)", i)
}

func serviceState(t *affinity.Table, s *affinity.Service) ServiceState {
	out := ServiceState{
		Service: Service{Name: s.Name, Method: s.Method.String(), Unknown: s.Unknown.String(), Policy: s.Policy.String(),
			Learn: s.Learn, MaxUnavailable: s.MaxUnavailable},
		Number: s.Num, Tunnels: t.ServiceLoad(s.Num).Tunnels, Updated: s.Header.Stamp.Time(),
	}
	for _, v := range s.VIPs {
		out.VIPs = append(out.VIPs, v.String())
	}
	for a, names := range s.Prefer {
		if out.Prefer == nil {
			out.Prefer = map[string][]string{}
		}
		out.Prefer[a.String()] = names
	}
	for _, m := range s.Match {
		out.Protocols = append(out.Protocols, m.String())
	}
	return out
}

func tenantState(n *affinity.Tenant) TenantState {
	out := TenantState{Tenant: Tenant{Name: tenantWord(n.Name), Covers: []string{}}, Number: n.Num, Updated: n.Header.Stamp.Time()}
	for _, p := range n.Covers {
		out.Covers = append(out.Covers, p.String())
	}
	for _, a := range n.Gateways {
		out.Gateways = append(out.Gateways, Gateway{Address: a.String(), Prefer: n.Prefer[a]})
	}
	return out
}

func realServerState(t *affinity.Table, r *affinity.RealServer, status *RealServerStatus) RealServerState {
	weight := r.Weight
	out := RealServerState{
		RealServer: RealServer{
			Name: r.Name, Host: r.Host, Zone: r.Zone, Services: r.Services, Weight: &weight, Capacity: r.Capacity, Admin: r.Admin.String(),
		},
		State: "new", Updated: r.Header.Stamp.Time(), Status: status,
	}
	for _, a := range r.Addrs {
		out.Addresses = append(out.Addresses, a.String())
	}
	for tenant, tag := range r.VLANs {
		if out.VLANs == nil {
			out.VLANs = map[string]uint16{}
		}
		out.VLANs[tenantWord(tenant)] = tag
	}
	if r.Check.Proto != 0 {
		out.Check = affinity.Match{Proto: r.Check.Proto, Lo: r.Check.Port, Hi: r.Check.Port}.String()
	}
	if l, ok := t.LifeOf(r.Name); ok {
		out.State, out.Since, out.Cause, out.Incarnation = lifeWord(l), timeOf(l.Since), l.Cause, l.Incarnation
	}
	return out
}

func lifeWord(l *affinity.Life) string {
	if l.Alive {
		return "alive"
	}
	return "dead"
}
