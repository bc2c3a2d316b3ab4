package mem

import (
	"context"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
)

var addrs = cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func pin(vip, endpoint string, port uint16) plane.EndpointKey {
	return plane.EndpointKey{VIP: addr(vip), Addr: addr(endpoint), Port: port}
}

func subnet(tenant uint16, p string) plane.SubnetKey {
	return plane.SubnetKey{Tenant: tenant, Prefix: netip.MustParsePrefix(p)}
}

func to(primary, backup affinity.Index) plane.Target {
	return plane.Target{Primary: primary, Backup: backup}
}

func drop(r plane.Reason) plane.Target { return plane.Target{Drop: r} }

// rig is a plane with two services on one VIP pair, two tenants, and real servers of every sort: 1 and 2 by dr, 3 dead,
// 4 by IPIP over a path of 1400, 5 by IPIP with an IPv4 address only, 6 on the machine of 1.
func rig(t *testing.T) *Plane {
	t.Helper()
	ring := slices.Repeat([]plane.Target{to(2, 1)}, plane.RingSize)
	c := plane.Config{
		Services: []plane.Service{
			{Num: 9, Name: "hashed", VIPs: []netip.Addr{addr("192.0.2.1"), addr("2001:db8::1")}, Ring: ring,
				Match: []affinity.Match{{Proto: 17, Lo: 5000, Hi: 5999}, {Proto: 47}}},
			{Num: 3, Name: "ipsec", VIPs: []netip.Addr{addr("192.0.2.1"), addr("2001:db8::1")},
				Match: []affinity.Match{{Proto: 50}, {Proto: 17, Lo: 500, Hi: 500}, {Proto: 17, Lo: 4500, Hi: 5000}}},
			{Num: 4, Name: "alone", VIPs: []netip.Addr{addr("192.0.2.2")}, Ring: ring, Match: []affinity.Match{{Proto: 17, Lo: 51820, Hi: 51820}}},
		},
		Tenants: []plane.Tenant{
			{Num: 0, Name: "", Covers: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("10.2.0.0/16")}},
			{Num: 7, Name: "blue", Covers: []netip.Prefix{netip.MustParsePrefix("2001:db8:b::/48")}},
		},
		RealServers: []plane.RealServer{
			{Index: 1, Addrs: []netip.Addr{addr("10.9.0.1")}, Alive: true},
			{Index: 2, Addrs: []netip.Addr{addr("10.9.0.2")}, Alive: true},
			{Index: 3, Addrs: []netip.Addr{addr("10.9.0.3")}},
			{Index: 4, Addrs: []netip.Addr{addr("10.9.0.4"), addr("2001:db8:9::4")}, Method: affinity.IPIP, MTU: 1400, Alive: true},
			{Index: 5, Addrs: []netip.Addr{addr("10.9.0.5")}, Method: affinity.IPIP, Alive: true},
			{Index: 6, Addrs: []netip.Addr{addr("10.9.0.1")}, Alive: true},
		},
		Own: []netip.Addr{addr("10.0.0.254")},
	}
	set := map[plane.EndpointKey]plane.Target{
		pin("192.0.2.1", "203.0.113.1", 0):      to(1, 2),
		pin("192.0.2.1", "203.0.113.1", 4001):   to(2, 1),
		pin("192.0.2.1", "203.0.113.2", 0):      drop(plane.DropNoPort),
		pin("192.0.2.1", "203.0.113.2", 4001):   to(1, 0),
		pin("192.0.2.1", "203.0.113.3", 0):      to(3, 2),
		pin("192.0.2.1", "203.0.113.4", 0):      to(3, 77),
		pin("192.0.2.1", "203.0.113.5", 0):      drop(plane.DropUnplaced),
		pin("192.0.2.1", "203.0.113.6", 0):      drop(plane.DropContested),
		pin("192.0.2.1", "203.0.113.7", 0):      to(4, 0),
		pin("2001:db8::1", "2001:db8:f::7", 0):  to(4, 0),
		pin("2001:db8::1", "2001:db8:f::8", 0):  to(5, 0),
		pin("2001:db8::1", "2001:db8:f::9", 0):  to(1, 0),
		pin("192.0.2.1", "203.0.113.8", 0):      to(0, 0),
		pin("192.0.2.1", "203.0.113.9", 0):      to(0, 2),
		pin("192.0.2.1", "203.0.113.10", 0):     to(3, 3),
		pin("192.0.2.1", "203.0.113.11", 4001):  to(1, 0),
		pin("192.0.2.2", "203.0.113.1", 0):      to(1, 0),
		pin("2001:db8::1", "2001:db8:f::1", 99): to(1, 0),
	}
	var entries []plane.Entry
	for k, target := range set {
		entries = append(entries, plane.Entry{Endpoint: k, Target: target})
	}
	for k, target := range map[plane.SubnetKey]plane.Target{
		subnet(0, "10.1.0.0/16"):       to(1, 2),
		subnet(0, "10.1.2.0/24"):       to(2, 1),
		subnet(0, "10.1.3.0/24"):       drop(plane.DropUnplaced),
		subnet(0, "10.2.0.0/16"):       to(1, 2),
		subnet(0, "10.0.0.254/32"):     to(1, 2),
		subnet(0, "198.51.100.0/24"):   to(1, 2),
		subnet(7, "10.1.0.0/16"):       to(4, 0),
		subnet(7, "2001:db8:b:1::/64"): to(4, 0),
	} {
		entries = append(entries, plane.Entry{Subnet: k, Target: target})
	}
	m := New([]plane.Interface{
		{Name: "out", Roles: plane.RoleTunnel},
		{Name: "in", Roles: plane.RoleSubnet | plane.RoleRealServers, VLANs: map[uint16]string{70: "blue", 71: "", 72: "unheard-of"}},
		{Name: "green", Roles: plane.RoleSubnet, Tenant: "blue"},
	})
	if err := m.Replace(context.Background(), c, slices.Values(entries)); err != nil {
		t.Fatal(err)
	}
	return m
}

func lookup(t *testing.T, m *Plane, p plane.Packet) plane.Decision {
	t.Helper()
	d, err := m.Lookup(p)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestUpdate(t *testing.T) {
	ctx, m := context.Background(), rig(t)
	esp := plane.Packet{Src: addr("203.0.113.99"), Dst: addr("192.0.2.1"), Proto: 50, Hops: 64}
	k := pin("192.0.2.1", "203.0.113.99", 0)
	apply := func(entries ...plane.Entry) {
		t.Helper()
		if err := m.Apply(ctx, plane.Update{Entries: entries}); err != nil {
			t.Fatal(err)
		}
	}
	want := func(step string, index affinity.Index, reason plane.Reason) {
		t.Helper()
		if d := lookup(t, m, esp); d.RealServer != index || d.Reason != reason {
			t.Errorf("%s: real server %d, %v; want %d, %v", step, d.RealServer, d.Reason, index, reason)
		}
	}
	want("at first", 0, plane.DropUnknown)
	apply(plane.Entry{Endpoint: k, Target: to(1, 2)})
	want("set", 1, plane.None)
	apply(plane.Entry{Endpoint: k, Target: to(2, 1)})
	want("changed", 2, plane.None)
	if err := m.SetAlive(2, false); err != nil {
		t.Fatal(err)
	}
	want("primary dead", 1, plane.None)
	if err := m.SetAlive(2, true); err != nil {
		t.Fatal(err)
	}
	want("alive again", 2, plane.None)
	if err := m.SetAlive(500, true); err == nil {
		t.Error("SetAlive of an index that nobody configured: no error")
	}
	apply(plane.Entry{Endpoint: k, Delete: true}, plane.Entry{Endpoint: k, Target: to(1, 2)})
	want("deletes come after sets", 0, plane.DropUnknown)
	apply(plane.Entry{Endpoint: k, Delete: true})
	want("deleted twice", 0, plane.DropUnknown)
	for name, e := range map[string]plane.Entry{
		"families mixed":       {Endpoint: pin("192.0.2.1", "2001:db8::9", 0)},
		"host bits set":        {Subnet: plane.SubnetKey{Prefix: netip.MustParsePrefix("10.0.0.1/8")}},
		"neither is filled in": {},
	} {
		err := m.Apply(ctx, plane.Update{Entries: []plane.Entry{{Endpoint: k, Target: to(1, 2)}, e}})
		if err == nil {
			t.Errorf("%s: no error", name)
		}
		want(name, 0, plane.DropUnknown)
	}
	if err := m.Replace(ctx, plane.Config{}, slices.Values([]plane.Entry{})); err != nil {
		t.Fatal(err)
	}
	want("replaced by nothing", 0, plane.PassLocal)
}

func TestForwardCounts(t *testing.T) {
	m := rig(t)
	packets := []plane.Packet{
		{Src: addr("203.0.113.1"), Dst: addr("192.0.2.1"), Proto: 50, Hops: 64, Size: 100},
		{Src: addr("203.0.113.1"), Dst: addr("192.0.2.1"), Proto: 50, Hops: 64, Size: 50},
		{Src: addr("192.0.2.9"), Dst: addr("10.1.0.1"), Proto: 6, Hops: 64, Size: 40},
		{Src: addr("203.0.113.5"), Dst: addr("192.0.2.1"), Proto: 50, Hops: 64},
		{Src: addr("192.0.2.9"), Dst: addr("10.99.0.1"), Proto: 6, Hops: 64},
	}
	for _, p := range packets {
		looked := lookup(t, m, p)
		got, err := m.Forward(p)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(looked, got, addrs); diff != "" {
			t.Errorf("Lookup and Forward differ: %s", diff)
		}
	}
	s, err := m.Stats()
	if err != nil {
		t.Fatal(err)
	}
	want := plane.Stats{
		RealServers: map[affinity.Index]plane.Traffic{1: {Packets: 3, Bytes: 190}},
		Services:    map[uint16]plane.Traffic{3: {Packets: 2, Bytes: 150}},
		Subnet:      plane.Traffic{Packets: 1, Bytes: 40},
		Reasons:     map[plane.Reason]uint64{plane.DropUnplaced: 1, plane.DropCover: 1},
		ServiceDrop: map[uint16]map[plane.Reason]uint64{3: {plane.DropUnplaced: 1}},
		Capacity:    map[string]plane.Usage{"endpoints": {Entries: 18}, "subnets": {Entries: 8}},
	}
	if diff := cmp.Diff(want, s); diff != "" {
		t.Error(diff)
	}
}
