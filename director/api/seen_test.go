package api

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"tunneldirector/affinity"
)

func TestSeen(t *testing.T) {
	l := furnished()
	l.seen = []SeenTunnel{
		{State: SeenUnknown, At: "rs2", Peer: "p", Endpoint: "203.0.113.9"},
		{State: SeenWrong, Tunnel: "b", At: "rs1", Pinned: "rs2"},
		{State: SeenRight, Tunnel: "c", At: "rs1", Pinned: "rs1"},
		{State: SeenNot, Tunnel: "d", Pinned: "rs2"},
		{State: SeenWrong, Tunnel: "a", At: "rs3", Pinned: "rs1"},
	}
	srv := serve(t, l, Options{})
	tests := []struct {
		query string
		want  string // tunnels, or peers
		more  bool
	}{
		{"", "d p a b", false},
		{"?state=right", "c", false},
		{"?state=right&state=not-up", "d c", false},
		{"?real_server=rs1", "a b", false},
		{"?real_server=rs1&state=right", "c", false},
		{"?real_server=rs2", "d p b", false},
		{"?limit=4", "d p a b", false},
		{"?limit=1&state=wrong-place", "b", true},
	}
	for _, tt := range tests {
		code, _, data := ask(t, srv, "GET", "/v1/seen"+tt.query, "")
		var got []string
		list := decodeInto[SeenList](t, data)
		for _, s := range list.Seen {
			got = append(got, s.Tunnel+s.Peer)
		}
		if code != 200 || strings.Join(got, " ") != tt.want || list.More != tt.more {
			t.Errorf("%s: %d %v more %v, wanted %s", tt.query, code, got, list.More, tt.want)
		}
	}
}

func TestOrders(t *testing.T) {
	l := furnished()
	for i, outcome := range []string{"unsent", "queued", "trying", "done", "waiting", "failed"} {
		l.orders = append(l.orders, Order{RealServer: []string{"rs1", "rs2"}[i%2], Kind: "adopt", Tunnel: outcome, Outcome: outcome})
	}
	srv := serve(t, l, Options{})
	tests := []struct {
		query, want string
		more        bool
	}{
		{"", "unsent queued trying done waiting failed", false},
		{"?open=true", "unsent queued trying", false},
		{"?real_server=rs1", "unsent trying waiting", false},
		{"?real_server=rs2&open=true", "queued", false},
		{"?limit=2", "unsent queued", true},
		{"?limit=3&open=true", "unsent queued trying", false},
	}
	for _, tt := range tests {
		code, _, data := ask(t, srv, "GET", "/v1/orders"+tt.query, "")
		var got []string
		list := decodeInto[OrderList](t, data)
		for _, o := range list.Orders {
			got = append(got, o.Tunnel)
		}
		if code != 200 || strings.Join(got, " ") != tt.want || list.More != tt.more {
			t.Errorf("%s: %d %v more %v, wanted %s", tt.query, code, got, list.More, tt.want)
		}
	}
}

// What is asked for wrongly is told; where nobody hears agents, there is nothing.
func TestSeenFaults(t *testing.T) {
	srv := serve(t, furnished(), Options{})
	for query, want := range map[string]string{
		"seen?state=wrong": "one of right, wrong-place, unknown, not-up", "seen?state=": `"field":"state"`, "seen?real_server=rs9": "known are rs1, rs2, rs3",
		"seen?limit=0": "a whole number from 1 to 100000", "seen?realserver=rs1": "known are state, real_server, limit",
		"orders?open=maybe": "true or false", "orders?real_server=rs9": "known are rs1, rs2, rs3", "orders?limit=x": `"field":"limit"`, "orders?state=open": "known are real_server, open, limit",
	} {
		if code, _, data := ask(t, srv, "GET", "/v1/"+query, ""); code != 422 || !strings.Contains(string(data), want) {
			t.Errorf("%s: %d %s", query, code, data)
		}
	}
	deaf := serve(t, plain{furnished()}, Options{})
	for path, want := range map[string]string{"/v1/seen": `{"seen":[],"more":false}`, "/v1/orders": `{"orders":[],"more":false}`} {
		if code, _, data := ask(t, deaf, "GET", path, ""); code != 200 || strings.TrimSpace(string(data)) != want {
			t.Errorf("%s: %d %s", path, code, data)
		}
	}
}

// Where a tunnel is seen is told of it, and is a way to find it.
func TestTunnelsAsAgentsSeeThem(t *testing.T) {
	l := furnished()
	srv := serve(t, l, Options{})
	ask(t, srv, "PUT", "/v1/tunnels/a", `{"service":"ipsec","endpoints":["203.0.113.1"]}`)
	l.mu.Lock()
	l.t.PutTunnel(&affinity.Tunnel{Header: l.header(), ID: "learned:1", Service: "ipsec", Owner: affinity.LearnedOwner,
		Endpoints: []affinity.Endpoint{netip.MustParseAddrPort("203.0.113.2:0")}})
	a, _ := l.t.Tunnel("a")
	roamed := *a
	roamed.Header, roamed.Roamed = l.header(), []affinity.Endpoint{netip.MustParseAddrPort("203.0.113.9:4501"), netip.MustParseAddrPort("203.0.113.8:0")}
	l.t.PutTunnel(&roamed)
	l.says = map[string]Evidence{"a": {Up: true, By: ByAgent, At: "rs2", LastSeen: time.Unix(1700000000, 0)}}
	l.commit()
	l.mu.Unlock()

	_, _, data := ask(t, srv, "GET", "/v1/tunnels/a", "")
	got := decodeInto[TunnelState](t, data)
	if !got.Up || got.Evidence != "agent" || got.At != "rs2" || !slices.Equal(got.Roamed, []string{"203.0.113.9:4501", "203.0.113.8"}) || !slices.Equal(got.Endpoints, []string{"203.0.113.1"}) {
		t.Errorf("%s", data)
	}
	for query, want := range map[string]string{"learned=yes": "learned:1", "learned=no": "a", "owner=(learned)": "learned:1", "endpoint=203.0.113.9": "a", "endpoint=203.0.113.1": "a"} {
		_, _, data := ask(t, srv, "GET", "/v1/tunnels?"+query, "")
		list := decodeInto[TunnelList](t, data)
		if len(list.Tunnels) != 1 || list.Tunnels[0].ID != want {
			t.Errorf("%s: %s", query, data)
		}
	}
	if code, _, data := ask(t, srv, "GET", "/v1/tunnels?learned=maybe", ""); code != 422 || !strings.Contains(string(data), "one of yes, no") {
		t.Errorf("%d %s", code, data)
	}
}
