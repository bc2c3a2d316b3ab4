package affinity

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

func site(id string, change func(*Tunnel)) *Tunnel {
	t := &Tunnel{ID: id, Service: "ipsec", Owner: "nms"}
	if change != nil {
		change(t)
	}
	return t
}

func endpoints(s ...string) func(*Tunnel) {
	return func(t *Tunnel) {
		for _, e := range s {
			if a, err := netip.ParseAddr(e); err == nil {
				t.Endpoints = append(t.Endpoints, netip.AddrPortFrom(a, 0))
			} else {
				t.Endpoints = append(t.Endpoints, netip.MustParseAddrPort(e))
			}
		}
	}
}

func subnets(s ...string) func(*Tunnel) {
	return func(t *Tunnel) {
		for _, p := range s {
			t.Subnets = append(t.Subnets, prefix(p))
		}
	}
}

func TestCheckTunnel(t *testing.T) {
	reserved := []netip.Prefix{prefix("100.100.0.0/24"), prefix("100.101.0.1/32"), prefix("203.0.113.254/32")}
	for _, c := range []struct {
		name   string
		tunnel *Tunnel
		reason RefusalReason
		want   []string // parts of the error; none: accepted
	}{
		{"plain", site("a", endpoints("203.0.113.9")), 0, nil},
		{"empty lists", site("a", nil), 0, nil},
		{"bad id", site("a b", nil), Invalid, []string{`id "a b"`}},
		{"no service", site("a", func(t *Tunnel) { t.Service = "" }), Invalid, []string{"service: is missing"}},
		{"unknown service", site("a", func(t *Tunnel) { t.Service = "ipsek" }), Invalid, []string{`service "ipsek"`, "ipsec, l2tp"}},
		{"unknown tenant", site("a", func(t *Tunnel) { t.Tenant = "x" }), Invalid, []string{`tenant "x"`, "PUT /v1/tenants/x"}},
		{"multicast endpoint", site("a", endpoints("224.0.0.1")), Invalid, []string{"endpoints[0]", "multicast"}},
		{"unspecified endpoint", site("a", endpoints("0.0.0.0")), Invalid, []string{"unspecified"}},
		{"loopback endpoint", site("a", endpoints("::1")), Invalid, []string{"loopback"}},
		{"mapped endpoint", site("a", endpoints("::ffff:203.0.113.9")), Invalid, []string{"write 203.0.113.9"}},
		{"VIP as endpoint", site("a", endpoints("192.0.2.10")), Invalid, []string{"is a VIP"}},
		{"real server as endpoint", site("a", endpoints("198.51.100.2")), Invalid, []string{"real server rs2"}},
		{"director as endpoint", site("a", endpoints("203.0.113.254")), Invalid, []string{"address of the director"}},
		{"family without VIP", site("a", func(t *Tunnel) { t.Service = "l2tp"; endpoints("2001:db8:2::1")(t) }), Invalid, []string{"no VIP of this address family"}},
		{"endpoint twice", site("a", endpoints("203.0.113.9", "203.0.113.9")), Invalid, []string{"endpoints[1]", "twice"}},
		{"host bits", site("a", subnets("100.64.40.33/28")), Invalid, []string{"host bits set", "100.64.40.32/28"}},
		{"default route", site("a", subnets("0.0.0.0/0")), Invalid, []string{"whole address space"}},
		{"outside covers", site("a", subnets("10.0.0.0/24")), Invalid, []string{"outside the covering prefixes"}},
		{"covers a connected prefix", site("a", subnets("100.100.0.0/16")), Invalid, []string{"the director's own 100.100.0.0/24"}},
		{"inside a connected prefix", site("a", subnets("100.100.0.64/28")), Invalid, []string{"100.100.0.0/24"}},
		{"covers an own address", site("a", subnets("100.101.0.0/24")), Invalid, []string{"100.101.0.1/32"}},
		{"held endpoint", site("b", endpoints("203.0.113.5")), Conflict, []string{"endpoints[0]", "held by tunnel holder", "one group"}},
		{"the same by port", site("b", endpoints("203.0.113.5:4500")), 0, nil},
		{"held endpoint, other service of the VIP", site("b", func(t *Tunnel) { t.Service = "l2tp"; endpoints("203.0.113.5")(t) }), Conflict, []string{"held by tunnel holder"}},
		{"held subnet", site("b", subnets("100.64.1.0/24")), Conflict, []string{"subnets[0]", "held by tunnel holder"}},
		{"more specific subnet", site("b", subnets("100.64.1.16/28")), 0, nil},
		{"same subnet, other tenant", site("b", func(t *Tunnel) { t.Tenant = "acme"; subnets("100.64.1.0/24")(t) }), 0, nil},
		{"older generation", site("holder", func(t *Tunnel) { t.Generation = 4 }), Stale, []string{"generation 5"}},
		{"same generation", site("holder", func(t *Tunnel) { t.Generation = 5 }), 0, nil},
		{"apart from itself", site("a", func(t *Tunnel) { t.SeparateFrom = []string{"a"} }), Invalid, []string{"separate_from[0]", "itself"}},
		{"foreign", site("foreign", nil), Forbidden, []string{"belongs to other"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			tab := newTestTable()
			tab.PutTunnel(site("holder", func(t *Tunnel) { t.Generation = 5; endpoints("203.0.113.5")(t); subnets("100.64.1.0/24")(t) }))
			tab.PutTunnel(site("foreign", func(t *Tunnel) { t.Owner = "other" }))
			_, r := tab.CheckTunnel(c.tunnel, Actor{Name: "nms"}, reserved, false)
			if (r == nil) != (c.want == nil) {
				t.Fatalf("refusal %v, want %q", r, c.want)
			}
			if r == nil {
				return
			}
			for _, part := range c.want {
				if !strings.Contains(r.Error(), part) || r.Reason != c.reason {
					t.Errorf("%v (reason %d) lacks %q (reason %d)", r, r.Reason, part, c.reason)
				}
			}
		})
	}
}

func TestGenerationAfterDelete(t *testing.T) {
	for _, c := range []struct {
		name    string
		closed  bool
		put     uint64
		refused bool
	}{
		{"late retry", false, 4, true},
		{"the same again", false, 5, false},
		{"the same again after a delete that named it", true, 5, true},
		{"newer", true, 6, false},
		{"unsaid", true, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			tab := newTestTable()
			tab.PutTunnel(site("a", nil))
			tab.DeleteTunnel(site("a", func(t *Tunnel) { t.Generation, t.GenClosed, t.Header.Deleted = 5, c.closed, true }))
			_, r := tab.CheckTunnel(site("a", func(t *Tunnel) { t.Generation = c.put }), Actor{Name: "nms"}, nil, false)
			if (r != nil) != c.refused {
				t.Fatalf("refusal %v, want refused=%v", r, c.refused)
			}
			if r != nil && !errors.As(error(r), new(*Refusal)) {
				t.Fatal("not a Refusal")
			}
		})
	}
}

func TestPortClaimsWarn(t *testing.T) {
	tab := newTestTable()
	warnings, r := tab.CheckTunnel(site("a", endpoints("203.0.113.5:4500")), Actor{Name: "nms"}, nil, false)
	if r != nil || len(warnings) != 1 || !strings.Contains(warnings[0], "ESP") {
		t.Fatalf("refusal %v, warnings %q", r, warnings)
	}
	tab.PutTunnel(site("bare", endpoints("203.0.113.5")))
	if warnings, _ := tab.CheckTunnel(site("a", endpoints("203.0.113.5:4500")), Actor{Name: "nms"}, nil, false); len(warnings) != 0 {
		t.Fatalf("warnings %q although the address itself is claimed", warnings)
	}
}

func TestPlanSet(t *testing.T) {
	start := NewStamp(time.Unix(1_800_000_000, 0), 0)
	held := func(id, ep string, created Stamp, owner string) *Tunnel {
		tun := site(id, endpoints(ep))
		tun.Created, tun.Owner, tun.Header.Stamp = created, owner, created
		return tun
	}
	base := func() *Table {
		tab := newTestTable()
		tab.PutTunnel(held("a", "203.0.113.1", 1, "nms"))
		tab.PutTunnel(held("b", "203.0.113.2", 2, "nms"))
		tab.PutTunnel(held("other", "203.0.113.9", 3, "other"))
		tab.PutTunnel(held("fresh", "203.0.113.8", start+5, "nms"))
		return tab
	}
	names := func(p Plan) (puts, deletes, refused []string) {
		for _, x := range p.Puts {
			puts = append(puts, x.Tunnel.ID)
		}
		for _, x := range p.Deletes {
			deletes = append(deletes, x.ID)
		}
		for _, x := range p.Refused {
			refused = append(refused, x.Object)
		}
		slices.Sort(refused)
		return puts, deletes, refused
	}
	for _, c := range []struct {
		name                   string
		wanted                 []*Tunnel
		keep                   string
		puts, deletes, refused []string
		unchanged              int
	}{
		{"nothing new", []*Tunnel{site("a", endpoints("203.0.113.1")), site("b", endpoints("203.0.113.2"))}, "", nil, nil, nil, 2},
		{"one goes", []*Tunnel{site("a", endpoints("203.0.113.1"))}, "", nil, []string{"b"}, nil, 1},
		{"one would go but is up", []*Tunnel{site("a", endpoints("203.0.113.1"))}, "b", nil, nil, nil, 1},
		{"two change places", []*Tunnel{site("a", endpoints("203.0.113.2")), site("b", endpoints("203.0.113.1"))}, "", []string{"a", "b"}, nil, nil, 0},
		{"a new one takes over from one that goes", []*Tunnel{site("a", endpoints("203.0.113.1")), site("c", endpoints("203.0.113.2"))}, "", []string{"c"}, []string{"b"}, nil, 1},
		{"a new one wants what a kept one has", []*Tunnel{site("a", endpoints("203.0.113.1")), site("c", endpoints("203.0.113.2"))}, "b", nil, nil, []string{"tunnel c"}, 1},
		{"foreign claim", []*Tunnel{site("a", endpoints("203.0.113.9")), site("b", endpoints("203.0.113.2"))}, "", nil, nil, []string{"tunnel a"}, 1},
		{"two new ones want one key", []*Tunnel{site("a", endpoints("203.0.113.1")), site("b", endpoints("203.0.113.2")), site("y", endpoints("203.0.113.7")), site("x", endpoints("203.0.113.7"))}, "", []string{"x"}, nil, []string{"tunnel y"}, 2},
		{"a chain falls back", []*Tunnel{site("a", endpoints("203.0.113.9")), site("b", endpoints("203.0.113.1"))}, "", nil, nil, []string{"tunnel a", "tunnel b"}, 0},
		{"faulty in itself", []*Tunnel{site("a", endpoints("0.0.0.0")), site("b", endpoints("203.0.113.2"))}, "", nil, nil, []string{"tunnel a"}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := PlanSet(base(), Actor{Name: "nms"}, "nms", start, c.wanted, nil, func(tun *Tunnel) bool { return tun.ID == c.keep })
			puts, deletes, refused := names(p)
			if !slices.Equal(puts, c.puts) || !slices.Equal(deletes, c.deletes) || !slices.Equal(refused, c.refused) || p.Unchanged != c.unchanged {
				t.Fatalf("puts %v deletes %v refused %v unchanged %d\nwant %v %v %v %d\n%v", puts, deletes, refused, p.Unchanged, c.puts, c.deletes, c.refused, c.unchanged, p.Refused)
			}
			if !slices.Equal(p.Newer, []string{"fresh"}) {
				t.Errorf("newer %v, want the one pushed since", p.Newer)
			}
		})
	}
}

func TestMasqIsForUDP(t *testing.T) {
	vip := netip.MustParseAddr("192.0.2.20")
	udp, esp := Match{Proto: 17, Lo: 4500, Hi: 4500}, Match{Proto: 50}
	if f := (&Service{Name: "natt", VIPs: []netip.Addr{vip}, Method: Masq, Match: []Match{udp}}).Faults(); f != nil {
		t.Errorf("UDP by masq: %v", f)
	}
	f := (&Service{Name: "ipsec", VIPs: []netip.Addr{vip}, Method: Masq, Match: []Match{udp, esp}}).Faults()
	if len(f) != 1 || f[0].Field != "protocols[1]" || f[0].Value != "esp" || !strings.Contains(f[0].Remedy, "method dr or tunnel") {
		t.Errorf("ESP by masq: %v", f)
	}
}

func TestMasqNeedsPorts(t *testing.T) {
	tab := newTestTable()
	svc := Service{Name: "natt", Num: 9, VIPs: []netip.Addr{netip.MustParseAddr("192.0.2.20")}, Method: Masq, Match: []Match{{Proto: 17, Lo: 4500, Hi: 4500}}}
	tab.PutService(&svc)
	tun := Tunnel{ID: "t", Service: "natt", Endpoints: []Endpoint{netip.MustParseAddrPort("203.0.113.77:4500")}}
	if _, r := tab.CheckTunnel(&tun, Actor{Name: "nms"}, nil, false); r != nil {
		t.Errorf("with a port: %v", r)
	}
	tun.Endpoints[0] = netip.AddrPortFrom(tun.Endpoints[0].Addr(), 0)
	_, r := tab.CheckTunnel(&tun, Actor{Name: "nms"}, nil, false)
	if r == nil || len(r.Faults) != 1 || r.Faults[0].Field != "endpoints[0]" || !strings.Contains(r.Faults[0].Remedy, "address:port") {
		t.Errorf("without one: %v", r)
	}
}

// A service does not get method masq while a tunnel has an endpoint without a port.
func TestMasqWaitsForPorts(t *testing.T) {
	tab := newTestTable()
	svc := Service{Name: "natt", Num: 9, VIPs: []netip.Addr{netip.MustParseAddr("192.0.2.20")}, Match: []Match{{Proto: 17, Lo: 4500, Hi: 4500}}}
	tab.PutService(&svc)
	site := netip.MustParseAddr("203.0.113.77")
	tab.PutTunnel(&Tunnel{ID: "t", Service: "natt", Endpoints: []Endpoint{netip.AddrPortFrom(site, 0)}})
	next := svc
	next.Method = Masq
	r := tab.CheckService(&next, nil)
	if r == nil || len(r.Faults) != 1 || r.Faults[0].Field != "method" || r.Faults[0].Value != "masq" || !strings.Contains(r.Faults[0].Problem, "tunnel t, endpoints[0] 203.0.113.77: has no port") {
		t.Errorf("with the address alone: %v", r)
	}
	tab.PutTunnel(&Tunnel{ID: "t", Service: "natt", Endpoints: []Endpoint{netip.AddrPortFrom(site, 4500)}})
	if r := tab.CheckService(&next, nil); r != nil {
		t.Errorf("with a port: %v", r)
	}
}
