// Package terminatortest is for tests of drivers that ask their software over a unix socket: what answers there, and what does not.
package terminatortest

import (
	"context"
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"tunneldirector/director/agent"
	"tunneldirector/realserver/terminator"
)

// A Stub serves connections on a socket, as it is told to.
type Stub struct {
	Socket string

	serve func(net.Conn)
	l     net.Listener
	wait  sync.WaitGroup
}

// Listen starts a stub. Its test fails if a connection is not let go of.
func Listen(t testing.TB, serve func(net.Conn)) *Stub {
	t.Helper()
	s := &Stub{Socket: filepath.Join(t.TempDir(), "stub.sock"), serve: serve}
	s.Start(t)
	t.Cleanup(func() {
		s.Stop()
		gone := make(chan struct{})
		go func() { s.wait.Wait(); close(gone) }()
		select {
		case <-gone:
		case <-time.After(5 * time.Second):
			t.Error("a connection was left open")
		}
	})
	return s
}

// Start listens again, after Stop.
func (s *Stub) Start(t testing.TB) {
	t.Helper()
	l, err := net.Listen("unix", s.Socket)
	if err != nil {
		t.Fatal(err)
	}
	s.l = l
	s.wait.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.wait.Go(func() {
				defer c.Close()
				s.serve(c)
			})
		}
	})
}

// Stop listens no more. Connections stay.
func (s *Stub) Stop() { _ = s.l.Close() }

// Refusing is a socket as a process leaves it that was killed.
func Refusing(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "refusing.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// A Driver is one that is also asked for its work.
type Driver interface {
	terminator.Terminator
	terminator.Worker
}

// Each runs f over every question that a driver puts to its software.
func Each(t *testing.T, d Driver, peer string, f func(t *testing.T, call func(context.Context) error)) {
	t.Helper()
	in := agent.Inherited{ID: "t1", Peer: peer, Local: netip.MustParseAddr("192.0.2.10"), Endpoint: netip.MustParseAddrPort("203.0.113.1:1024")}
	for name, call := range map[string]func(context.Context) error{
		"tunnels": func(ctx context.Context) error { _, err := d.Tunnels(ctx); return err },
		"adopt":   func(ctx context.Context) error { return d.Adopt(ctx, in) },
		"release": func(ctx context.Context) error { return d.Release(ctx, in) },
		"work":    func(ctx context.Context) error { _, err := d.Work(ctx); return err },
	} {
		t.Run(name, func(t *testing.T) { f(t, call) })
	}
}

// Bench measures looks at 10,000 tunnels.
func Bench(b *testing.B, d terminator.Terminator) {
	b.ReportAllocs()
	for b.Loop() {
		if got, err := d.Tunnels(b.Context()); err != nil || len(got) != 10_000 {
			b.Fatal(len(got), err)
		}
	}
}
