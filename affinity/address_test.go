package affinity

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func TestOneListForAVIP(t *testing.T) {
	tab := newTestTable()
	vip, gateway := addr("192.0.2.10"), addr("198.51.100.129")
	with := func(name string, prefer ...string) *Service {
		s, _ := tab.Service(name)
		next := *s
		next.Prefer = nil
		if prefer != nil {
			next.Prefer = map[netip.Addr][]string{vip: prefer}
		}
		return &next
	}
	tab.PutService(with("l2tp", "d2", "d1"))
	for _, name := range []string{"ipsec", "l2tp"} {
		if gw, prefer, known := tab.Address(vip); gw || !known || !slices.Equal(prefer, []string{"d2", "d1"}) {
			t.Errorf("the list is of one service: gateway %t, known %t, %v", gw, known, prefer)
		}
		if r := tab.CheckService(with(name, "d2", "d1"), nil); r != nil {
			t.Errorf("the same list: %v", r)
		}
	}
	r := tab.CheckService(with("ipsec", "d1"), nil)
	if r == nil || len(r.Faults) != 1 || r.Faults[0].Field != "prefer" || r.Faults[0].Value != vip.String() || !strings.Contains(r.Faults[0].Problem, "service l2tp") {
		t.Errorf("another list: %v", r)
	}
	tab.PutService(with("ipsec", "d1")) // on two sides of a partition
	if _, prefer, _ := tab.Address(vip); !slices.Equal(prefer, []string{"d1"}) {
		t.Errorf("of two lists %v counts", prefer)
	}
	tab.PutTenant(&Tenant{Name: "x", Gateways: []netip.Addr{gateway}, Prefer: map[netip.Addr][]string{gateway: {"d2"}}})
	if gw, prefer, known := tab.Address(gateway); !gw || !known || !slices.Equal(prefer, []string{"d2"}) {
		t.Errorf("a gateway: %t, known %t, %v", gw, known, prefer)
	}
	if gw, _, known := tab.Address(addr("192.0.2.99")); gw || known {
		t.Errorf("nothing: gateway %t, known %t", gw, known)
	}
}

// A gateway is kept free of everything else, whichever of the two was first.
func TestGatewaysAreTheirOwn(t *testing.T) {
	tab := newTestTable()
	gateway := addr("203.0.113.129")
	tab.PutTenant(&Tenant{Name: "x", Gateways: []netip.Addr{gateway}})
	svc, _ := tab.Service("l2tp")
	next := *svc
	next.VIPs = []netip.Addr{addr("192.0.2.10"), gateway}
	rs, _ := tab.RealServer("rs1")
	moved := *rs
	moved.Addrs = []netip.Addr{gateway}
	acme, _ := tab.Tenant("acme")
	wide := *acme
	wide.Covers = append(slices.Clone(wide.Covers), prefix("203.0.113.128/25"))
	inside := Tenant{Name: "y", Gateways: []netip.Addr{addr("100.64.0.1")}}
	for name, c := range map[string]struct {
		r           *Refusal
		field, says string
	}{
		"a VIP":                                  {tab.CheckService(&next, nil), "vips[1]", "is a gateway of tenant x"},
		"a real server's address":                {tab.CheckRealServer(&moved, nil), "addresses[0]", "is a gateway of tenant x"},
		"another tenant's covering prefix":       {tab.CheckTenant(&wide, nil), "covers[1]", "covers gateway 203.0.113.129 of tenant x"},
		"a gateway in another's covering prefix": {tab.CheckTenant(&inside, nil), "gateways[0]", "lies in the covering prefix 100.64.0.0/10 of tenant "},
		"another tenant's gateway":               {tab.CheckTenant(&Tenant{Name: "y", Gateways: []netip.Addr{gateway}}, nil), "gateways[0]", "is a gateway of tenant x"},
	} {
		if c.r == nil || c.r.Faults[0].Field != c.field || !strings.Contains(c.r.Faults[0].Problem, c.says) {
			t.Errorf("%s: %v, want %q of field %s", name, c.r, c.says, c.field)
		}
	}
	if r := tab.CheckTenant(&Tenant{Name: "x", Gateways: []netip.Addr{gateway, gateway.Next()}}, nil); r != nil {
		t.Errorf("its own, and one more: %v", r)
	}
}
