package ipvs

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
)

func TestCheck(t *testing.T) {
	four, six := netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("2001:db8::10")
	for _, test := range []struct {
		name   string
		match  affinity.Match
		vip    netip.Addr
		method affinity.Method
		says   string // "": it can
	}{
		{"ESP", affinity.Match{Proto: protoESP}, six, affinity.DR, ""},
		{"AH in IPv4", affinity.Match{Proto: protoAH}, four, affinity.IPIP, ""},
		{"AH in IPv6", affinity.Match{Proto: protoAH}, six, affinity.DR, "extension header"},
		{"UDP", affinity.Match{Proto: protoUDP, Lo: 500, Hi: 500}, four, affinity.Masq, ""},
		{"16 ports", affinity.Match{Proto: protoUDP, Lo: 10000, Hi: 10015}, four, affinity.DR, ""},
		{"17 ports", affinity.Match{Proto: protoUDP, Lo: 10000, Hi: 10016}, four, affinity.DR, "17 ports"},
		{"all ports", affinity.Match{Proto: protoUDP, Lo: 1, Hi: 65535}, four, affinity.DR, "65535 ports"},
		{"GRE", affinity.Match{Proto: 47}, four, affinity.DR, "no handler"},
		{"L2TP", affinity.Match{Proto: 115}, four, affinity.DR, "no handler"},
		{"IPIP", affinity.Match{Proto: 4}, four, affinity.DR, "no handler"},
		{"TCP", affinity.Match{Proto: 6, Lo: 443, Hi: 443}, four, affinity.DR, "state of each TCP connection"},
		{"ESP by masq", affinity.Match{Proto: protoESP}, four, affinity.Masq, "masq carries UDP only"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := Check(plane.Config{Services: []plane.Service{{Name: "s", VIPs: []netip.Addr{test.vip}, Match: []affinity.Match{test.match}, Method: test.method}}})
			if test.says == "" {
				if len(got) != 0 {
					t.Errorf("refused: %v", got)
				}
				return
			}
			if len(got) != 1 || !strings.Contains(got[0].Fault.Problem, test.says) || got[0].Fault.Field != "protocols[0]" {
				t.Fatalf("says %+v, want %q of protocols[0]", got, test.says)
			}
			if !strings.Contains(got[0].Fault.Remedy, "xdp") && test.method != affinity.Masq {
				t.Errorf("remedy %q does not name plane xdp", got[0].Fault.Remedy)
			}
		})
	}
}

func TestCheckRefusesTags(t *testing.T) {
	got := Check(plane.Config{RealServers: []plane.RealServer{{Name: "rs1", VLANs: map[uint16]uint16{1: 100}}}})
	if len(got) != 1 || got[0].Kind != "realserver" || got[0].Name != "rs1" || !strings.Contains(got[0].Fault.Remedy, "xdp") {
		t.Errorf("says %+v", got)
	}
}

// What Check finds nothing in can be taken; what it finds something in is refused by Apply, with nothing changed.
func TestApplyRefusesWhatCheckFinds(t *testing.T) {
	p, k := scene(t, pin(site1, 0, 1, 2))
	c := small()
	c.Services[0].Match = append(c.Services[0].Match, affinity.Match{Proto: 47})
	if err := p.Apply(t.Context(), plane.Update{Config: &c}); err == nil || !strings.Contains(err.Error(), "service ipsec") {
		t.Errorf("Apply: %v, want an error that names the service", err)
	}
	if got := goes(k, esp(site1)); got != "10.9.0.1" {
		t.Errorf("ESP goes to %q after the refusal", got)
	}
}

func TestOptions(t *testing.T) {
	for _, test := range []struct {
		name string
		o    Options
		says string
	}{
		{"nothing", Options{}, ""},
		{"IPv6 for IPv4", Options{Pairs4: DefaultPairs6}, "IPv4 prefix"},
		{"too small", Options{Pairs4: netip.MustParsePrefix("240.0.0.0/30")}, "/28"},
		{"half a second", Options{Timeout: time.Second / 2}, "whole seconds"},
		{"tags", Options{Interfaces: []plane.Interface{{Name: "eth0", VLANs: map[uint16]string{10: "blue"}}}}, "eth0.N"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := test.o.complete()
			if (err == nil) != (test.says == "") || err != nil && !strings.Contains(err.Error(), test.says) {
				t.Errorf("says %v, want %q", err, test.says)
			}
		})
	}
}

func TestPairNumbers(t *testing.T) {
	b := newBook(netip.MustParsePrefix("240.0.0.0/28"), DefaultPairs6)
	seen := map[netip.Addr]bool{}
	for i := range affinity.Index(15) {
		n, err := b.number(pair{i + 1, i + 2})
		if err != nil {
			t.Fatal(err)
		}
		a := b.addr(n, false)
		if back, ok := b.numberOf(a); seen[a] || !ok || back != n || n == 0 {
			t.Fatalf("pair %d: address %v, number %d, read back %d %t, twice %t", i, a, n, back, ok, seen[a])
		}
		seen[a] = true
	}
	if _, err := b.number(pair{100, 200}); err == nil || !strings.Contains(err.Error(), "larger ipvs.pairs") {
		t.Errorf("a sixteenth pair: %v, want an error with the remedy", err)
	}
	b.free(pair{1, 2})
	if _, err := b.number(pair{100, 200}); err != nil {
		t.Errorf("after one was given back: %v", err)
	}
	if n, _ := b.number(pair{3, 4}); b.addr(n, true).String() != "fd7d:6469:7265:6374::3" {
		t.Errorf("IPv6 address %v", b.addr(n, true))
	}
}

func TestNexthopNamesPair(t *testing.T) {
	for _, want := range []pair{{0, 0}, {1, 2}, {affinity.MaxIndex, 7}, {7, affinity.MaxIndex}} {
		for _, v6 := range []bool{false, true} {
			if got, six, ok := pairOfNexthop(want.nexthop(v6)); got != want || six != v6 || !ok {
				t.Errorf("%v v6 %t: read back as %v %t %t", want, v6, got, six, ok)
			}
		}
	}
	if _, _, ok := pairOfNexthop(5); ok {
		t.Error("nexthop 5 is taken for ours")
	}
}

// Addresses of the pairs' own range are nobody else's. (Covers are: only the kernel's own lookups go to pairs.)
func TestCheckKeepsPairAddresses(t *testing.T) {
	p := open(newKernel())
	c := small()
	c.Services[0].VIPs = append(c.Services[0].VIPs, netip.MustParseAddr("240.0.3.4"))
	c.RealServers[2].Addrs = []netip.Addr{netip.MustParseAddr("fd7d:6469:7265:6374::5")}
	c.Tenants = []plane.Tenant{{Covers: []netip.Prefix{DefaultPairs4}}}
	got := p.Check(c)
	if len(got) != 2 || got[0].Fault.Field != "vips[1]" || got[1].Name != "rs3" || got[1].Fault.Field != "addresses[0]" || !strings.Contains(got[0].Fault.Remedy, "ipvs.pairs") {
		t.Errorf("says %+v", got)
	}
}
