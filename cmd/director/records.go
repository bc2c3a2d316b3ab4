package main

import (
	"context"
	"fmt"
	"net/netip"

	"tunneldirector/affinity"
	"tunneldirector/director/api"
	"tunneldirector/director/config"
)

// records are what a file wants, in the order to apply it, and whether there is one of the name.
func (a *applier) records(ctx context.Context, f config.Records) ([]record, error) {
	ctx, cancel := a.t.limited(ctx)
	defer cancel()
	c := a.t.client
	services, err := c.Services(ctx)
	if err != nil {
		return nil, err
	}
	tenants, err := c.Tenants(ctx)
	if err != nil {
		return nil, err
	}
	servers, err := c.RealServers(ctx)
	if err != nil {
		return nil, err
	}
	var out []record
	for _, s := range f.Services {
		w := wireService(s)
		r := record{what: "service " + w.Name, want: w, put: func(ctx context.Context) (api.Changed, error) { return c.PutService(ctx, w) }}
		for _, h := range services {
			if h.Name == w.Name {
				r.exists = true
			}
		}
		out = append(out, r)
	}
	for _, n := range f.Tenants {
		w := wireTenant(n)
		r := record{what: "tenant " + w.Name, want: w, put: func(ctx context.Context) (api.Changed, error) { return c.PutTenant(ctx, w) }}
		for _, h := range tenants {
			if h.Name == w.Name {
				r.exists = true
			}
		}
		out = append(out, r)
	}
	for _, s := range f.RealServers {
		w := wireRealServer(s)
		r := record{what: "real server " + w.Name, want: w, put: func(ctx context.Context) (api.Changed, error) { return c.PutRealServer(ctx, w) }}
		for _, h := range servers {
			if h.Name == w.Name {
				r.exists = true
			}
		}
		out = append(out, r)
	}
	return out, nil
}

func wireService(s affinity.Service) api.Service {
	w := api.Service{Name: s.Name, VIPs: texts(s.VIPs), Protocols: texts(s.Match), Method: s.Method.String(), Unknown: s.Unknown.String(), Policy: s.Policy.String(),
		Learn: s.Learn, MaxUnavailable: s.MaxUnavailable}
	for a, names := range s.Prefer {
		if w.Prefer == nil {
			w.Prefer = map[string][]string{}
		}
		w.Prefer[a.String()] = names
	}
	return w
}

func wireTenant(n affinity.Tenant) api.Tenant {
	w := api.Tenant{Name: orWord(n.Name, "default"), Covers: texts(n.Covers)}
	for _, a := range n.Gateways {
		w.Gateways = append(w.Gateways, api.Gateway{Address: a.String(), Prefer: n.Prefer[a]})
	}
	return w
}

func wireRealServer(s affinity.RealServer) api.RealServer {
	weight := s.Weight
	w := api.RealServer{Name: s.Name, Host: s.Host, Zone: s.Zone, Addresses: texts(s.Addrs), Services: s.Services, Weight: &weight, Capacity: s.Capacity}
	for tenant, tag := range s.VLANs {
		if w.VLANs == nil {
			w.VLANs = map[string]uint16{}
		}
		w.VLANs[orWord(tenant, "default")] = tag
	}
	if s.Check.Proto != 0 {
		w.Check = affinity.Match{Proto: s.Check.Proto, Lo: s.Check.Port, Hi: s.Check.Port}.String()
	}
	return w
}

func texts[T interface {
	netip.Addr | netip.Prefix | affinity.Match
	fmt.Stringer
}](list []T) []string {
	out := []string{}
	for _, v := range list {
		out = append(out, v.String())
	}
	return out
}
