package strongswan

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/strongswan/govici/vici"
)

// TestWire: what VICI is sent, in its words.
func TestWire(t *testing.T) {
	prefix := func(s string) []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix(s)} }
	c := Connection{
		Name: "vip", Local: netip.MustParseAddr("203.0.113.11"), Remote: netip.MustParseAddr("192.0.2.10"), Peer: "vip",
		Near: prefix("100.64.1.0/28"), Far: prefix("192.0.2.128/25"), Liveness: 2 * time.Second, Calls: true,
	}
	m, err := vici.MarshalMessage(map[string]wire{c.Name: c.wire(Identity{Name: "site", Certificate: []byte("C"), Vouching: []byte("V")})})
	if err != nil {
		t.Fatal(err)
	}
	flat := map[string]any{}
	flatten("", m, flat)
	want := map[string]any{
		"vip.version": "2", "vip.local_addrs": []string{"203.0.113.11"}, "vip.remote_addrs": []string{"192.0.2.10"},
		"vip.proposals": []string{"aes128gcm16-prfsha256-ecp256"}, "vip.mobike": "no", "vip.fragmentation": "no",
		"vip.unique": "replace", "vip.keyingtries": "0", "vip.dpd_delay": "2s",
		"vip.local.auth": "pubkey", "vip.local.id": "site", "vip.local.certs": []string{"C"},
		"vip.remote.auth": "pubkey", "vip.remote.id": "vip", "vip.remote.cacerts": []string{"V"},
		"vip.children.net.local_ts": []string{"100.64.1.0/28"}, "vip.children.net.remote_ts": []string{"192.0.2.128/25"},
		"vip.children.net.esp_proposals": []string{"aes128gcm16"}, "vip.children.net.start_action": "start",
		"vip.children.net.dpd_action": "restart", "vip.children.net.close_action": "start",
	}
	if diff := cmp.Diff(want, flat); diff != "" {
		t.Errorf("load-conn (-want +got):\n%s", diff)
	}
}

func flatten(path string, m *vici.Message, into map[string]any) {
	for _, k := range m.Keys() {
		if inner, ok := m.Get(k).(*vici.Message); ok {
			flatten(path+k+".", inner, into)
		} else {
			into[path+k] = m.Get(k)
		}
	}
}

func TestPatience(t *testing.T) {
	r := Retransmits{Timeout: 500 * time.Millisecond, Base: 1.5, Tries: 3}
	if got, want := r.Patience(), 4062500*time.Microsecond; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
