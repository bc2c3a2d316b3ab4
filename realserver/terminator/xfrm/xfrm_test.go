package xfrm

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tunneldirector/director/agent"
	"tunneldirector/realserver/terminator"
)

var (
	vip   = netip.MustParseAddr("192.0.2.10")
	vip6  = netip.MustParseAddr("2001:db8::10")
	site  = netip.MustParseAddr("203.0.113.11")
	nat   = netip.MustParseAddr("203.0.113.254")
	byVal = cmp.Options{cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }), cmp.AllowUnexported(pair{}, state{})}
)

// sas are both directions of a tunnel.
func sas(spi uint32, vip, site netip.Addr, port uint16) []state {
	in, out := state{src: site, dst: vip, spi: spi, reqid: spi}, state{src: vip, dst: site, spi: spi + 1, reqid: spi}
	if port != 0 {
		in.sport, in.dport, out.sport, out.dport = port, 4500, 4500, port
	}
	return []state{in, out}
}

func TestPairs(t *testing.T) {
	for _, tt := range []struct {
		name   string
		states []state
		want   []netip.AddrPort
	}{
		{"none", nil, nil},
		{"native", sas(1, vip, site, 0), []netip.AddrPort{netip.AddrPortFrom(site, 0)}},
		{"one way only", sas(1, vip, site, 0)[:1], nil},
		{"not a VIP's", sas(1, netip.MustParseAddr("198.51.100.11"), site, 0), nil},
		{"two behind one address", append(sas(1, vip, nat, 1024), sas(3, vip, nat, 1025)...), []netip.AddrPort{netip.AddrPortFrom(nat, 1024), netip.AddrPortFrom(nat, 1025)}},
		{"one way of each of two", append(sas(1, vip, nat, 1024)[:1], sas(3, vip, nat, 1025)[1:]...), nil},
		{"new keys", append(sas(1, vip, site, 0), sas(3, vip, site, 0)...), []netip.AddrPort{netip.AddrPortFrom(site, 0)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []netip.AddrPort
			for _, p := range pairs(tt.states, []netip.Addr{vip, vip6}) {
				got = append(got, p.endpoint)
			}
			if diff := cmp.Diff(tt.want, got, byVal); diff != "" {
				t.Errorf("endpoints (-want +got):\n%s", diff)
			}
		})
	}
}

// TestBehind: sites behind one address have what their policies' numbers say; SAs without a number what leads to the address.
func TestBehind(t *testing.T) {
	net := netip.MustParsePrefix
	behind := networks([]policy{
		{net("100.64.3.0/28"), vip, nat, 3}, {net("100.64.1.0/28"), vip, nat, 1}, {net("2001:db8:64:1::/64"), vip, nat, 1}, {net("100.64.1.0/28"), vip, nat, 1},
		{net("100.64.9.0/28"), vip, site, 0}, {net("100.64.8.0/28"), vip6, nat, 1},
	})
	all := pairs(append(append(sas(1, vip, nat, 1024), sas(3, vip, nat, 1025)...), sas(7, vip, site, 0)...), []netip.Addr{vip})
	var got [][]netip.Prefix
	for _, p := range all {
		got = append(got, p.behind(behind))
	}
	want := [][]netip.Prefix{{net("100.64.9.0/28")}, {net("100.64.1.0/28"), net("2001:db8:64:1::/64")}, {net("100.64.3.0/28")}}
	if diff := cmp.Diff(want, got, byVal); diff != "" {
		t.Errorf("behind (-want +got):\n%s", diff)
	}
}

// TestLife: new keys leave the time of establishment, as long as there is one SA that both looks saw; a packet is noticed when
// there are more.
func TestLife(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	one := func(spi uint32, added int, packets uint64) state {
		return state{src: site, dst: vip, spi: spi, added: at(added), packets: packets, bytes: 100 * packets}
	}
	var l life
	for _, step := range []struct {
		what        string
		now         int
		in          []state
		since, last int // last -1: never
		rx          uint64
	}{
		{"first seen", 10, []state{one(1, 2, 5)}, 2, -1, 500},
		{"idle", 15, []state{one(1, 2, 5)}, 2, -1, 500},
		{"a packet", 20, []state{one(1, 2, 6)}, 2, 20, 600},
		{"new keys beside the old ones", 25, []state{one(1, 2, 6), one(2, 24, 0)}, 2, 20, 600},
		{"new keys alone", 30, []state{one(2, 24, 1)}, 2, 30, 100},
		{"dialled anew", 40, []state{one(3, 38, 0)}, 38, -1, 0},
	} {
		var tunnel agent.Tunnel
		tunnel, l = pair{vip: vip, endpoint: netip.AddrPortFrom(site, 0), in: step.in}.tunnel(l, at(step.now))
		last := time.Time{}
		if step.last >= 0 {
			last = at(step.last)
		}
		if !tunnel.Since.Equal(at(step.since)) || !tunnel.Last.Equal(last) || tunnel.Rx != step.rx || tunnel.Peer != site.String() {
			t.Errorf("%s: %+v", step.what, tunnel)
		}
	}
}

func TestCannot(t *testing.T) {
	if _, err := New(Options{}); err == nil {
		t.Error("a driver with no VIP")
	}
	d, err := New(Options{VIPs: []netip.Addr{vip}})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Adopt(t.Context(), agent.Inherited{}); !errors.Is(err, terminator.ErrWait) {
		t.Errorf("adopt: %v", err)
	}
	if err := d.Release(t.Context(), agent.Inherited{}); !errors.Is(err, terminator.ErrCannot) {
		t.Errorf("release: %v", err)
	}
	if err := d.Accept(t.Context(), false); !errors.Is(err, terminator.ErrCannot) {
		t.Errorf("accept: %v", err)
	}
}
