package api

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

type tokens map[string][2]string

func (t tokens) Find(secret string) (name, role string, ok bool) {
	v, ok := t[secret]
	return v[0], v[1], ok
}

var testTokens = tokens{"s-nms": {"nms1", RoleNMS}, "s-nms2": {"nms2", RoleNMS}, "s-op": {"alice", RoleOperator}, "s-read": {"grafana", RoleRead}, "s-odd": {"odd", "king"}}

func TestRoles(t *testing.T) {
	tests := []struct {
		method, path, body string
		status             map[string]int // by secret
	}{
		{"GET", "/v1/tunnels", "", map[string]int{"": 401, "wrong": 401, "s-read": 200, "s-nms": 200, "s-op": 200, "s-odd": 403}},
		{"GET", "/metrics", "", map[string]int{"": 401, "s-read": 200}},
		{"GET", "/healthz", "", map[string]int{"": 200}},
		{"GET", "/readyz", "", map[string]int{"": 200}},
		{"GET", "/openapi.json", "", map[string]int{"": 200}},
		{"PUT", "/v1/tunnels/a", `{"service":"ipsec"}`, map[string]int{"": 401, "s-read": 403, "s-nms2": 403, "s-nms": 200, "s-op": 200}},
		{"POST", "/v1/tunnels/batch", `{"id":"b","service":"ipsec"}`, map[string]int{"": 401, "s-read": 403, "s-nms": 200, "s-op": 200}},
		{"PUT", "/v1/tunnels?owner=nms1&dry_run=true", `{"count":0}`, map[string]int{"": 401, "s-read": 403, "s-nms": 200, "s-nms2": 403, "s-op": 200}},
		{"PUT", "/v1/services/x", `{"vips":["192.0.2.77"],"protocols":["gre"]}`, map[string]int{"s-nms": 403, "s-read": 403, "s-op": 201}},
		{"POST", "/v1/realservers/rs1/drain", "", map[string]int{"s-nms": 403, "s-op": 200}},
		{"POST", "/v1/groups/a/repin", `{"to":"rs2"}`, map[string]int{"s-nms": 403, "s-op": 200}},
		{"PUT", "/v1/freeze", "", map[string]int{"s-nms": 403, "s-read": 403, "s-op": 200}},
	}
	for _, tt := range tests {
		for secret, want := range tt.status {
			t.Run(fmt.Sprintf("%s %s as %q", tt.method, tt.path, secret), func(t *testing.T) {
				srv := serve(t, furnished(), Options{Tokens: testTokens})
				if code, _, data := ask(t, srv, "PUT", "/v1/tunnels/a", `{"service":"ipsec"}`, "Authorization", "Bearer s-nms"); code != 201 {
					t.Fatalf("%d %s", code, data)
				}
				var headers []string
				if secret != "" {
					headers = []string{"Authorization", "bearer " + secret}
				}
				code, h, data := ask(t, srv, tt.method, tt.path, tt.body, headers...)
				if code != want {
					t.Errorf("status %d, want %d: %s", code, want, data)
				}
				if code == 401 && h.Get("WWW-Authenticate") == "" {
					t.Error("401 without WWW-Authenticate")
				}
			})
		}
	}
}

func TestOwnerIsTheToken(t *testing.T) {
	srv := serve(t, furnished(), Options{Tokens: testTokens})
	_, _, data := ask(t, srv, "PUT", "/v1/tunnels/a", `{"service":"ipsec"}`, "Authorization", "Bearer s-nms")
	if got := decodeInto[PutAnswer](t, data); got.Owner != "nms1" {
		t.Errorf("owner %q", got.Owner)
	}
	code, _, data := ask(t, srv, "DELETE", "/v1/tunnels/a", "", "Authorization", "Bearer s-nms2")
	if code != 403 || !strings.Contains(string(data), "belongs to nms1") {
		t.Errorf("%d %s", code, data)
	}
}

func TestBrowsersAreRefused(t *testing.T) {
	tests := []struct {
		name    string
		headers []string
		tokens  Tokens
		status  int
	}{
		{"plain", nil, nil, 200},
		{"localhost", []string{"Host", "localhost:8080"}, nil, 200},
		{"IPv6 loopback", []string{"Host", "[::1]:8080"}, nil, 200},
		{"rebound name", []string{"Host", "evil.example:8080"}, nil, 403},
		{"name like an address", []string{"Host", "127.0.0.1.evil.example"}, nil, 403},
		{"page's script", []string{"Origin", "http://evil.example"}, nil, 403},
		{"opaque origin", []string{"Origin", "null"}, nil, 403},
		{"image", []string{"Sec-Fetch-Site", "cross-site"}, nil, 403},
		{"a token where there are none", []string{"Authorization", "Bearer x"}, nil, 401},
		{"with tokens any name", []string{"Host", "director1.example", "Authorization", "Bearer s-read"}, testTokens, 200},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			srv := serve(t, furnished(), Options{Tokens: tt.tokens})
			if code, _, data := ask(t, srv, "GET", "/v1/status", "", tt.headers...); code != tt.status {
				t.Errorf("status %d, want %d: %s", code, tt.status, data)
			}
		})
	}
}

func TestForeignAddressWithoutTokens(t *testing.T) {
	s := New(furnished(), Options{})
	r, _ := http.NewRequest("GET", "/v1/status", nil)
	r.RemoteAddr, r.Host = "203.0.113.7:1234", "127.0.0.1"
	r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)}))
	if _, p := s.identify(r); p == nil || p.Status != 403 {
		t.Errorf("%v", p)
	}
	l, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(t.Context(), []net.Listener{l}); err == nil || !strings.Contains(err.Error(), "token file") {
		t.Errorf("served on %s without tokens: %v", l.Addr(), err)
	}
}

// serveUnix runs Serve on a unix socket and gives a client and a way to stop it and wait.
func serveUnix(t *testing.T, d Director, o Options) (*Client, func() error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "api.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	o.Name = "lab"
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- New(d, o).Serve(ctx, []net.Listener{l}) }()
	stop := sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() { _ = stop() })
	c, err := NewClient(ClientOptions{Socket: path})
	if err != nil {
		t.Fatal(err)
	}
	return c, stop
}

// Who may open the socket is an operator, also where there are tokens.
func TestUnixSocket(t *testing.T) {
	c, stop := serveUnix(t, furnished(), Options{Tokens: testTokens})
	ans, err := c.PutTunnel(t.Context(), Tunnel{ID: "a", Service: "ipsec"})
	if err != nil || ans.Owner != "local" {
		t.Errorf("owner %q, error %v", ans.Owner, err)
	}
	if err := stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	if _, err := c.Status(t.Context()); err == nil || !strings.Contains(err.Error(), "api.sock") {
		t.Errorf("after the end: %v", err)
	}
}

type logSink struct {
	mu sync.Mutex // guards b
	b  strings.Builder
}

func (l *logSink) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func TestTokensAreNotLogged(t *testing.T) {
	var sink logSink
	srv := serve(t, furnished(), Options{Tokens: testTokens, Log: slog.New(slog.NewTextHandler(&sink, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	for _, secret := range []string{"wrong-secret", "s-read"} {
		ask(t, srv, "PUT", "/v1/freeze", "", "Authorization", "Bearer "+secret)
	}
	sink.mu.Lock()
	defer sink.mu.Unlock()
	if log := sink.b.String(); !strings.Contains(log, "request refused") || strings.Contains(log, "wrong-secret") || strings.Contains(log, "s-read") {
		t.Errorf("log: %s", log)
	}
}
