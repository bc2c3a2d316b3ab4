package wireguard

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"tunneldirector/realserver/space"
	"tunneldirector/realserver/terminator"
)

// TestChanges: whatever fits into no message of wgctrl's is added by further ones, and the first leaves a peer that works.
func TestChanges(t *testing.T) {
	for _, tt := range []struct {
		allowed   int
		keepalive time.Duration
		begin     bool
		messages  int
		entries   int // of the first
	}{
		{0, 0, false, 1, 2}, {1, 0, true, 1, 3}, {1, 5 * time.Second, true, 1, 2}, {atOnce, 0, true, 1, 3}, {atOnce + 1, 0, true, 2, 3}, {3 * atOnce, 0, false, 3, 2},
	} {
		p := peer{key: key(1), shared: key(9), endpoint: netip.MustParseAddrPort("[2001:db8::1]:5"), keepalive: tt.keepalive}
		for i := range tt.allowed {
			p.allowed = append(p.allowed, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 32))
		}
		got := changes(p, tt.begin)
		if len(got) != tt.messages || len(got[0]) != tt.entries {
			t.Fatalf("%+v: %d messages, %d entries in the first", tt, len(got), len(got[0]))
		}
		again := got[0][1]
		if !got[0][0].Remove || again.Remove || *again.PresharedKey != p.shared || again.Endpoint.String() != "[2001:db8::1]:5" || !again.ReplaceAllowedIPs {
			t.Errorf("%+v: first %+v", tt, got[0])
		}
		if last := got[0][len(got[0])-1]; *last.PersistentKeepaliveInterval != tt.keepalive {
			t.Errorf("%+v: keepalive ends as %s", tt, *last.PersistentKeepaliveInterval)
		}
		all := len(again.AllowedIPs)
		for _, m := range got[1:] {
			if len(m) != 1 || !m[0].UpdateOnly || m[0].ReplaceAllowedIPs || len(m[0].AllowedIPs) > atOnce {
				t.Errorf("%+v: further %+v", tt, m)
			}
			all += len(m[0].AllowedIPs)
		}
		if all != tt.allowed || len(again.AllowedIPs) > atOnce {
			t.Errorf("%+v: %d addresses, %d in the first", tt, all, len(again.AllowedIPs))
		}
	}
}

func TestFromKernel(t *testing.T) {
	at := time.Unix(1_900_000_000, 5)
	_, four, _ := net.ParseCIDR("100.64.1.0/24")
	_, six, _ := net.ParseCIDR("2001:db8:1::/64")
	got := fromKernel(&wgtypes.Peer{
		PublicKey: key(1), PresharedKey: key(9), Endpoint: &net.UDPAddr{IP: net.ParseIP("203.0.113.1"), Port: 7}, PersistentKeepaliveInterval: 5 * time.Second,
		LastHandshakeTime: at, ReceiveBytes: 3, TransmitBytes: 4, AllowedIPs: []net.IPNet{*four, *six},
	})
	want := peer{
		key: key(1), shared: key(9), endpoint: netip.MustParseAddrPort("203.0.113.1:7"), keepalive: 5 * time.Second, handshake: at, rx: 3, tx: 4,
		allowed: prefixes("100.64.1.0/24", "2001:db8:1::/64"),
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(peer{}), cmpopts.EquateComparable(netip.AddrPort{}, netip.Prefix{})); diff != "" {
		t.Error(diff)
	}
	if none := fromKernel(&wgtypes.Peer{LastHandshakeTime: time.Unix(0, 0)}); !none.handshake.IsZero() || none.endpoint.IsValid() {
		t.Errorf("an idle peer: %+v", none)
	}
}

// TestKernelGone: no device, and no namespace, is no process.
func TestKernelGone(t *testing.T) {
	for _, o := range []Options{{Device: "td-none0"}, {Device: "lo"}, {Device: "wg0", Space: space.Space("td-nonexistent")}} {
		if _, err := New(o).Tunnels(t.Context()); !errors.Is(err, terminator.ErrGone) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}
