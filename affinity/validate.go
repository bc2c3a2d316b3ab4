package affinity

import (
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
)

// Limits on single records.
const (
	MaxEndpoints = 16
	MaxSubnets   = 256
	MaxLabels    = 32
	MaxVIPs      = 8
	MaxMatches   = 16
	MaxRules     = 64                 // matches of all services at one VIP
	MaxVLANs     = 256                // of one real server
	MaxGroup     = 256                // tunnels in a group
	MaxBandwidth = 10_000_000_000_000 // bit/s of a tunnel
	MaxServices  = 64                 // in a table
	MaxTenants   = 4096
)

var nameRE = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$`)

func checkName(field, value string) []Fault {
	if nameRE.MatchString(value) {
		return nil
	}
	return []Fault{{field, value, "not a name", "1 to 128 letters, digits and . _ : - that start with a letter or a digit"}}
}

func checkText(field, value string, limit int) []Fault {
	if len(value) > limit {
		return []Fault{{field, value[:32] + "...", fmt.Sprintf("has %d bytes", len(value)), fmt.Sprintf("at most %d", limit)}}
	}
	for _, r := range value {
		if r < 0x20 || r == 0x7f || r == 0xfffd {
			return []Fault{{field, value, "has control characters or is not UTF-8", "printable text"}}
		}
	}
	return nil
}

func tooMany(field string, n, limit int) []Fault {
	if n <= limit {
		return nil
	}
	return []Fault{{field, fmt.Sprint(n), "too many", fmt.Sprintf("at most %d", limit)}}
}

// Faults are what is wrong with a tunnel by itself.
func (t *Tunnel) Faults() []Fault {
	out := checkName("id", t.ID)
	if t.Service == "" {
		out = append(out, Fault{"service", "", "is missing", "the name of a virtual service"})
	}
	if t.Group != "" {
		out = append(out, checkName("group", t.Group)...)
	}
	if len(t.Endpoints) == 0 && len(t.Subnets) == 0 && t.State == StateUp {
		out = append(out, Fault{"state", "up", "a tunnel that is up has an endpoint or a subnet", "give endpoints"})
	}
	out = append(out, tooMany("endpoints", len(t.Endpoints), MaxEndpoints)...)
	seen := map[Endpoint]bool{}
	for i, ep := range t.Endpoints {
		field := fmt.Sprintf("endpoints[%d]", i)
		out = append(out, siteAddr(field, ep.Addr())...)
		if seen[ep] {
			out = append(out, Fault{field, endpointText(ep), "stands twice", "once is enough"})
		}
		seen[ep] = true
	}
	return append(out, t.moreFaults()...)
}

func (t *Tunnel) moreFaults() []Fault {
	out := tooMany("subnets", len(t.Subnets), MaxSubnets)
	seen := map[netip.Prefix]bool{}
	for i, p := range t.Subnets {
		field := fmt.Sprintf("subnets[%d]", i)
		out = append(out, canonical(field, p)...)
		if p.Bits() == 0 {
			out = append(out, Fault{field, p.String(), "is the whole address space", "name the subnets behind the site"})
		} else if a := p.Addr(); a.IsMulticast() || a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsUnspecified() {
			out = append(out, Fault{field, p.String(), "is not a unicast subnet", "name subnets that hosts are in"})
		}
		if seen[p] {
			out = append(out, Fault{field, p.String(), "stands twice", "once is enough"})
		}
		seen[p] = true
	}
	if t.Bandwidth > MaxBandwidth {
		out = append(out, Fault{"bandwidth_bps", fmt.Sprint(t.Bandwidth), "is too large", fmt.Sprintf("at most %d bit/s, or leave it out", uint64(MaxBandwidth))})
	}
	out = append(out, tooMany("labels", len(t.Labels), MaxLabels)...)
	for k, v := range t.Labels {
		out = append(out, checkName("labels."+k, k)...)
		out = append(out, checkText("labels."+k, v, 256)...)
	}
	out = append(out, tooMany("separate_from", len(t.SeparateFrom), 8)...)
	for i, s := range t.SeparateFrom {
		out = append(out, checkName(fmt.Sprintf("separate_from[%d]", i), s)...)
		if s == t.ID || s == t.Group && s != "" {
			out = append(out, Fault{fmt.Sprintf("separate_from[%d]", i), s, "is this tunnel itself", "name another tunnel or group"})
		}
	}
	return out
}

func endpointText(ep Endpoint) string {
	if ep.Port() == 0 {
		return ep.Addr().String()
	}
	return ep.String()
}

// siteAddr checks a unicast address that a packet may come from.
func siteAddr(field string, a netip.Addr) []Fault {
	problem := ""
	switch {
	case !a.IsValid():
		problem = "is not an address"
	case a.Zone() != "":
		problem = "has a zone"
	case a.Is4In6():
		problem = "is an IPv4 address written as IPv6; write " + a.Unmap().String()
	case a.IsUnspecified():
		problem = "is the unspecified address"
	case a.IsMulticast():
		problem = "is a multicast address"
	case a.IsLoopback():
		problem = "is a loopback address"
	case a.IsLinkLocalUnicast():
		problem = "is a link-local address"
	case a.Is4() && a.As4()[0] >= 240 || a.Is4() && a.As4()[0] == 0:
		problem = "is a reserved address"
	default:
		return nil
	}
	return []Fault{{field, a.String(), problem, "a unicast address"}}
}

// canonical refuses host bits.
func canonical(field string, p netip.Prefix) []Fault {
	switch {
	case !p.IsValid() || p.Addr().Zone() != "":
		return []Fault{{field, p.String(), "is not a prefix", "an address and a length: 100.64.40.32/28"}}
	case p.Addr().Is4In6():
		return []Fault{{field, p.String(), "is IPv4 written as IPv6", "write it as IPv4"}}
	case p != p.Masked():
		return []Fault{{field, p.String(), "has host bits set", "write " + p.Masked().String()}}
	}
	return nil
}

// Faults are what is wrong with a service by itself.
func (s *Service) Faults() []Fault {
	out := checkName("name", s.Name)
	out = append(out, tooMany("vips", len(s.VIPs), MaxVIPs)...)
	if len(s.VIPs) == 0 {
		out = append(out, Fault{"vips", "", "is empty", "the addresses that sites dial"})
	}
	seen := map[netip.Addr]bool{}
	for i, v := range s.VIPs {
		field := fmt.Sprintf("vips[%d]", i)
		out = append(out, siteAddr(field, v)...)
		if seen[v] {
			out = append(out, Fault{field, v.String(), "stands twice", "once is enough"})
		}
		seen[v] = true
	}
	out = append(out, preferFaults("prefer", s.Prefer, s.VIPs, "a VIP of the service")...)
	out = append(out, tooMany("protocols", len(s.Match), MaxMatches)...)
	if len(s.Match) == 0 {
		out = append(out, Fault{"protocols", "", "is empty", "for example esp, udp/500, udp/4500"})
	}
	for i, a := range s.Match {
		field := fmt.Sprintf("protocols[%d]", i)
		for _, b := range s.Match[:i] {
			if a.overlaps(b) {
				out = append(out, Fault{field, a.String(), "overlaps " + b.String(), "leave one out"})
			}
		}
		if s.Method == Masq && a.Proto != 17 {
			out = append(out, Fault{field, a.String(), "does not survive a change of address, and method masq is one", "udp, or method dr or tunnel"})
		}
	}
	return out
}

func (m Match) overlaps(o Match) bool { return m.Proto == o.Proto && m.Lo <= o.Hi && o.Lo <= m.Hi }

// Faults are what is wrong with a tenant by itself. The default tenant has the name "".
func (n *Tenant) Faults() []Fault {
	var out []Fault
	if n.Name != "" {
		out = checkName("name", n.Name)
	}
	out = append(out, tooMany("covers", len(n.Covers), 256)...)
	for i, p := range n.Covers {
		out = append(out, canonical(fmt.Sprintf("covers[%d]", i), p)...)
	}
	out = append(out, tooMany("gateways", len(n.Gateways), MaxVIPs)...)
	for i, a := range n.Gateways {
		field := fmt.Sprintf("gateways[%d]", i)
		out = append(out, siteAddr(field, a)...)
		if slices.Contains(n.Gateways[:i], a) {
			out = append(out, Fault{field, a.String(), "stands twice", "once is enough"})
		}
		for _, c := range n.Covers {
			if c.Contains(a) {
				out = append(out, Fault{field, a.String(), "lies in the covering prefix " + c.String(), "an address of the target hosts' network: what is covered is behind tunnels"})
			}
		}
	}
	return append(out, preferFaults("gateways", n.Prefer, n.Gateways, "a gateway of the tenant")...)
}

// preferFaults are what is wrong with lists of directors by address.
func preferFaults(field string, prefer map[netip.Addr][]string, known []netip.Addr, what string) []Fault {
	var out []Fault
	for _, a := range slices.SortedFunc(maps.Keys(prefer), netip.Addr.Compare) {
		if !slices.Contains(known, a) {
			out = append(out, Fault{field, a.String(), "is not " + what, "one of its addresses"})
		}
		for i, name := range prefer[a] {
			at := fmt.Sprintf("%s.%s[%d]", field, a, i)
			out = append(out, checkName(at, name)...)
			if slices.Contains(prefer[a][:i], name) {
				out = append(out, Fault{at, name, "stands twice", "once is enough"})
			}
		}
	}
	return out
}

// Faults are what is wrong with a real server by itself.
func (r *RealServer) Faults() []Fault {
	out := checkName("name", r.Name)
	out = append(out, checkName("host", r.Host)...)
	if r.Zone != "" {
		out = append(out, checkName("zone", r.Zone)...)
	}
	if len(r.Addrs) == 0 {
		out = append(out, Fault{"addresses", "", "is empty", "its address on the real servers' network"})
	}
	families := map[bool]bool{}
	for i, a := range r.Addrs {
		field := fmt.Sprintf("addresses[%d]", i)
		out = append(out, siteAddr(field, a)...)
		if families[a.Is4()] {
			out = append(out, Fault{field, a.String(), "is the second of its family", "one IPv4 and one IPv6 address at most; an instance with another address is another real server"})
		}
		families[a.Is4()] = true
	}
	if len(r.Services) == 0 {
		out = append(out, Fault{"services", "", "is empty", "the services that it terminates"})
	}
	out = append(out, tooMany("services", len(r.Services), MaxServices)...)
	for i, name := range r.Services {
		if slices.Contains(r.Services[:i], name) {
			out = append(out, Fault{fmt.Sprintf("services[%d]", i), name, "stands twice", "once is enough"})
		}
	}
	out = append(out, tooMany("vlans", len(r.VLANs), MaxVLANs)...)
	if r.Weight > 65535 {
		out = append(out, Fault{"weight", fmt.Sprint(r.Weight), "is too large", "0 to 65535"})
	}
	for tenant, tag := range r.VLANs {
		if tag == 0 || tag > 4094 {
			out = append(out, Fault{"vlans." + tenant, fmt.Sprint(tag), "is not a VLAN tag", "1 to 4094"})
		}
	}
	return append(out, r.Check.faults()...)
}

func (c Check) faults() []Fault {
	switch {
	case c.Proto == 0 && c.Port == 0, HasPorts(c.Proto) && c.Port != 0:
		return nil
	}
	return []Fault{{"check", fmt.Sprintf("%d/%d", c.Proto, c.Port), "is not a check", "udp or tcp with a port, or none"}}
}
