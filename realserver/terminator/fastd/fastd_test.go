package fastd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"tunneldirector/director/agent"
	"tunneldirector/realserver/terminator"
	"tunneldirector/realserver/terminator/terminatortest"
)

var (
	_ terminator.Terminator = (*Terminator)(nil)
	_ terminator.Worker     = (*Terminator)(nil)

	vip4, vip6 = netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("2001:db8::10")
)

func says(text string) func(net.Conn) { return func(c net.Conn) { _, _ = c.Write([]byte(text)) } }

// hangs says something and then waits for the other side to give up.
func hangs(text string) func(net.Conn) {
	return func(c net.Conn) {
		says(text)(c)
		_, _ = c.Read(make([]byte, 1))
	}
}

func key(n int) string { return fmt.Sprintf("%064x", n) }

// document is what fastd 22 wrote, shortened.
const document = `{ "uptime": 5203, "interface": "fd0", "statistics": { "rx": { "packets": 1, "bytes": 90 } }, "peers": {
 "0000000000000000000000000000000000000000000000000000000000000001": { "name": "site-001", "address": "203.0.113.11:48148", "connection": { "established": 60000,
  "method": "salsa2012+umac", "statistics": { "rx": { "packets": 3, "bytes": 270 }, "rx_reordered": { "packets": 0, "bytes": 0 }, "tx": { "packets": 2, "bytes": 180 },
  "tx_dropped": { "packets": 0, "bytes": 0 }, "tx_error": { "packets": 0, "bytes": 0 } }, "mac_addresses": [ "3a:6c:a8:94:8d:d5" ] } },
 "0000000000000000000000000000000000000000000000000000000000000002": { "name": "site-002", "address": "any", "connection": null },
 "0000000000000000000000000000000000000000000000000000000000000003": { "name": null, "address": "[2001:db8:a::c]:57476", "interface": { "name": "fd3", "mtu": 1400 },
  "connection": { "established": 1000, "method": "null", "statistics": { "rx": { "packets": 0, "bytes": 0 }, "tx": { "packets": 0, "bytes": 0 } } } } } }`

func TestTunnels(t *testing.T) {
	behind := []netip.Prefix{netip.MustParsePrefix("100.64.1.0/24")}
	w := New(Options{Socket: terminatortest.Listen(t, says(document)).Socket, VIPs: []netip.Addr{vip4, vip6}, Port: 10000, Subnets: map[string][]netip.Prefix{"site-001": behind, key(3): behind}})
	got, err := w.Tunnels(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	since := []time.Time{now.Add(-time.Minute), now.Add(-time.Second)}
	want := []agent.Tunnel{
		{Peer: key(1), Local: vip4, Endpoint: netip.MustParseAddrPort("203.0.113.11:48148"), Subnets: behind, Since: since[0], Last: since[0], Rx: 270, Tx: 180},
		{Peer: key(3), Local: vip6, Endpoint: netip.MustParseAddrPort("[2001:db8:a::c]:57476"), Subnets: behind, Since: since[1], Last: since[1]},
	}
	diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{}), cmpopts.EquateApproxTime(5*time.Second),
		cmpopts.SortSlices(func(a, b agent.Tunnel) bool { return a.Peer < b.Peer }))
	if diff != "" {
		t.Error(diff)
	}
	work, err := w.Work(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	wantWork := terminator.Work{
		Processes: []int{os.Getpid()}, Devices: []string{"fd0", "fd3"}, Threads: 1,
		Sockets: []netip.AddrPort{netip.AddrPortFrom(vip4, 10000), netip.AddrPortFrom(vip6, 10000)},
	}
	if diff := cmp.Diff(wantWork, work, cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
		t.Error(diff)
	}
}

// TestHistory: a tunnel's age is told in milliseconds; its start is to stay what it was.
func TestHistory(t *testing.T) {
	start := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	h := history{lives: map[string]*life{}}
	at := func(now, age time.Duration, rx uint64) life {
		h.begin()
		l := *h.look(start.Add(now), []byte("k"), &peer{Connected: true, Connection: connection{Established: age.Milliseconds(), Rx: rx}})
		h.end()
		return l
	}
	first := at(time.Minute, time.Minute, 5)
	if !first.since.Equal(start) || !first.last.Equal(start) {
		t.Fatalf("first %+v", first)
	}
	if l := at(2*time.Minute, 2*time.Minute-3*time.Millisecond, 5); !l.since.Equal(start) || !l.last.Equal(start) {
		t.Errorf("3 ms off: %+v", l)
	}
	if l := at(3*time.Minute, 3*time.Minute, 6); !l.since.Equal(start) || !l.last.Equal(start.Add(3*time.Minute)) {
		t.Errorf("bytes grew: %+v", l)
	}
	if l := at(4*time.Minute, time.Second, 6); !l.since.Equal(start.Add(4*time.Minute - time.Second)) {
		t.Errorf("another tunnel: %+v", l)
	}
	h.begin()
	if h.look(start, []byte("k"), &peer{}) != nil {
		t.Error("a peer without a connection has a tunnel")
	}
	if h.end(); len(h.lives) > 0 {
		t.Error("a tunnel that is gone is not forgotten")
	}
}

func TestGone(t *testing.T) {
	for name, socket := range map[string]string{"missing": filepath.Join(t.TempDir(), "no"), "refusing": terminatortest.Refusing(t)} {
		t.Run(name, func(t *testing.T) {
			terminatortest.Each(t, New(Options{Socket: socket}), key(1), func(t *testing.T, call func(context.Context) error) {
				if err := call(t.Context()); !errors.Is(err, terminator.ErrGone) || !strings.Contains(err.Error(), socket) {
					t.Errorf("got %v", err)
				}
			})
		})
	}
}

func TestHung(t *testing.T) {
	for name, part := range map[string]string{"at once": "", "half a document": document[:200], "a document without end": document} {
		t.Run(name, func(t *testing.T) {
			terminatortest.Each(t, New(Options{Socket: terminatortest.Listen(t, hangs(part)).Socket}), key(1), func(t *testing.T, call func(context.Context) error) {
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
				defer cancel()
				if err := call(ctx); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, terminator.ErrGone) {
					t.Errorf("got %v", err)
				}
			})
		})
	}
}

func TestCancelled(t *testing.T) {
	asked := make(chan struct{}, 1)
	s := terminatortest.Listen(t, func(c net.Conn) { asked <- struct{}{}; hangs("")(c) })
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-asked; cancel() }()
	if _, err := New(Options{Socket: s.Socket}).Tunnels(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestNonsense(t *testing.T) {
	for name, answer := range map[string]string{
		"nothing": "", "half": document[:200], "another's": `{"state":"fine"}`, "not JSON": "HTTP/1.1 400 Bad Request\r\n\r\n",
		"two documents": document + document, "a list": `[]`, "wrong types": `{"peers":{"k":{"connection":{"established":"long ago"}}}}`,
	} {
		t.Run(name, func(t *testing.T) {
			terminatortest.Each(t, New(Options{Socket: terminatortest.Listen(t, says(answer)).Socket}), key(1), func(t *testing.T, call func(context.Context) error) {
				if err := call(t.Context()); err == nil || errors.Is(err, terminator.ErrGone) || errors.Is(err, terminator.ErrWait) {
					t.Errorf("got %v", err)
				}
			})
		})
	}
}

// TestHuge: a document without bounds is given up at some size.
func TestHuge(t *testing.T) {
	if _, err := parse(blanks{}, nil); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("got %v", err)
	}
}

// blanks are without end.
type blanks struct{}

func (blanks) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = ' '
	}
	return len(b), nil
}

func TestRestarted(t *testing.T) {
	s := terminatortest.Listen(t, says(document))
	w := New(Options{Socket: s.Socket})
	if _, err := w.Tunnels(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Stop()
	if _, err := w.Tunnels(t.Context()); !errors.Is(err, terminator.ErrGone) {
		t.Fatalf("got %v", err)
	}
	s.Start(t)
	if got, err := w.Tunnels(t.Context()); err != nil || len(got) != 2 {
		t.Fatalf("got %v, %v", got, err)
	}
}

func TestCannot(t *testing.T) {
	w := New(Options{Socket: terminatortest.Listen(t, says(document)).Socket, VIPs: []netip.Addr{vip4}, Port: 1})
	at := netip.MustParseAddrPort("203.0.113.1:1024")
	for _, tt := range []struct {
		name string
		do   error
		want error
	}{
		{"accept", w.Accept(t.Context(), false), terminator.ErrCannot},
		{"release", w.Release(t.Context(), agent.Inherited{Peer: key(1)}), terminator.ErrCannot},
		{"release what has no tunnel", w.Release(t.Context(), agent.Inherited{Peer: key(2)}), nil},
		{"release a stranger", w.Release(t.Context(), agent.Inherited{Peer: key(9)}), nil},
		{"adopt what has a tunnel", w.Adopt(t.Context(), agent.Inherited{Peer: key(1), Endpoint: at}), terminator.ErrWait},
		{"adopt what is there since a moment", w.Adopt(t.Context(), agent.Inherited{Peer: key(3), Endpoint: at}), nil},
		{"adopt a stranger", w.Adopt(t.Context(), agent.Inherited{Peer: key(9), Endpoint: at}), terminator.ErrWait},
		{"adopt without a port", w.Adopt(t.Context(), agent.Inherited{Peer: key(2), Endpoint: netip.AddrPortFrom(at.Addr(), 0)}), terminator.ErrWait},
	} {
		if !errors.Is(tt.do, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, tt.do, tt.want)
		}
	}
}

// TestClearKeys: nothing but a key gets into a file that fastd reads, or becomes its name.
func TestClearKeys(t *testing.T) {
	dir := t.TempDir()
	w := New(Options{Clear: dir})
	for _, bad := range []string{"", "../" + key(1), key(1) + `"; on up "x`, strings.ToUpper(strings.Repeat("a", 64))} {
		if err := w.clear(t.Context(), os.Getpid(), agent.Inherited{Peer: bad}); err == nil {
			t.Errorf("peer %q: cleared", bad)
		}
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// TestClearFollowsNoLink: who can write to the directory does not choose what root writes to.
func TestClearFollowsNoLink(t *testing.T) {
	dir, precious := t.TempDir(), filepath.Join(t.TempDir(), "precious")
	if err := errors.Join(os.WriteFile(precious, []byte("precious"), 0o600), os.Symlink(precious, filepath.Join(dir, key(1)))); err != nil {
		t.Fatal(err)
	}
	signal.Ignore(syscall.SIGHUP) // this process stands in for fastd
	defer signal.Reset(syscall.SIGHUP)
	w := New(Options{Clear: dir, Socket: filepath.Join(dir, "none")})
	w.swept = true
	if err := w.clear(t.Context(), os.Getpid(), agent.Inherited{Peer: key(1)}); !errors.Is(err, terminator.ErrGone) {
		t.Errorf("cleared: %v", err)
	}
	if text, err := os.ReadFile(precious); err != nil || string(text) != "precious" {
		t.Errorf("it has %q, %v", text, err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(document)
	f.Add(`{"peers":{"k":{"address":"[fe80::1%eth0]:1","connection":{"established":-9223372036854775808}}}}`)
	f.Fuzz(func(t *testing.T, doc string) {
		h := history{lives: map[string]*life{}}
		s, err := parse(strings.NewReader(doc), func(key []byte, p *peer) {
			h.look(time.Now(), key, p)
			if at, ok := p.endpoint(); ok && !at.IsValid() {
				t.Fatalf("endpoint %s of %q", at, p.Address)
			}
		})
		if err == nil {
			_ = s.devices(map[string]bool{})
		}
	})
}
