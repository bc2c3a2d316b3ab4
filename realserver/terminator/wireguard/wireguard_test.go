package wireguard

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"tunneldirector/director/agent"
	"tunneldirector/realserver/terminator"
)

var (
	_ terminator.Terminator = (*Terminator)(nil)
	_ terminator.Worker     = (*Terminator)(nil)

	vip4, vip6 = netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("2001:db8::10")
	compare    = []cmp.Option{cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{}), cmpopts.EquateApproxTime(0)}
)

func open(s *stub) *Terminator {
	return New(Options{Device: "wg0", Socket: s.Socket, VIPs: []netip.Addr{vip4, vip6}, SendsFromVIP: true})
}

func TestTunnels(t *testing.T) {
	now := time.Now()
	up, old := now.Add(-time.Minute).Truncate(time.Nanosecond), now.Add(-181*time.Second)
	s := listen(t, says(device{port: 51820, peers: []peer{
		{key: key(1), shared: key(9), endpoint: netip.MustParseAddrPort("203.0.113.1:1024"), handshake: up, rx: 5, tx: 6, allowed: prefixes("100.64.1.0/24", "2001:db8:1::/64")},
		{key: key(2), endpoint: netip.MustParseAddrPort("203.0.113.2:1024"), handshake: old, rx: 5},
		{key: key(3), endpoint: netip.MustParseAddrPort("[2001:db8:a::3]:7"), handshake: up},
		{key: key(4), endpoint: netip.MustParseAddrPort("203.0.113.4:1024")},
	}}))
	got, err := open(s).Tunnels(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []agent.Tunnel{
		{Peer: key(1).String(), Local: vip4, Endpoint: netip.MustParseAddrPort("203.0.113.1:1024"), Subnets: prefixes("100.64.1.0/24", "2001:db8:1::/64"), Since: up, Last: up, Rx: 5, Tx: 6},
		{Peer: key(3).String(), Local: vip6, Endpoint: netip.MustParseAddrPort("[2001:db8:a::3]:7"), Since: up, Last: up},
	}
	if diff := cmp.Diff(want, got, append(compare, cmpopts.EquateEmpty())...); diff != "" {
		t.Error(diff)
	}
}

// TestTunnelsManySubnets: one peer with more than a report may carry does not spoil the report.
func TestTunnelsManySubnets(t *testing.T) {
	p := peer{key: key(1), endpoint: netip.MustParseAddrPort("203.0.113.1:1"), handshake: time.Now()}
	for i := range agent.MaxSubnets + 1 {
		p.allowed = append(p.allowed, netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64, byte(i >> 8), byte(i)}), 32))
	}
	got, err := open(listen(t, says(device{peers: []peer{p}}))).Tunnels(t.Context())
	if err != nil || len(got) != 1 || len(got[0].Subnets) != agent.MaxSubnets {
		t.Fatalf("got %d tunnels, %v", len(got), err)
	}
}

const sharedText = "0901000000000000000000000000000000000000000000000000000000000000"

func TestAdopt(t *testing.T) {
	keyText := "0101000000000000000000000000000000000000000000000000000000000000"
	for _, tt := range []struct {
		name string
		peer peer
		want string
	}{
		{
			"a shared key, no keepalive: one is set for a moment",
			peer{key: key(1), shared: key(9), endpoint: netip.MustParseAddrPort("203.0.113.9:9"), handshake: time.Now(), allowed: prefixes("100.64.1.0/24", "100.64.2.0/24")},
			"set=1\npublic_key=" + keyText + "\nremove=true\npublic_key=" + keyText + "\npreshared_key=" + sharedText + "\nendpoint=203.0.113.1:1024\n" +
				"persistent_keepalive_interval=25\nreplace_allowed_ips=true\nallowed_ip=100.64.1.0/24\nallowed_ip=100.64.2.0/24\n" +
				"public_key=" + keyText + "\nupdate_only=true\npersistent_keepalive_interval=0\n",
		},
		{
			"a keepalive of its own",
			peer{key: key(1), keepalive: 7 * time.Second, allowed: prefixes("100.64.1.0/24")},
			"set=1\npublic_key=" + keyText + "\nremove=true\npublic_key=" + keyText + "\nendpoint=203.0.113.1:1024\n" +
				"persistent_keepalive_interval=7\nreplace_allowed_ips=true\nallowed_ip=100.64.1.0/24\n",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := listen(t, says(device{peers: []peer{{key: key(2)}, tt.peer}}))
			err := open(s).Adopt(t.Context(), agent.Inherited{ID: "t1", Peer: key(1).String(), Local: vip4, Endpoint: netip.MustParseAddrPort("203.0.113.1:1024")})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, s.set()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAdoptWaits(t *testing.T) {
	d := device{peers: []peer{{key: key(1), allowed: prefixes("100.64.0.0/16")}, {key: key(2), allowed: prefixes("100.64.2.0/24")}}}
	at := netip.MustParseAddrPort("203.0.113.1:1024")
	for _, tt := range []struct {
		name string
		in   agent.Inherited
		says string
	}{
		{"not configured", agent.Inherited{Peer: key(3).String(), Endpoint: at, Subnets: prefixes("100.64.2.0/24")}, key(3).String()},
		{"nothing known", agent.Inherited{Endpoint: at}, "neither"},
		{"subnets of nobody", agent.Inherited{Endpoint: at, Subnets: prefixes("100.65.0.0/24")}, "100.65.0.0/24"},
		{"subnets of two", agent.Inherited{Endpoint: at, Subnets: prefixes("100.64.1.0/24", "100.64.2.0/24")}, key(2).String()},
		{"no port", agent.Inherited{Peer: key(1).String(), Endpoint: netip.AddrPortFrom(at.Addr(), 0)}, "port"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := listen(t, says(d))
			err := open(s).Adopt(t.Context(), tt.in)
			if !errors.Is(err, terminator.ErrWait) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v, want it to say %q", err, tt.says)
			}
			if got := s.set(); got != "" {
				t.Errorf("something was changed: %s", got)
			}
		})
	}
}

// TestFindBySubnets: the longest prefix around a subnet is whose packets go there.
func TestFindBySubnets(t *testing.T) {
	peers := []peer{{key: key(1), allowed: prefixes("100.64.0.0/16", "2001:db8::/32")}, {key: key(2), allowed: prefixes("100.64.2.0/24")}}
	for subnet, want := range map[string]wgtypes.Key{"100.64.2.128/25": key(2), "100.64.3.0/24": key(1), "100.64.2.0/23": key(1), "2001:db8:1::/64": key(1)} {
		for range 2 { // in either order
			slices.Reverse(peers)
			p, err := find(peers, agent.Inherited{Subnets: prefixes(subnet)})
			if err != nil || p.key != want {
				t.Errorf("%s: got %s, %v", subnet, p.key, err)
			}
		}
	}
}

func TestRelease(t *testing.T) {
	p := peer{key: key(1), endpoint: netip.MustParseAddrPort("203.0.113.1:1024"), handshake: time.Now(), keepalive: 5 * time.Second, allowed: prefixes("100.64.1.0/24")}
	s := listen(t, says(device{peers: []peer{p}}))
	if err := open(s).Release(t.Context(), agent.Inherited{ID: "t1", Peer: key(1).String()}); err != nil {
		t.Fatal(err)
	}
	got := s.set()
	if strings.Contains(got, "endpoint") || !strings.Contains(got, "remove=true") || !strings.Contains(got, "keepalive_interval=5\n") || !strings.Contains(got, "allowed_ip=100.64.1.0/24") {
		t.Errorf("asked for %s", got)
	}
	for _, other := range []agent.Inherited{{Peer: key(2).String()}, {}} {
		s := listen(t, says(device{peers: []peer{{key: key(3)}, p}}))
		if err := open(s).Release(t.Context(), other); err != nil || s.set() != "" {
			t.Errorf("release of what is not there: %v, asked for %q", err, s.set())
		}
	}
	idle := listen(t, says(device{peers: []peer{{key: key(1)}}}))
	if err := open(idle).Release(t.Context(), agent.Inherited{Peer: key(1).String()}); err != nil || idle.set() != "" {
		t.Errorf("release of an idle peer: %v, asked for %q", err, idle.set())
	}
}

func TestAccept(t *testing.T) {
	if err := New(Options{}).Accept(context.Background(), true); !errors.Is(err, terminator.ErrCannot) {
		t.Errorf("got %v", err)
	}
}

func TestRefusedChange(t *testing.T) {
	s := listen(t, func(c net.Conn, request string) {
		if strings.HasPrefix(request, "set") {
			_, _ = c.Write([]byte("errno=-22\n\n"))
			return
		}
		says(device{peers: []peer{{key: key(1), shared: key(9)}}})(c, request)
	})
	err := open(s).Adopt(t.Context(), agent.Inherited{Peer: key(1).String(), Endpoint: netip.MustParseAddrPort("203.0.113.1:1024")})
	if err == nil || !strings.Contains(err.Error(), "invalid argument") || errors.Is(err, terminator.ErrWait) || strings.Contains(err.Error(), sharedText[:8]) {
		t.Errorf("got %v", err)
	}
}
