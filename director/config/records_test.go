package config

import (
	"net/netip"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"tunneldirector/affinity"
)

// sameRecords compares records without their headers, which the table gives.
var sameRecords = cmp.Options{
	cmpopts.IgnoreTypes(affinity.Header{}),
	cmpopts.IgnoreUnexported(affinity.Match{}, affinity.Check{}),
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
}

func TestRecords(t *testing.T) {
	got, err := ParseRecords([]byte(`
services:
  - {name: ipsec, vips: [192.0.2.1, "2001:db8::1"], protocols: [esp, udp/500, udp/4500-4501], method: tunnel, unknown: hash, placement: round-robin, learn: true, max_unavailable: 2, prefer: {192.0.2.1: [d1, d2], "2001:db8::1": [d2]}}
tenants:
  - {name: default, covers: [100.64.0.0/10], gateways: [{address: 198.51.100.1, prefer: [d1, d2]}, {address: "2001:db8:9::1", prefer: }]}
  - name: acme
---
real_servers:
  - {name: a, addresses: [198.51.100.1], services: [ipsec], weight: 0, capacity: 10, zone: z, host: h, vlans: {acme: 100, default: 7}, check: {tcp: 443}}
  - {name: b, addresses: [198.51.100.2], services: [ipsec], check: udp/500}
  - {name: c, addresses: [198.51.100.3], services: [ipsec], check: none}
`))
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.MustParseAddr
	want := Records{
		Services: []affinity.Service{{
			Name: "ipsec", VIPs: []netip.Addr{addr("192.0.2.1"), addr("2001:db8::1")},
			Match:  []affinity.Match{{Proto: 50}, {Proto: 17, Lo: 500, Hi: 500}, {Proto: 17, Lo: 4500, Hi: 4501}},
			Method: affinity.IPIP, Unknown: affinity.UnknownHash, Policy: affinity.RoundRobin, Learn: true, MaxUnavailable: 2,
			Prefer: map[netip.Addr][]string{addr("192.0.2.1"): {"d1", "d2"}, addr("2001:db8::1"): {"d2"}},
		}},
		Tenants: []affinity.Tenant{{Covers: []netip.Prefix{netip.MustParsePrefix("100.64.0.0/10")}, Gateways: []netip.Addr{addr("198.51.100.1"), addr("2001:db8:9::1")},
			Prefer: map[netip.Addr][]string{addr("198.51.100.1"): {"d1", "d2"}}}, {Name: "acme"}},
		RealServers: []affinity.RealServer{
			{Name: "a", Host: "h", Zone: "z", Addrs: []netip.Addr{addr("198.51.100.1")}, Services: []string{"ipsec"}, Capacity: 10,
				VLANs: map[string]uint16{"acme": 100, "": 7}, Check: affinity.Check{Proto: 6, Port: 443}},
			{Name: "b", Host: "b", Addrs: []netip.Addr{addr("198.51.100.2")}, Services: []string{"ipsec"}, Weight: 100, Check: affinity.Check{Proto: 17, Port: 500}},
			{Name: "c", Host: "c", Addrs: []netip.Addr{addr("198.51.100.3")}, Services: []string{"ipsec"}, Weight: 100},
		},
	}
	if diff := cmp.Diff(want, got, sameRecords); diff != "" {
		t.Error(diff)
	}
}

func TestRecordFaults(t *testing.T) {
	tests := []struct {
		name, text string
		want       []string
	}{
		{"empty", "", []string{"holds no record; give services, tenants or real_servers"}},
		{"empty lists", "services: []\n", []string{"holds no record; give services, tenants or real_servers"}},
		{"a tunnel", "tunnels:\n  - {id: x}\n", []string{"tunnels: unknown key; known here are services, tenants, real_servers (line 1, column 1)"}},
		{"in the second document", "tenants: [{name: a}]\n---\nservices: 5\n", []string{"document[1].services: is a number, not a list ([a, b]) (line 3)"}},
		{"service", "services:\n  - name: s\n    vips: [192.0.2.300, 5]\n    protocols: [icmp]\n    method: nat\n    unknown: maybe\n    placement: random\n    num: 1\n    learn: yes please\n    max_unavailable: -1\n", []string{
			`services[0].vips[0]: "192.0.2.300" is not an IP address (line 3)`, "services[0].vips[1]: is a number, not text; put it in quotes (line 3)",
			`services[0].protocols[0]: "icmp" is not a protocol; write esp, ah, gre, l2tp, ipip, ip/NUMBER, udp/PORT or tcp/PORT (line 4)`,
			`services[0].method: "nat" is not one of dr, tunnel, masq (line 5)`, `services[0].unknown: "maybe" is not one of drop, hash (line 6)`,
			`services[0].placement: "random" is not one of least-load, round-robin (line 7)`,
			"services[0].num: unknown key; known here are name, vips, protocols, method, unknown, placement, learn, max_unavailable, prefer (line 8, column 5)",
			"services[0].learn: is text, not true or false (line 9)", "services[0].max_unavailable: -1 is not between 0 and 65535 (line 10)"}},
		{"service by itself", "services:\n  - name: s\n    vips: [192.0.2.1, 192.0.2.1]\n  - name: s\n    vips: [224.0.0.1]\n    protocols: [esp]\n", []string{
			"services[0].protocols: is empty; for example esp, udp/500, udp/4500 (line 2)",
			`services[0].vips[1]: "192.0.2.1" stands twice; once is enough (line 3)`,
			`services[1].name: service "s" stands in services[0] already (line 4)`,
			`services[1].vips[0]: "224.0.0.1" is a multicast address; a unicast address (line 5)`}},
		{"tenant", "tenants:\n  - covers: [10.0.0.0/8]\n  - {name: a, covers: [10.0.0.1/8, x]}\n  - {name: b, covers: [10.0.0.1/8]}\n  - {name: default}\n  - {name: default}\n", []string{
			"tenants[0].name: is missing; default is the tenant of tunnels that name none (line 2)",
			`tenants[1].covers[1]: "x" is not a prefix; write an address and a length: 100.64.0.0/10 (line 3)`,
			`tenants[2].covers[0]: "10.0.0.1/8" has host bits set; write 10.0.0.0/8 (line 4)`,
			`tenants[3].name: tenant "" stands in tenants[0] already (line 5)`, `tenants[4].name: tenant "" stands in tenants[0] already (line 6)`}},
		{"who holds what", "services:\n  - name: s\n    prefer: {x: [d1], 192.0.2.1: [], 192.0.2.2: d1, '2001:db8::1': [a b], '2001:DB8:0::1': [d1], '2001:db8::2': [d1], '2001:db8:0::2': [d2]}\n" +
			"tenants:\n  - {name: a, gateways: [{prefer: [d1]}, {address: 5}, 192.0.2.1, {address: 192.0.2.1, prefer: d1}, {address: 192.0.2.2, via: x}]}\n", []string{
			`services[0].prefer.x: "x" is not an IP address (line 3)`, "services[0].prefer.192.0.2.1: names no director; give at least one, or leave it out: then it goes by rank (line 3)",
			"services[0].prefer.192.0.2.2: is text, not a list ([a, b]) (line 3)",
			`services[0].prefer.2001:db8::1[0]: "a b" is not a name: 1 to 128 letters, digits and . _ : - that start with a letter or a digit (line 3)`,
			"services[0].prefer.2001:db8:0::2: 2001:db8::2 stands twice, in other words (line 3)",
			"tenants[0].gateways[0]: lacks address (line 5)", "tenants[0].gateways[1].address: is a number, not text; put it in quotes (line 5)",
			"tenants[0].gateways[2]: is text, not a mapping (key: value) (line 5)", "tenants[0].gateways[3].prefer: is text, not a list ([a, b]) (line 5)",
			"tenants[0].gateways[4].via: unknown key; known here are address, prefer (line 5, column 122)"}},
		{"held by whom", "services:\n  - {name: s, vips: [192.0.2.1], protocols: [esp], prefer: {192.0.2.2: [d1], 192.0.2.1: [d1, d1]}}\n" +
			"tenants:\n  - {name: a, covers: [192.0.2.0/25], gateways: [{address: 192.0.2.200}, {address: 192.0.2.1, prefer: [d1, d1]}, {address: 192.0.2.200}]}\n", []string{
			`services[0].prefer.192.0.2.1[1]: "d1" stands twice; once is enough (line 2)`, `services[0].prefer: "192.0.2.2" is not a VIP of the service; one of its addresses (line 2)`,
			`tenants[0].gateways[1]: "192.0.2.1" lies in the covering prefix 192.0.2.0/25; an address of the target hosts' network: what is covered is behind tunnels (line 4)`,
			`tenants[0].gateways[2]: "192.0.2.200" stands twice; once is enough (line 4)`,
			`tenants[0].gateways.192.0.2.1[1]: "d1" stands twice; once is enough (line 4)`}},
		{"real server", "real_servers:\n  - name: a\n    addresses: [198.51.100.1]\n    services: [s]\n    weight: 70000\n    capacity: lots\n    vlans: {acme: 5000, b: , c: x}\n    check: {icmp: 1}\n", []string{
			"real_servers[0].weight: 70000 is not between 0 and 65535 (line 5)", "real_servers[0].capacity: is text, not a whole number between 0 and 2147483648 (line 6)",
			"real_servers[0].vlans.acme: 5000 is not between 1 and 4094 (line 7)", "real_servers[0].vlans.b: has no tag (line 7)",
			"real_servers[0].vlans.c: is text, not a whole number between 1 and 4094 (line 7)", "real_servers[0].check.icmp: unknown key; known here are udp, tcp (line 8, column 13)"}},
		{"real server by itself", "real_servers:\n  - weight: 5\n", []string{
			`real_servers[0].name: not a name; 1 to 128 letters, digits and . _ : - that start with a letter or a digit (line 2)`,
			"real_servers[0].addresses: is empty; its address on the real servers' network (line 2)", "real_servers[0].services: is empty; the services that it terminates (line 2)"}},
		{"checks", "real_servers:\n  - check: {udp: 5, tcp: 6}\n  - check: udp\n  - check: {udp: }\n  - check: udp/5-6\n  - check: {udp: 0}\n  - check: [udp]\n", []string{
			"real_servers[0].check.tcp: is a second check; a real server has one (line 2)", `real_servers[1].check: "udp" is not a check; write none, {udp: 51820} or {tcp: 443} (line 3)`,
			"real_servers[2].check.udp: lacks a port (line 4)", `real_servers[3].check: "udp/5-6" is not a check; write none, {udp: 51820} or {tcp: 443} (line 5)`,
			"real_servers[4].check.udp: 0 is not between 1 and 65535 (line 6)", "real_servers[5].check: is a list, not a mapping (key: value) (line 7)"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ParseRecords([]byte(tt.text))
			if diff := cmp.Diff(tt.want, words(t, err)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestExampleRecords(t *testing.T) {
	data, err := os.ReadFile("../../examples/records.yaml")
	if err != nil {
		t.Fatal(err)
	}
	r, err := ParseRecords(data)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Services) != 2 || len(r.Tenants) != 2 || len(r.RealServers) != 4 {
		t.Errorf("%d services, %d tenants, %d real servers", len(r.Services), len(r.Tenants), len(r.RealServers))
	}
	known := map[string]bool{}
	for _, s := range r.Services {
		known[s.Name] = true
	}
	for _, s := range r.RealServers {
		for _, name := range s.Services {
			if !known[name] {
				t.Errorf("real server %s: no service %s", s.Name, name)
			}
		}
	}
}
