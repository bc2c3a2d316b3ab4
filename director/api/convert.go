package api

import (
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"tunneldirector/affinity"
)

// faults collects what is wrong while wire types become records.
type faults []affinity.Fault

func (f *faults) add(field, value, what, remedy string) {
	*f = append(*f, affinity.Fault{Field: field, Value: value, Problem: what, Remedy: remedy})
}

// rest adds the faults that a record has in itself, except of fields whose text was no value: they are incomplete.
func (f *faults) rest(found []affinity.Fault) {
	spoilt := map[string]bool{}
	for _, x := range *f {
		spoilt[root(x.Field)] = true
	}
	for _, x := range found {
		if !spoilt[root(x.Field)] {
			*f = append(*f, x)
		}
	}
}

func root(field string) string {
	if i := strings.IndexAny(field, "[."); i >= 0 {
		return field[:i]
	}
	return field
}

func (f faults) problem(object string) *Problem {
	if len(f) == 0 {
		return nil
	}
	return problem(http.StatusUnprocessableEntity, kindInvalid, object+" is refused", faultErrors(f)...)
}

// record is the tunnel that w asks for.
func (w *Tunnel) record() (*affinity.Tunnel, faults) {
	var f faults
	t := &affinity.Tunnel{
		ID: w.ID, Service: w.Service, Bandwidth: w.Bandwidth, Group: w.Group, Tenant: tenantName(w.Tenant),
		Labels: w.Labels, SeparateFrom: w.SeparateFrom, Generation: w.Generation,
	}
	if len(w.Endpoints) > 0 {
		t.Endpoints = make([]affinity.Endpoint, 0, len(w.Endpoints))
	}
	for i, s := range w.Endpoints {
		if ep, ok := f.endpoint(i, s); ok {
			t.Endpoints = append(t.Endpoints, ep)
		}
	}
	if len(w.Subnets) > 0 {
		t.Subnets = make([]netip.Prefix, 0, len(w.Subnets))
	}
	for i, s := range w.Subnets {
		if p, ok := f.prefix("subnets", i, s); ok {
			t.Subnets = append(t.Subnets, p)
		}
	}
	var err error
	if t.State, err = affinity.ParseState(w.State); err != nil {
		f.add("state", w.State, "is not a state", "down, coming or up")
	}
	if len(f) > 0 {
		f.rest(t.Faults())
	}
	return t, f
}

func (f *faults) endpoint(i int, s string) (affinity.Endpoint, bool) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.AddrPortFrom(a, 0), true
	}
	field := fmt.Sprintf("endpoints[%d]", i)
	ap, err := netip.ParseAddrPort(s)
	switch {
	case err == nil && ap.Port() == 0:
		f.add(field, s, "has port 0", "a port between 1 and 65535, or the address alone for any port")
	case err == nil:
		return ap, true
	case strings.Contains(s, "/"):
		f.add(field, s, "is a prefix", "one address: prefixes belong into subnets")
	default:
		f.add(field, s, "is not an address", "like 203.0.113.5, 203.0.113.5:41641, 2001:db8::5 or [2001:db8::5]:4500")
	}
	return affinity.Endpoint{}, false
}

func (f *faults) prefix(list string, i int, s string) (netip.Prefix, bool) {
	p, err := netip.ParsePrefix(s)
	if err == nil && p == p.Masked() {
		return p, true
	}
	field := fmt.Sprintf("%s[%d]", list, i)
	if err == nil {
		f.add(field, s, "has host bits set", "write "+p.Masked().String())
		return netip.Prefix{}, false
	}
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		f.add(field, s, "lacks a length", fmt.Sprintf("write %s/%d for this address alone", a, a.BitLen()))
		return netip.Prefix{}, false
	}
	f.add(field, s, "is not a prefix", "an address and a length: 100.64.40.32/28")
	return netip.Prefix{}, false
}

func (f *faults) address(list string, i int, s string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(s)
	if err != nil {
		f.add(fmt.Sprintf("%s[%d]", list, i), s, "is not an address", "like 192.0.2.10 or 2001:db8::10")
		return netip.Addr{}, false
	}
	return a, true
}

// The default tenant has an empty name in records, and the name default in paths and where people write one.
const defaultTenant = "default"

func tenantName(wire string) string {
	if wire == defaultTenant {
		return ""
	}
	return wire
}

func tenantWord(name string) string {
	if name == "" {
		return defaultTenant
	}
	return name
}

func (w *Service) record() (*affinity.Service, faults) {
	var f faults
	s := &affinity.Service{Name: w.Name, Learn: w.Learn, MaxUnavailable: w.MaxUnavailable}
	for i, v := range w.VIPs {
		if a, ok := f.address("vips", i, v); ok {
			s.VIPs = append(s.VIPs, a)
		}
	}
	for i, v := range w.Protocols {
		m, err := affinity.ParseMatch(v)
		if err != nil {
			f.add(fmt.Sprintf("protocols[%d]", i), v, err.Error(), "")
			continue
		}
		s.Match = append(s.Match, m)
	}
	var err error
	if s.Method, err = affinity.ParseMethod(w.Method); err != nil {
		f.add("method", w.Method, "is not a forwarding method", "dr, tunnel or masq")
	}
	if s.Unknown, err = affinity.ParseUnknown(w.Unknown); err != nil {
		f.add("unknown", w.Unknown, "is not a choice for unknown endpoints", "drop or hash")
	}
	if s.Policy, err = affinity.ParsePolicy(w.Policy); err != nil {
		f.add("placement", w.Policy, "is not a placement policy", "least-load or round-robin")
	}
	for _, word := range slices.Sorted(maps.Keys(w.Prefer)) {
		a, err := netip.ParseAddr(word)
		if err != nil {
			f.add("prefer", word, "is not an address", "a VIP of the service")
			continue
		}
		if s.Prefer == nil {
			s.Prefer = map[netip.Addr][]string{}
		}
		s.Prefer[a] = w.Prefer[word]
	}
	if len(f) > 0 {
		f.rest(s.Faults())
	}
	return s, f
}

func (w *Tenant) record() (*affinity.Tenant, faults) {
	var f faults
	n := &affinity.Tenant{Name: tenantName(w.Name)}
	for i, v := range w.Covers {
		if p, ok := f.prefix("covers", i, v); ok {
			n.Covers = append(n.Covers, p)
		}
	}
	for i, g := range w.Gateways {
		a, ok := f.address("gateways", i, g.Address)
		if !ok {
			continue
		}
		n.Gateways = append(n.Gateways, a)
		if len(g.Prefer) > 0 {
			if n.Prefer == nil {
				n.Prefer = map[netip.Addr][]string{}
			}
			n.Prefer[a] = g.Prefer
		}
	}
	if len(f) > 0 {
		f.rest(n.Faults())
	}
	return n, f
}

// DefaultWeight is a real server's weight if nobody says one.
const DefaultWeight = 100

// record is the real server that w asks for; admin is kept where w says none.
func (w *RealServer) record(admin affinity.Admin) (*affinity.RealServer, faults) {
	var f faults
	r := &affinity.RealServer{
		Name: w.Name, Host: w.Host, Zone: w.Zone, Services: w.Services, Weight: DefaultWeight, Capacity: w.Capacity, Admin: admin,
	}
	if r.Host == "" {
		r.Host = w.Name
	}
	if w.Weight != nil {
		r.Weight = *w.Weight
	}
	for i, v := range w.Addresses {
		if a, ok := f.address("addresses", i, v); ok {
			r.Addrs = append(r.Addrs, a)
		}
	}
	switch w.Admin {
	case "":
	case "active":
		r.Admin = affinity.Active
	case "drained":
		r.Admin = affinity.Drained
	default:
		f.add("admin", w.Admin, "is not an administrative state", "active or drained")
	}
	for tenant, tag := range w.VLANs {
		if r.VLANs == nil {
			r.VLANs = map[string]uint16{}
		}
		r.VLANs[tenantName(tenant)] = tag
	}
	if w.Check != "" {
		m, err := affinity.ParseMatch(w.Check)
		if err != nil || !affinity.HasPorts(m.Proto) || m.Lo != m.Hi {
			f.add("check", w.Check, "is not a check", "udp/PORT or tcp/PORT, or nothing for ARP and ND alone")
		}
		r.Check = affinity.Check{Proto: m.Proto, Port: m.Lo}
	}
	if len(f) > 0 {
		f.rest(r.Faults())
	}
	return r, f
}
