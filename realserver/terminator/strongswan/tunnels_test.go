package strongswan

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"tunneldirector/director/agent"
)

var byValue = cmp.Options{cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }), cmpopts.EquateApproxTime(3 * time.Second)}

func prefixes(all ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range all {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func TestTunnels(t *testing.T) {
	vip, now := netip.MustParseAddr("192.0.2.10"), time.Now()
	tunnel := func(peer, endpoint string, subnets ...string) agent.Tunnel {
		return agent.Tunnel{Peer: peer, Local: vip, Endpoint: netip.MustParseAddrPort(endpoint), Subnets: prefixes(subnets...),
			Since: now.Add(-100 * time.Second), Last: now.Add(-3 * time.Second), Rx: 1000, Tx: 2000}
	}
	for _, tt := range []struct {
		name string
		only string
		sas  []fakeSA
		want []agent.Tunnel
	}{
		{name: "none"},
		{
			name: "native and in UDP",
			sas: []fakeSA{
				known("sites", "1", "site-1", "203.0.113.11 500", installed("net", "c0000001", false, "100.64.1.0/28")),
				known("sites", "2", "site-2", "203.0.113.254 10377", installed("net", "c0000002", true, "100.64.2.0/28")),
			},
			want: []agent.Tunnel{tunnel("sites site-1", "203.0.113.11:0", "100.64.1.0/28"), tunnel("sites site-2", "203.0.113.254:10377", "100.64.2.0/28")},
		},
		{
			name: "IKE on 4500, ESP on its own",
			sas:  []fakeSA{known("sites", "1", "site-1", "203.0.113.11 4500", installed("net", "c0000001", false, "100.64.1.0/28"))},
			want: []agent.Tunnel{tunnel("sites site-1", "203.0.113.11:0", "100.64.1.0/28")},
		},
		{
			name: "what is not established",
			sas: []fakeSA{
				known("sites", "1", "%any", "203.0.113.11 500").with("state", "CONNECTING"),
				known("sites", "2", "site-2", "203.0.113.12 500"), // no CHILD_SA
				known("sites", "3", "site-3", "203.0.113.13 500", installed("net", "c0000003", false, "100.64.3.0/28")).with("state", "DELETING"),
				known("sites", "4", "site-4", "%any 500", installed("net", "c0000004", false, "100.64.4.0/28")),
			},
		},
		{
			name: "the newest of several",
			sas: []fakeSA{
				known("sites", "9", "site-1", "203.0.113.11 500", installed("net", "c0000001", false, "100.64.9.0/28")),
				known("sites", "10", "site-1", "203.0.113.11 500", installed("net", "c0000002", false, "100.64.10.0/28")),
				known("sites", "11", "site-1", "203.0.113.11 500"),
				known("sites", "3", "site-1", "203.0.113.11 500", installed("net", "c0000003", false, "100.64.3.0/28")),
			},
			want: []agent.Tunnel{tunnel("sites site-1", "203.0.113.11:0", "100.64.10.0/28")},
		},
		{
			name: "an adopted one is called as the others", only: "sites*",
			sas: []fakeSA{
				known(copyName("t1", "sites"), "1", "site-1", "203.0.113.11 500", installed("net", "c0000001", false, "100.64.1.0/28")),
				known(copyName("t1", "other"), "2", "site-2", "203.0.113.12 500", installed("net", "c0000002", false, "100.64.2.0/28")),
			},
			want: []agent.Tunnel{tunnel("sites site-1", "203.0.113.11:0", "100.64.1.0/28")},
		},
		{
			name: "selectors of all kinds",
			sas: []fakeSA{known("sites", "1", "C=CH, CN=site 1", "2001:db8::11 500",
				installed("net", "c0000001", false, "100.64.1.0/28[tcp/80]", "100.64.0.0/16", "100.64.1.0/24", "dynamic", "10.0.0.1..10.0.0.4", "2001:db8:1::/64"))},
			want: []agent.Tunnel{tunnel("sites C=CH, CN=site 1", "[2001:db8::11]:0", "10.0.0.1/32", "10.0.0.2/31", "10.0.0.4/32", "100.64.0.0/16", "2001:db8:1::/64")},
		},
		{
			name: "who it is by EAP",
			sas:  []fakeSA{known("sites", "1", "10.0.0.1", "203.0.113.11 500", installed("net", "c0000001", false, "100.64.1.0/28")).with("remote-eap-id", "carol")},
			want: []agent.Tunnel{tunnel("sites carol", "203.0.113.11:0", "100.64.1.0/28")},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := startFake(t)
			f.sas = tt.sas
			got, err := f.driver(Options{Connections: tt.only}).Tunnels(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got, byValue, cmpopts.EquateEmpty(), cmpopts.SortSlices(func(a, b agent.Tunnel) bool { return a.Peer < b.Peer })); diff != "" {
				t.Errorf("tunnels (-want +got):\n%s", diff)
			}
		})
	}
}

// TestSince: new keys and charon's whole seconds leave the time of establishment as it was, a new tunnel does not.
func TestSince(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		lives := map[string]life{}
		see := func(id uint64, established int64, spis ...uint64) time.Duration {
			lives["p"] = sa{id: id, established: established}.life(lives["p"], spis, time.Now())
			return lives["p"].since.Sub(start)
		}
		for _, step := range []struct {
			what        string
			after       time.Duration
			id          uint64
			established int64
			spis        []uint64
			want        time.Duration
		}{
			{what: "at first", id: 1, established: 10, spis: []uint64{1}, want: -10 * time.Second},
			{what: "a part of a second later", after: 900 * time.Millisecond, id: 1, established: 11, spis: []uint64{1}, want: -10 * time.Second},
			{what: "while the IKE SA gets new keys", after: time.Hour, id: 1, established: -1, spis: []uint64{1}, want: -10 * time.Second},
			{what: "then", after: time.Second, id: 2, established: 1, spis: []uint64{1}, want: -10 * time.Second},
			{what: "new keys of the CHILD_SA", after: time.Hour, id: 2, established: 3601, spis: []uint64{2}, want: -10 * time.Second},
			{what: "dialled anew", after: time.Hour, id: 3, established: 60, spis: []uint64{3}, want: 3*time.Hour + 1900*time.Millisecond - time.Minute},
			{what: "charon restarted, its numbers too", after: time.Hour, id: 3, established: 5, spis: []uint64{4}, want: 4*time.Hour + 1900*time.Millisecond - 5*time.Second},
		} {
			time.Sleep(step.after)
			if got := see(step.id, step.established, step.spis...); (got - step.want).Abs() > time.Second {
				t.Errorf("%s: since %s, want %s", step.what, got, step.want)
			}
		}
	})
}

// TestSinceOverLooks: a tunnel is as old as it was when its IKE SA is another one, also after a look that broke off, whether or not that
// had come to it; and what is gone is forgotten.
func TestSinceOverLooks(t *testing.T) {
	start := time.Now()
	one := func(id uint64, established int64) sa {
		return sa{connection: "sites", identity: "site-1", id: id, up: true, remote: netip.MustParseAddrPort("203.0.113.11:4500"), established: established,
			children: []child{{spi: 1, up: true, encap: true, idle: -1}}}
	}
	other := one(7, 10)
	other.remote, other.children = netip.MustParseAddrPort("203.0.113.12:4500"), []child{{spi: 7, up: true, encap: true, idle: -1}}
	for name, broken := range map[string][]sa{"before it": nil, "after it": {one(2, 5)}, "after another of its name": {other}} {
		t.Run(name, func(t *testing.T) {
			s := seen{sites: map[string]*site{}, look: look{begun: map[string][]uint64{}, suites: map[string]suite{}}}
			look := func(after time.Duration, list ...sa) {
				s.round++
				s.at, s.tunnels = start.Add(after), nil
				for _, x := range list {
					s.add(x)
				}
			}
			look(0, one(1, 100))
			s.end()
			look(time.Minute, broken...)
			if x := s.sites["sites site-1"]; len(x.known.sas) != 1 || x.known.sas[0].id != 1 {
				t.Errorf("while a look is made, or after it broke off, it is known as %+v", x.known)
			}
			look(2*time.Minute, one(3, 1))
			s.end()
			if want := start.Add(-100 * time.Second); len(s.tunnels) != 1 || !s.tunnels[0].Since.Equal(want) {
				t.Errorf("got %+v, want one since %v", s.tunnels, want)
			}
			if x := s.sites["sites site-1"]; x == nil || len(x.known.sas) != 1 || len(x.known.lives) != 1 || x.next.lives != nil {
				t.Errorf("it is known as %+v", x)
			}
			if look(3 * time.Minute); len(s.sites) != 1 {
				t.Error("it is forgotten before the look is over")
			}
			if s.end(); len(s.sites) != 0 {
				t.Errorf("%d names are not forgotten", len(s.sites))
			}
		})
	}
}

func TestPeerNames(t *testing.T) {
	if got := original(copyName("any tunnel", "a b-c")); got != "a b-c" {
		t.Errorf("the original of a copy is %q", got)
	}
	for _, name := range []string{"td-adopt-", "td-adopt-0123456789abcdef-", "td-adopt-mine", "sites"} {
		if got := original(name); got != name {
			t.Errorf("the original of %q is %q", name, got)
		}
	}
	long := make([]byte, 500)
	a, b := peerName("sites", string(long)+"a"), peerName("sites", string(long)+"b")
	if len(a) > agent.MaxText || a == b {
		t.Errorf("long names: %d bytes, alike %t", len(a), a == b)
	}
}
