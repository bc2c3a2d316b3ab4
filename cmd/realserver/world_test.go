package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tunneldirector/cmd/console"
	"tunneldirector/director/agent"
	"tunneldirector/realserver"
)

// memory is a terminator that has what it is told.
type memory struct {
	mu  sync.Mutex
	up  []agent.Tunnel
	err error
}

func (m *memory) Tunnels(context.Context) ([]agent.Tunnel, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.up, m.err
}
func (m *memory) Adopt(context.Context, agent.Inherited) error   { return nil }
func (m *memory) Release(context.Context, agent.Inherited) error { return nil }
func (m *memory) Accept(context.Context, bool) error             { return nil }

// world is a real agent over a terminator in memory, whose director is away, on a unix socket.
type world struct {
	t      *testing.T
	socket string
	soft   *memory
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, socket: filepath.Join(t.TempDir(), "agent.sock"), soft: &memory{}}
	w.soft.up = []agent.Tunnel{{Peer: "site-1", Local: addr("192.0.2.10"), Endpoint: netip.MustParseAddrPort("203.0.113.5:4500"),
		Subnets: []netip.Prefix{netip.MustParsePrefix("100.64.1.0/24")}, Since: time.Now().Add(-time.Hour), Rx: 2048}}
	a := realserver.New(realserver.Options{Host: "node-a", Version: "1.2.3", Log: slog.New(slog.DiscardHandler), Directors: []string{"192.0.2.1:7460"}, Look: 10 * time.Millisecond,
		Dial: func(context.Context, string) (net.Conn, error) { return nil, errors.New("connection refused") },
		Instances: []realserver.Instance{{Terminator: w.soft,
			Server: agent.Server{Name: "rs1", Terminator: "memory", Method: "dr", VIPs: []netip.Addr{addr("192.0.2.10")}}}}})
	l, err := listen(w.socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, run := range []func() error{func() error { return a.Run(ctx) }, func() error { return serve(ctx, l, a.Handler()) }} {
		wg.Go(func() {
			if err := run(); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(func() { cancel(); wg.Wait() })
	return w
}

// until runs a command again and again until it exits so and prints this.
func until(t *testing.T, code int, word string, args ...string) ran {
	t.Helper()
	for limit := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		r := runIn(t.Context(), t, args...)
		if r.code == code && strings.Contains(r.out, word) || time.Now().After(limit) {
			return r.exits(code, word)
		}
	}
}

// ran is a command that ended.
type ran struct {
	t           *testing.T
	args        []string
	code        int
	out, errOut string
}

// runIn runs a command line as main does.
func runIn(ctx context.Context, t *testing.T, args ...string) ran {
	var out, errOut bytes.Buffer
	env := &console.Env{Stdout: &out, Stderr: &errOut, Getenv: func(string) string { return "" }, Now: time.Now}
	code := report(env, realServer(ctx, env, args))
	return ran{t, args, code, out.String(), errOut.String()}
}

// exits expects an exit code and words on standard output.
func (r ran) exits(code int, words ...string) ran {
	r.t.Helper()
	if r.code != code {
		r.t.Fatalf("%q exits with %d, want %d\nstdout: %s\nstderr: %s", r.args, r.code, code, r.out, r.errOut)
	}
	for _, w := range words {
		if !strings.Contains(r.out, w) {
			r.t.Errorf("%q does not print %q but:\n%s", r.args, w, r.out)
		}
	}
	return r
}

// tells expects words on standard error.
func (r ran) tells(words ...string) ran {
	r.t.Helper()
	for _, w := range words {
		if !strings.Contains(r.errOut, w) {
			r.t.Errorf("%q does not tell %q but:\n%s", r.args, w, r.errOut)
		}
	}
	return r
}
