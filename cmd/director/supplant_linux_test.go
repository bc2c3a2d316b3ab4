package main

import (
	"fmt"
	"iter"
	"log/slog"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
	"tunneldirector/director/plane/ipvs/gate"
	"tunneldirector/director/plane/ipvs/route"
	"tunneldirector/director/plane/xdp"
)

// inNamespace puts the test's thread into a network namespace of its own.
func inNamespace(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("only root can make network namespaces, and CI has to be root")
		}
		t.Skip("only root can make network namespaces")
	}
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ns.Close() })
}

func TestWhatPlaneIPVSLeftIsFoundAndTakenOut(t *testing.T) {
	inNamespace(t)
	log := slog.New(slog.DiscardHandler)
	if was, err := takeOutIPVS(t.Context(), log); was || err != nil {
		t.Errorf("in an empty namespace: %v, %v", was, err)
	}
	for _, protocol := range []uint8{route.Protocol, 99} {
		rule := netlink.NewRule()
		rule.Family, rule.Table, rule.Priority, rule.Protocol = netlink.FAMILY_V4, 7777, 100+int(protocol), protocol
		if err := netlink.RuleAdd(rule); err != nil {
			t.Fatal(err)
		}
	}
	if was, err := takeOutIPVS(t.Context(), log); !was || err != nil {
		t.Fatalf("with one of its rules there: %v, %v", was, err)
	}
	if left, err := leftByIPVS(); left || err != nil {
		t.Errorf("afterwards: %v, %v", left, err)
	}
	rules, err := netlink.RuleListFiltered(netlink.FAMILY_V4, &netlink.Rule{Table: 7777}, netlink.RT_FILTER_TABLE)
	if err != nil || len(rules) != 1 {
		t.Errorf("somebody else's rule is gone: %v, %v", rules, err)
	}
}

// Its filter is there before the first rule is: a start that was refused leaves no more than that.
func TestWhatARefusedStartLeftIsFoundAndTakenOut(t *testing.T) {
	inNamespace(t)
	says := func() bool {
		return slices.ContainsFunc(leftovers(), func(s string) bool { return strings.Contains(s, "plane ipvs") })
	}
	if says() {
		t.Error("plane shadow says that there is something in an empty namespace")
	}
	g, err := gate.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if err := g.Seal(t.Context(), "td-link"); err != nil {
		t.Fatal(err)
	}
	if !says() {
		t.Error("plane shadow says nothing of the filter that is left")
	}
	if was, err := takeOutIPVS(t.Context(), slog.New(slog.DiscardHandler)); !was || err != nil {
		t.Errorf("with its filter there: %v, %v", was, err)
	}
	if there, err := gate.There(); there || err != nil {
		t.Errorf("afterwards the filter is there: %v, %v", there, err)
	}
}

// While plane xdp is filled beside plane ipvs it leaves to that one what it has no pin for yet; it never drops.
func TestXDPTakesOverWithoutDropping(t *testing.T) {
	inNamespace(t)
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "wire"}); err != nil {
		t.Fatal(err)
	}
	pins := fmt.Sprintf("/sys/fs/bpf/td-takeover-%d", os.Getpid())
	t.Cleanup(func() { _ = xdp.Uninstall(pins) })
	x, err := xdp.Open(xdp.Options{Interfaces: []plane.Interface{{Name: "eth0", Roles: plane.RoleTunnel | plane.RoleSubnet | plane.RoleRealServers}},
		PinPath: pins, MaxPins: 64, MaxSubnets: 64})
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	vip, site, behind := netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("203.0.113.5"), netip.MustParsePrefix("100.64.1.0/24")
	target := plane.Target{Primary: 1}
	want := plane.Config{
		Services:    []plane.Service{{Num: 1, Name: "ipsec", VIPs: []netip.Addr{vip}, Match: []affinity.Match{{Proto: 50}}}},
		Tenants:     []plane.Tenant{{Covers: []netip.Prefix{netip.MustParsePrefix("100.64.0.0/10")}}},
		RealServers: []plane.RealServer{{Index: 1, Name: "rs1", Addrs: []netip.Addr{netip.MustParseAddr("198.51.100.11")}, Alive: true}},
	}
	looks := 0
	look := func() {
		t.Helper()
		for _, p := range []plane.Packet{
			{Interface: "eth0", Src: site, Dst: vip, Proto: 50, Hops: 9},
			{Interface: "eth0", Src: netip.MustParseAddr("192.0.2.200"), Dst: behind.Addr().Next(), Proto: 17, Hops: 9},
		} {
			dec, err := x.Lookup(p)
			if err != nil {
				t.Fatal(err)
			}
			if dec.Reason.Drops() && dec.Reason != plane.DropNoNeighbour { // nobody answers ARP here: the pin is found
				t.Errorf("look %d: a packet to %v is dropped: %v", looks, p.Dst, dec.Reason)
			}
		}
		looks++
	}
	var entries iter.Seq[plane.Entry] = func(yield func(plane.Entry) bool) {
		look()
		_ = yield(plane.Entry{Endpoint: plane.EndpointKey{VIP: vip, Addr: site}, Target: target}) &&
			yield(plane.Entry{Subnet: plane.SubnetKey{Prefix: behind}, Target: target})
		look()
	}
	if err := (&takingOver{Plane: x}).Replace(t.Context(), want, entries); err != nil {
		t.Fatal(err)
	}
	look()
	if looks != 5 {
		t.Errorf("looked %d times", looks)
	}
}
