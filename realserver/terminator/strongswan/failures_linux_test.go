package strongswan

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"tunneldirector/director/agent"
	"tunneldirector/realserver/terminator"
	"tunneldirector/realserver/terminator/terminatortest"
)

// TestFailures: whatever a socket does, all calls end soon, say what it was, and leave nothing behind.
func TestFailures(t *testing.T) {
	talk := func(f func(c net.Conn)) func(t *testing.T) string {
		return func(t *testing.T) string { return terminatortest.Listen(t, f).Socket }
	}
	drain := func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }
	say := func(b ...byte) func(c net.Conn) {
		return func(c net.Conn) {
			_, _ = c.Write(b)
			drain(c)
		}
	}
	for _, tt := range []struct {
		name string
		set  func(t *testing.T) string
		want error
	}{
		{"no socket", func(t *testing.T) string { return filepath.Join(t.TempDir(), "vici") }, terminator.ErrGone},
		{"nobody listens", func(t *testing.T) string { return terminatortest.Refusing(t) }, terminator.ErrGone},
		{"it hangs", talk(drain), os.ErrDeadlineExceeded},
		{"it hangs up", talk(func(c net.Conn) {}), nil},
		{"half a head", talk(say(0, 0)), os.ErrDeadlineExceeded},
		{"half an answer", talk(say(0, 0, 0, 9, eventConfirm)), os.ErrDeadlineExceeded},
		{"nothing in a packet", talk(say(0, 0, 0, 0)), errNonsense},
		{"more than a packet holds", talk(say(0xff, 0xff, 0xff, 0xff, 1)), errNonsense},
		{"another protocol", talk(say([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")...)), errNonsense},
		{"an event without a name", talk(say(0, 0, 0, 2, event, 200)), errNonsense},
		{"what was not asked for", talk(say(0, 0, 0, 2, cmdRequest, 0)), errNonsense},
	} {
		t.Run(tt.name, func(t *testing.T) {
			socket := tt.set(t)
			limit := 20 * time.Second
			if tt.want == os.ErrDeadlineExceeded {
				limit = 50 * time.Millisecond
			}
			d, err := New(Options{Socket: socket, Timeout: limit})
			if err != nil {
				t.Fatal(err)
			}
			before := runtime.NumGoroutine()
			site := agent.Inherited{ID: "t", Peer: "sites site-1", Local: netip.MustParseAddr("192.0.2.10"), Endpoint: netip.MustParseAddrPort("203.0.113.11:0")}
			for act, call := range map[string]func() error{
				"tunnels": func() error { _, err := d.Tunnels(t.Context()); return err },
				"adopt":   func() error { return d.Adopt(t.Context(), site) },
				"release": func() error { return d.Release(t.Context(), site) },
				"watch":   func() error { return d.Watch(t.Context(), make(chan struct{}, 1)) },
			} {
				began := time.Now()
				err := call()
				if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
					t.Errorf("%s: error %v, want %v", act, err, tt.want)
				}
				if took := time.Since(began); took > 10*time.Second {
					t.Errorf("%s took %s", act, took)
				}
			}
			settle(t, before)
		})
	}
}

// settle waits until there are as few goroutines as before. Those of a test's own listener come and go.
func settle(t *testing.T, before int) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for runtime.NumGoroutine() > before {
		if time.Now().After(deadline) {
			b := make([]byte, 1<<16)
			t.Fatalf("%d goroutines, there were %d:\n%s", runtime.NumGoroutine(), before, b[:runtime.Stack(b, true)])
		}
		runtime.Gosched()
	}
}

// TestEndless: a list without an end ends by its bound, one that trickles by its context.
func TestEndless(t *testing.T) {
	for _, trickle := range []bool{false, true} {
		socket := filepath.Join(t.TempDir(), "vici")
		l, err := net.Listen("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			f := &fake{}
			for answered := false; ; {
				if !answered {
					if _, _, _, err := readPacket(c); err != nil {
						return
					}
					f.write(c, eventConfirm, "", nil)
					answered = true
				}
				if _, err := c.Write([]byte{0, 0, 0, 9, event, 7, 'l', 'i', 's', 't', '-', 's', 'a'}); err != nil {
					return
				}
				if trickle {
					<-time.After(5 * time.Millisecond)
				}
			}
		}()
		d, err := New(Options{Socket: socket})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := t.Context(), func() {}
		want := errNonsense
		if trickle {
			ctx, cancel = context.WithTimeout(ctx, 50*time.Millisecond)
			want = context.DeadlineExceeded
		}
		if _, err := d.Tunnels(ctx); !errors.Is(err, want) {
			t.Errorf("trickle %t: error %v, want %v", trickle, err, want)
		}
		cancel()
	}
}

// TestRestart: charon may be another one at each call.
func TestRestart(t *testing.T) {
	f := startFake(t)
	f.sas = []fakeSA{known("sites", "1", "site-1", "203.0.113.11 500", installed("net", "c0000001", false, "100.64.1.0/28"))}
	d := f.driver(Options{})
	for range 3 {
		all, err := d.Tunnels(t.Context())
		if err != nil || len(all) != 1 {
			t.Fatalf("%v, %v", all, err)
		}
		f.stop()
		if _, err := d.Tunnels(t.Context()); !errors.Is(err, terminator.ErrGone) {
			t.Fatalf("charon is gone, and the error %v", err)
		}
		f.listen()
	}
}

// TestCancelled: a call ends with its context.
func TestCancelled(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "vici")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	d, err := New(Options{Socket: socket, Timeout: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	before := runtime.NumGoroutine()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { _, err := d.Tunnels(ctx); done <- err }()
	go func() { done <- d.Watch(ctx, make(chan struct{}, 1)) }()
	cancel()
	for range 2 {
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
	}
	settle(t, before)
}
