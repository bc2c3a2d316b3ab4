package wireguard

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tunneldirector/realserver/terminator"
	"tunneldirector/realserver/terminator/terminatortest"
)

func TestGone(t *testing.T) {
	for name, socket := range map[string]string{"missing": filepath.Join(t.TempDir(), "no.sock"), "refusing": terminatortest.Refusing(t)} {
		t.Run(name, func(t *testing.T) {
			terminatortest.Each(t, New(Options{Device: "wg0", Socket: socket}), key(1).String(), func(t *testing.T, call func(context.Context) error) {
				if err := call(t.Context()); !errors.Is(err, terminator.ErrGone) || !strings.Contains(err.Error(), "wg0") {
					t.Errorf("got %v", err)
				}
			})
		})
	}
}

// TestHung: a socket that never answers, or stops in the middle, costs what the context allows.
func TestHung(t *testing.T) {
	for name, part := range map[string]string{"at once": "", "in the middle": "listen_port=1\npublic_k"} {
		t.Run(name, func(t *testing.T) {
			s := listen(t, func(c net.Conn, _ string) { _, _ = c.Write([]byte(part)) })
			terminatortest.Each(t, open(s), key(1).String(), func(t *testing.T, call func(context.Context) error) {
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
				defer cancel()
				start := time.Now()
				if err := call(ctx); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, terminator.ErrGone) {
					t.Errorf("got %v", err)
				}
				if took := time.Since(start); took > 5*time.Second {
					t.Errorf("took %s", took)
				}
			})
		})
	}
}

func TestCancelled(t *testing.T) {
	asked := make(chan struct{}, 1)
	s := listen(t, func(net.Conn, string) { asked <- struct{}{} })
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-asked; cancel() }()
	if _, err := open(s).Tunnels(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestNonsense(t *testing.T) {
	secret := strings.Repeat("5e", 32)
	for name, answer := range map[string]string{
		"not the protocol": "HTTP/1.1 400 Bad Request\r\n\r\n",
		"empty":            "",
		"half":             device{peers: []peer{{key: key(1)}}}.text(),
		"half a line":      "private_key=" + secret[:20],
		"a key too short":  "public_key=00\nerrno=0\n\n",
		"a key not hex":    "public_key=" + strings.Repeat("zz", 32) + "\nerrno=0\n\n",
		"a secret broken":  "public_key=" + secret + "\npreshared_key=" + secret + "0\nerrno=0\n\n",
		"an address":       "public_key=" + secret + "\nendpoint=here\nerrno=0\n\n",
		"a huge line":      "private_key=" + strings.Repeat("5e", 1<<20),
		"errno":            "errno=none\n\n",
		"denied":           "errno=1\n\n",
	} {
		t.Run(name, func(t *testing.T) {
			s := listen(t, func(c net.Conn, _ string) {
				_, _ = c.Write([]byte(answer))
				_ = c.Close()
			})
			terminatortest.Each(t, open(s), key(1).String(), func(t *testing.T, call func(context.Context) error) {
				err := call(t.Context())
				if err == nil || errors.Is(err, terminator.ErrGone) || errors.Is(err, context.DeadlineExceeded) {
					t.Fatalf("got %v", err)
				}
				if strings.Contains(err.Error(), secret[:8]) {
					t.Errorf("a secret in %q", err)
				}
			})
		})
	}
}

// TestEndless: an answer without end ends with the context, and without much memory.
func TestEndless(t *testing.T) {
	s := listen(t, func(c net.Conn, _ string) {
		chunk := []byte(strings.Repeat("fwmark=1\n", 1000))
		for {
			if _, err := c.Write(chunk); err != nil {
				return
			}
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := open(s).Tunnels(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

// TestRestarted: the process ends and another takes its place; nothing need be opened anew.
func TestRestarted(t *testing.T) {
	d := device{peers: []peer{{key: key(1), endpoint: netip.MustParseAddrPort("203.0.113.1:1"), handshake: time.Now()}}}
	s := listen(t, says(d))
	w := open(s)
	if got, err := w.Tunnels(t.Context()); err != nil || len(got) != 1 {
		t.Fatalf("got %v, %v", got, err)
	}
	s.Stop()
	if _, err := w.Tunnels(t.Context()); !errors.Is(err, terminator.ErrGone) {
		t.Fatalf("got %v", err)
	}
	s.Start(t)
	if got, err := w.Tunnels(t.Context()); err != nil || len(got) != 1 {
		t.Fatalf("got %v, %v", got, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(device{port: 7, peers: []peer{{key: key(1), shared: key(9), endpoint: netip.MustParseAddrPort("[2001:db8::1]:5"), handshake: time.Now(), allowed: prefixes("::/0")}}}.text() + "errno=0\n\n")
	f.Add("errno=-22\n\n")
	f.Add("public_key=\nendpoint=[::ffff:1.2.3.4%x]:1\n")
	f.Fuzz(func(t *testing.T, text string) {
		d, err := parsed(text)
		if err != nil {
			return
		}
		again, err := parsed(d.text() + "errno=0\n\n")
		if err != nil {
			t.Fatalf("%v of what was read from %q", err, text)
		}
		if len(again.peers) != len(d.peers) || again.port != d.port {
			t.Fatalf("read %+v, then %+v", d, again)
		}
	})
}

// parsed is a device with its peers.
func parsed(text string) (device, error) {
	var peers []peer
	d, err := parse(strings.NewReader(text), func(p *peer) { peers = append(peers, p.clone()) })
	d.peers = peers
	return d, err
}
