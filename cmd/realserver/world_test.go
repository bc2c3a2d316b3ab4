package main

import (
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
	"tunneldirector/cmd/console/consoletest"
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
func until(t *testing.T, code int, word string, args ...string) consoletest.Ran {
	t.Helper()
	for limit := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		r := runIn(t.Context(), t, args...)
		if r.Code == code && strings.Contains(r.Out, word) || time.Now().After(limit) {
			return r.Exits(code, word)
		}
	}
}

// runIn runs a command line as main does.
func runIn(ctx context.Context, t *testing.T, args ...string) consoletest.Ran {
	env := &console.Env{Getenv: func(string) string { return "" }, Now: time.Now}
	return consoletest.Run(t, env, args, func() int { return report(env, realServer(ctx, env, args)) })
}
