package shadow

import (
	"context"
	"errors"
	"iter"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
	"tunneldirector/director/plane/ipvs/conntab"
)

func at(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }
func addr(s string) netip.Addr   { return netip.MustParseAddr(s) }
func addrs(s ...string) []netip.Addr {
	var out []netip.Addr
	for _, a := range s {
		out = append(out, addr(a))
	}
	return out
}

const vip = "198.51.100.1"

// config: service 1 is IPsec, service 2 WireGuard for whoever comes, both at one VIP.
func config() plane.Config {
	ring := make([]plane.Target, plane.RingSize)
	for i := range ring {
		ring[i] = plane.Target{Primary: 1}
	}
	return plane.Config{
		Services: []plane.Service{
			{Num: 1, Name: "ipsec", VIPs: addrs(vip, "2001:db8:1::1"), Match: []affinity.Match{{Proto: 50}, {Proto: 17, Lo: 500, Hi: 500}, {Proto: 17, Lo: 4500, Hi: 4500}}},
			{Num: 2, Name: "wireguard", VIPs: addrs(vip), Match: []affinity.Match{{Proto: 17, Lo: 51820, Hi: 51821}}, Ring: ring},
			{Num: 3, Name: "esp", VIPs: addrs("198.51.100.2"), Match: []affinity.Match{{Proto: 50}}},
		},
		RealServers: []plane.RealServer{
			{Index: 1, Name: "rs1", Addrs: addrs("10.0.0.2", "fd00::2"), Alive: true},
			{Index: 2, Name: "rs2", Addrs: addrs("10.0.0.3", "fd00::3"), Alive: true},
		},
	}
}

func pin(vip, endpoint string, primary, backup affinity.Index) plane.Entry {
	e := at(endpoint)
	return plane.Entry{Endpoint: plane.EndpointKey{VIP: addr(vip), Addr: e.Addr(), Port: e.Port()}, Target: plane.Target{Primary: primary, Backup: backup}}
}

// full is a kernel in which nothing is missing.
func full() []service {
	both := addrs("10.0.0.2", "10.0.0.3")
	return []service{
		{protocol: 17, addr: at(vip + ":500"), servers: both},
		{protocol: 17, addr: at(vip + ":4500"), servers: both},
		{protocol: 17, addr: at(vip + ":0"), servers: both},
		{protocol: 17, addr: at("[2001:db8:1::1]:0"), servers: addrs("fd00::2")},
		{protocol: 17, addr: at("198.51.100.2:500"), servers: both},
	}
}

func conn(client, service, dest string) conntab.Entry {
	return conntab.Entry{Protocol: 17, Client: at(client), VIP: at(service), Dest: at(dest), State: "UDP"}
}

func template(client, service, dest string) conntab.Entry {
	e := conn(client+":0", service, dest)
	e.State = "ASSURED"
	return e
}

// opened is a plane that was told the configuration and pins.
func opened(t *testing.T, services []service, conns ...conntab.Entry) *Plane {
	t.Helper()
	p := newPlane([]plane.Interface{{Name: "eth0", Roles: plane.RoleTunnel}}, kernel{
		services: func() ([]service, error) { return services, nil },
		conns: func() iter.Seq2[conntab.Entry, error] {
			return func(yield func(conntab.Entry, error) bool) {
				for _, c := range conns {
					if !yield(c, nil) {
						return
					}
				}
			}
		},
	})
	pins := []plane.Entry{
		pin(vip, "203.0.113.1:0", 1, 2), pin(vip, "203.0.113.2:0", 2, 1), pin(vip, "203.0.113.2:41641", 1, 2),
		pin("2001:db8:1::1", "[2001:db8::1]:0", 1, 2), pin("198.51.100.2", "203.0.113.1:0", 2, 1),
	}
	unplaced := pin(vip, "203.0.113.4:0", 0, 0)
	unplaced.Target.Drop = plane.DropUnplaced
	if err := p.Replace(t.Context(), config(), slices.Values(append(pins, unplaced))); err != nil {
		t.Fatal(err)
	}
	return p
}

func audited(t *testing.T, p *Plane) (out []plane.Difference, sum plane.Audited) {
	t.Helper()
	sum, err := p.Audit(t.Context(), func(d plane.Difference) bool {
		out = append(out, d)
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return out, sum
}

// rest is what full and the pins make of an audit, besides connections: seven services, and their real servers.
const rest = 7 + 2 + 2 + 2 + 2 + 1 + 1 + 1

func TestConns(t *testing.T) {
	for _, tt := range []struct {
		name string
		conn conntab.Entry
		want []plane.Difference
		sum  plane.Audited // besides rest
	}{
		{"as pinned", conn("203.0.113.1:500", vip+":500", "10.0.0.2:500"), nil, plane.Audited{Equal: 1}},
		{"as pinned by port", conn("203.0.113.2:41641", vip+":4500", "10.0.0.2:4500"), nil, plane.Audited{Equal: 1}},
		{"as pinned, IPv6", conn("[2001:db8::1]:500", "[2001:db8:1::1]:500", "[fd00::2]:500"), nil, plane.Audited{Equal: 1}},
		{"as pinned, for any port", conn("203.0.113.1:0", vip+":500", "10.0.0.2:7"), nil, plane.Audited{Equal: 1}},
		{"as pinned, of ESP alone", conn("203.0.113.1:0", "198.51.100.2:500", "10.0.0.3:7"), nil, plane.Audited{Equal: 1}},
		{"template as pinned", template("203.0.113.1", vip+":500", "10.0.0.2:500"), nil, plane.Audited{Equal: 1}},
		{"template of all ports", template("203.0.113.1", vip+":0", "10.0.0.3:0"),
			[]plane.Difference{{Key: "persistent client 203.0.113.1 at UDP 198.51.100.1:0", Want: "rs1 (10.0.0.2)", Have: "rs2 (10.0.0.3)"}}, plane.Audited{Other: 1}},
		{"elsewhere", conn("203.0.113.2:500", vip+":500", "10.0.0.2:500"),
			[]plane.Difference{{Key: "endpoint 203.0.113.2:500 at UDP 198.51.100.1:500", Want: "rs2 (10.0.0.3)", Have: "rs1 (10.0.0.2)"}}, plane.Audited{Other: 1}},
		{"to a stranger", conn("203.0.113.2:0", vip+":500", "10.0.0.9:500"),
			[]plane.Difference{{Key: "endpoint 203.0.113.2, any port, at UDP 198.51.100.1:500", Want: "rs2 (10.0.0.3)", Have: "10.0.0.9"}}, plane.Audited{Other: 1}},
		{"not placed", conn("203.0.113.4:500", vip+":500", "10.0.0.2:500"),
			[]plane.Difference{{Key: "endpoint 203.0.113.4:500 at UDP 198.51.100.1:500", Want: "a drop: unplaced", Have: "rs1 (10.0.0.2)"}}, plane.Audited{Other: 1}},
		{"no pin", conn("203.0.113.9:500", vip+":500", "10.0.0.2:500"),
			[]plane.Difference{{Key: "endpoint 203.0.113.9:500 at UDP 198.51.100.1:500", Want: "nothing", Have: "rs1 (10.0.0.2)"}}, plane.Audited{Surplus: 1}},
		{"no pin, though the ring would agree", conn("203.0.113.9:500", vip+":51820", "10.0.0.2:51820"),
			[]plane.Difference{{Key: "endpoint 203.0.113.9:500 at UDP 198.51.100.1:51820", Want: "nothing", Have: "rs1 (10.0.0.2)"}}, plane.Audited{Surplus: 1}},
		{"another port", conn("203.0.113.9:500", vip+":53", "10.0.0.2:53"), nil, plane.Audited{}},
		{"another VIP", conn("203.0.113.9:500", "198.51.100.9:500", "10.0.0.2:500"), nil, plane.Audited{}},
		{"TCP", conntab.Entry{Protocol: 6, Client: at("203.0.113.9:500"), VIP: at(vip + ":500"), Dest: at("10.0.0.2:500"), State: "ESTABLISHED"}, nil, plane.Audited{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.sum.Equal += rest
			// Twice, as a reading may show it.
			got, sum := audited(t, opened(t, full(), tt.conn, tt.conn))
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(tt.sum, sum); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestServices(t *testing.T) {
	lost := full()[1:]
	short := full()
	short[0].servers = addrs("10.0.0.3")
	marked := []service{{mark: 7, servers: addrs("10.0.0.2")}}
	for _, tt := range []struct {
		name     string
		services []service
		want     []plane.Difference
		sum      plane.Audited
	}{
		{"all there", full(), nil, plane.Audited{Equal: rest}},
		{"one stands in by its port 0", lost, nil, plane.Audited{Equal: rest}},
		{"a real server is missing", short, []plane.Difference{{Key: "real server rs1 (10.0.0.2) of UDP 198.51.100.1:500", Want: "rs1 (10.0.0.2)", Have: "nothing"}}, plane.Audited{Equal: rest - 1, Missing: 1}},
		{"a service is missing", full()[:4], []plane.Difference{{Key: "virtual service esp at UDP 198.51.100.2:500", Want: "a service of IPVS", Have: "nothing"}}, plane.Audited{Equal: rest - 2, Missing: 1}},
		{"by a firewall mark", marked, nil, plane.Audited{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, sum := audited(t, opened(t, tt.services))
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(tt.sum, sum); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestTold: what comes later counts: other pins, deaths, another configuration; and what is refused does not.
func TestTold(t *testing.T) {
	ctx := t.Context()
	p := opened(t, full(), conn("203.0.113.1:500", vip+":500", "10.0.0.2:500"))
	expect := func(what string, want plane.Audited) {
		t.Helper()
		if _, sum := audited(t, p); sum != want {
			t.Errorf("%s: %+v, want %+v", what, sum, want)
		}
	}
	expect("as opened", plane.Audited{Equal: rest + 1})
	must(t, p.Apply(ctx, plane.Update{Entries: []plane.Entry{pin(vip, "203.0.113.1:0", 2, 1)}}))
	expect("pinned elsewhere", plane.Audited{Equal: rest, Other: 1})
	must(t, p.SetAlive(2, false))
	expect("where it was pinned is dead", plane.Audited{Equal: rest + 1})
	must(t, p.SetAlive(2, true))
	bad := plane.Entry{Endpoint: plane.EndpointKey{VIP: addr(vip), Addr: addr("2001:db8::1")}}
	if err := p.Apply(ctx, plane.Update{Config: &plane.Config{}, Entries: []plane.Entry{pin(vip, "203.0.113.1:0", 1, 2), bad}}); err == nil {
		t.Error("a wrong entry was taken")
	}
	if err := p.Replace(ctx, plane.Config{}, slices.Values([]plane.Entry{bad})); err == nil {
		t.Error("a wrong entry was taken")
	}
	expect("after wrong entries", plane.Audited{Equal: rest, Other: 1})
	gone := pin(vip, "203.0.113.1:0", 0, 0)
	gone.Delete = true
	must(t, p.Apply(ctx, plane.Update{Entries: []plane.Entry{gone}}))
	expect("without a pin", plane.Audited{Equal: rest, Surplus: 1})
	must(t, p.Replace(ctx, config(), slices.Values([]plane.Entry(nil))))
	expect("without pins", plane.Audited{Equal: 7, Surplus: 1})
	must(t, p.Apply(ctx, plane.Update{Config: &plane.Config{}}))
	expect("without services", plane.Audited{})
	d, err := p.Lookup(plane.Packet{Src: addr("203.0.113.1"), Dst: addr(vip), Proto: 50})
	if err != nil || d.Reason != plane.PassLocal {
		t.Errorf("decision %+v, %v", d, err)
	}
	must(t, p.Close())
}

// TestStops: an audit ends when nobody listens any more, with its context, and at an error.
func TestStops(t *testing.T) {
	p := opened(t, nil, conn("203.0.113.9:500", vip+":500", "10.0.0.2:500"))
	told := 0
	sum, err := p.Audit(t.Context(), func(plane.Difference) bool { told++; return false })
	if err != nil || told != 1 || sum != (plane.Audited{Missing: 1}) {
		t.Errorf("told %d, %+v, %v", told, sum, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Audit(ctx, func(plane.Difference) bool { return true }); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	broken := errors.New("broken")
	p.kernel.services = func() ([]service, error) { return nil, broken }
	if _, err := p.Audit(t.Context(), func(plane.Difference) bool { return true }); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	p = opened(t, nil)
	p.kernel.conns = func() iter.Seq2[conntab.Entry, error] {
		return func(yield func(conntab.Entry, error) bool) { yield(conntab.Entry{}, broken) }
	}
	if _, err := p.Audit(t.Context(), func(plane.Difference) bool { return true }); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

func TestCheck(t *testing.T) {
	p := opened(t, nil)
	if got := p.Check(config()); len(got) > 0 {
		t.Errorf("got %v", got)
	}
	c := config()
	c.Services[0].Match = []affinity.Match{{Proto: 47}}
	if got := p.Check(c); len(got) != 1 || got[0].Name != "ipsec" {
		t.Errorf("got %v", got)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
