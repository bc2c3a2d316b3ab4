package director

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"tunneldirector/affinity"
	"tunneldirector/director/api"
	"tunneldirector/director/plane"
)

// Explain asks the data plane itself what becomes of a packet, and the table why.
func (v view) Explain(ctx context.Context, q api.Question) (api.Explanation, error) {
	t := v.d.Table()
	p, err := v.d.packet(t, q)
	if err != nil {
		return api.Explanation{}, err
	}
	dec, err := v.d.o.Plane.Lookup(p)
	if err != nil {
		return api.Explanation{}, fmt.Errorf("look up in the data plane: %w", err)
	}
	e := api.Explanation{Side: dec.Side.String(), Reason: dec.Reason.String(), Action: "forward", Agrees: true}
	switch {
	case dec.Reason.Drops():
		e.Action = "drop"
	case dec.Reason != plane.None:
		e.Action = "pass"
	}
	x := explainer{t: t, d: v.d, p: p, dec: dec, e: &e}
	x.explain()
	x.compare(ctx)
	return e, nil
}

// packet reads a question, with what is not said filled in from the VIP's services.
func (d *Director) packet(t *affinity.Table, q api.Question) (plane.Packet, error) {
	var faults []affinity.Fault
	addr := func(field, s string) netip.Addr {
		a, err := netip.ParseAddr(s)
		if err != nil {
			faults = append(faults, affinity.Fault{Field: field, Value: s, Problem: "is not an address", Remedy: "an IPv4 or IPv6 address"})
		}
		return a
	}
	p := plane.Packet{Src: addr("src", q.Src), Dst: addr("dst", q.Dst), SrcPort: q.SrcPort, DstPort: q.DstPort, Hops: 64}
	p.Fragment = map[string]plane.Fragment{"first": plane.First, "later": plane.Later}[q.Fragment]
	if _, ok := t.Tenant(q.Tenant); !ok && q.Tenant != "" {
		faults = append(faults, affinity.Fault{Field: "tenant", Value: q.Tenant, Problem: "is not a tenant", Remedy: "GET /v1/tenants"})
	}
	p.Tenant = q.Tenant
	var ok bool
	if p.From, ok = d.cameFrom(t, q.SrcMAC); !ok {
		faults = append(faults, affinity.Fault{Field: "src_mac", Value: q.SrcMAC, Problem: "is neither a real server nor a MAC address", Remedy: "like 02:00:5e:10:00:01, or a name of GET /v1/realservers"})
	}
	if q.Proto != "" {
		proto, err := affinity.ParseProto(q.Proto)
		if err != nil {
			faults = append(faults, affinity.Fault{Field: "proto", Value: q.Proto, Problem: err.Error(), Remedy: "esp, ah, gre, l2tp, ipip, udp, tcp, icmp or a number"})
		}
		p.Proto = proto
	} else {
		fill(t, &p)
	}
	if len(faults) == 0 && p.Src.Is4() != p.Dst.Is4() {
		faults = append(faults, affinity.Fault{Field: "src", Value: q.Src, Problem: "is not of the destination's address family", Remedy: "both IPv4 or both IPv6"})
	}
	if len(faults) > 0 {
		return p, &affinity.Refusal{Reason: affinity.Invalid, Object: "packet", Faults: faults}
	}
	return p, nil
}

// fill takes protocol and port of the first service at the VIP.
func fill(t *affinity.Table, p *plane.Packet) {
	p.Proto = 17
	for _, s := range t.Services() {
		if slices.Contains(s.VIPs, p.Dst) {
			p.Proto = s.Match[0].Proto
			if p.DstPort == 0 {
				p.DstPort = s.Match[0].Lo
			}
			return
		}
	}
}

type explainer struct {
	t   *affinity.Table
	d   *Director
	p   plane.Packet
	dec plane.Decision
	pin affinity.Pin // that holds; zero: none does
	e   *api.Explanation
}

func (x *explainer) say(format string, args ...any) {
	x.e.Words = append(x.e.Words, fmt.Sprintf(format, args...))
}

func (x *explainer) explain() {
	x.say("%s packet from %s to %s", affinity.ProtoName(x.p.Proto), at(x.p.Src, x.p.SrcPort), at(x.p.Dst, x.p.DstPort))
	if x.p.From != 0 {
		x.say("it comes from real server %s", x.t.NameAt(x.p.From))
	}
	for _, s := range x.t.Services() {
		if s.Num == x.dec.Service {
			x.e.Service = s.Name
			x.say("%s is a VIP, and the packet belongs to service %s", x.p.Dst, s.Name)
		}
	}
	switch {
	case x.dec.Endpoint.VIP.IsValid():
		k := x.dec.Endpoint
		x.e.Matched = "endpoint " + at(k.Addr, k.Port) + " at " + k.VIP.String()
		h, ok := x.t.AtEndpoint(k)
		x.holder(h, ok)
	case x.dec.Subnet.Prefix.IsValid():
		x.e.Matched = "subnet " + x.dec.Subnet.Prefix.String()
		h, ok := x.t.AtSubnet(x.dec.Subnet)
		x.holder(h, ok)
	case x.dec.Hashed:
		x.e.Matched = "hash of " + x.p.Src.String()
		x.say("no tunnel claims %s; service %s spreads unknown endpoints by hash", x.p.Src, x.e.Service)
	}
	x.outcome()
}

func at(a netip.Addr, port uint16) string {
	if port == 0 {
		return a.String()
	}
	return netip.AddrPortFrom(a, port).String()
}

// holder tells who holds the key that matched and where its group is pinned.
func (x *explainer) holder(h affinity.Holding, ok bool) {
	switch {
	case h.PortsOnly:
		x.say("%s is claimed only with ports, and this packet carries none", x.e.Matched)
		return
	case !ok && x.dec.Reason == plane.DropCover:
		x.say("%s is a covering prefix, and no tunnel has a subnet for the destination", x.e.Matched)
		return
	case !ok:
		x.e.Agrees = false
		x.say("the data plane holds %s, the table does not (any more): director status tells whether it is being mended", x.e.Matched)
		return
	}
	x.pin = h.Pin
	x.e.Tunnel, x.e.Group = h.Tunnel, groupName(h.Group)
	x.e.Primary, x.e.Backup = x.t.NameAt(h.Pin.Primary), x.t.NameAt(h.Pin.Backup)
	x.say("%s is claimed by tunnel %s, placed with group %s", x.e.Matched, h.Tunnel, x.e.Group)
	if h.Pin.Primary == 0 {
		x.say("the group is unplaced: %s", h.Pin.Note)
		return
	}
	x.e.PinSince, x.e.PinWhy, x.e.PinnedBy = h.Pin.Since.Time().Format("2006-01-02T15:04:05Z07:00"), h.Pin.Why.String(), h.Pin.Header.Origin
	x.say("pinned to %s since %s (%s by director %s), backup %s", x.e.Primary, x.e.PinSince, x.e.PinWhy, x.e.PinnedBy, orNone(x.e.Backup))
	if h.Pin.Note != "" {
		x.say("note: %s", h.Pin.Note)
	}
	if got := x.dec.RealServer; got != 0 && got != h.Pin.Primary && got != h.Pin.Backup {
		x.e.Agrees = false
		x.say("the data plane sends it elsewhere: to %s", orNone(x.t.NameAt(got)))
	}
}

func orNone(name string) string {
	if name == "" {
		return "none"
	}
	return name
}

// outcome tells what happens, and what would if the chosen real server died.
func (x *explainer) outcome() {
	dec := x.dec
	if dec.Reason != plane.None {
		x.say("the packet is %s: %s", map[string]string{"drop": "dropped", "pass": "left to the director's own stack"}[x.e.Action], dec.Reason)
		x.loops()
		x.died()
		if dec.Reason == plane.DropNoNeighbour {
			x.way(x.t.Serving(x.pin))
		}
		return
	}
	x.e.RealServer, x.e.UsedBackup = x.t.NameAt(dec.RealServer), dec.Backup
	if l, ok := x.t.Life(dec.RealServer); ok {
		x.e.Incarnation = l.Incarnation
	}
	if dec.Backup {
		x.say("the primary %s is dead, so its backup takes the packet", x.e.Primary)
	}
	x.say("the packet goes to real server %s (incarnation %d)", x.e.RealServer, x.e.Incarnation)
	x.way(dec.RealServer)
	x.loops()
	x.died()
	x.sees(dec.RealServer)
	switch {
	case dec.Backup || x.e.Backup == "":
		x.e.IfItDies = "dropped until the group is placed anew"
	default:
		x.e.IfItDies = x.e.Backup
	}
	x.say("if %s died now: %s", x.e.RealServer, x.e.IfItDies)
}
