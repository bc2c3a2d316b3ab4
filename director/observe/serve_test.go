package observe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tunneldirector/director/agent"
)

// A porch is a listener without a network. An address may be "": then Accept fails.
type porch struct {
	in   chan net.Conn
	once sync.Once
	shut chan struct{}
}

func newPorch() *porch { return &porch{in: make(chan net.Conn), shut: make(chan struct{})} }

type from string

func (f from) Network() string { return "tcp" }
func (f from) String() string  { return string(f) }

type conn struct {
	net.Conn
	from from
}

func (c conn) RemoteAddr() net.Addr { return c.from }

func (p *porch) Addr() net.Addr { return from("192.0.2.1:7460") }
func (p *porch) Close() error   { p.once.Do(func() { close(p.shut) }); return nil }

func (p *porch) Accept() (net.Conn, error) {
	select {
	case c := <-p.in:
		if c == nil {
			return nil, errors.New("too many open files")
		}
		return c, nil
	case <-p.shut:
		return nil, net.ErrClosed
	}
}

// dial is a connection from an address.
func (p *porch) dial(t *testing.T, address string) net.Conn {
	near, far := net.Pipe()
	p.in <- conn{far, from(address)}
	t.Cleanup(func() { _ = near.Close() })
	synctest.Wait()
	return near
}

// shut tells whether the other end has closed a connection.
func shut(c net.Conn) bool {
	_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
	_, err := c.Read(make([]byte, 1))
	return errors.Is(err, io.EOF)
}

func inPorch(t *testing.T, who func(context.Context, net.Conn) (string, error), f func(*talk, *porch, chan error)) {
	inTalk(t, func(b *talk) {
		p, done := newPorch(), make(chan error, 1)
		o := b.o
		o.Who = who
		ctx, cancel := context.WithCancel(b.t.Context())
		go func() { done <- b.Serve(ctx, p, o) }()
		f(b, p, done)
		cancel()
		synctest.Wait()
		select {
		case <-done:
		default:
			t.Error("it serves after its end")
		}
	})
}

// slow proves nothing until it has to.
func slow(ctx context.Context, _ net.Conn) (string, error) {
	<-ctx.Done()
	return "", ctx.Err()
}

// Strangers that prove nothing, from one address, do not keep others out.
func TestHandshakesThatHang(t *testing.T) {
	inPorch(t, slow, func(b *talk, p *porch, _ chan error) {
		var held []net.Conn
		for range maxHandshake {
			held = append(held, p.dial(b.t, "198.51.100.1:1"))
		}
		if c := p.dial(b.t, "198.51.100.1:2"); !shut(c) {
			t.Error("one address has more than its share")
		}
		other := p.dial(b.t, "198.51.100.2:1")
		if shut(other) {
			t.Error("another address is shut out")
		}
		for i := range handshakes/maxHandshake - 1 {
			for range maxHandshake {
				p.dial(b.t, net.JoinHostPort(string(rune('a'+i)), "1"))
			}
		}
		if c := p.dial(b.t, "198.51.100.99:1"); !shut(c) {
			t.Error("more than there is room for")
		}
		time.Sleep(agent.Patience)
		synctest.Wait()
		for _, c := range held {
			if !shut(c) {
				t.Fatal("a stranger is suffered for longer than Patience")
			}
		}
		if c := p.dial(b.t, "198.51.100.1:3"); shut(c) {
			t.Error("there is room again, and it is shut out")
		}
	})
}

// All addresses of IPv6 that one stranger has are one.
func TestHandshakesOfOneNetwork(t *testing.T) {
	inPorch(t, slow, func(b *talk, p *porch, _ chan error) {
		for i := range maxHandshake {
			p.dial(b.t, fmt.Sprintf("[2001:db8::%x]:1", i+1))
		}
		if c := p.dial(b.t, "[2001:db8::ffff]:1"); !shut(c) {
			t.Error("one /64 has more than its share")
		}
		if c := p.dial(b.t, "[2001:db8:0:1::1]:1"); shut(c) {
			t.Error("another /64 is shut out")
		}
		for range maxHandshake {
			p.dial(b.t, "[::ffff:192.0.2.1]:1")
		}
		if c := p.dial(b.t, "[::ffff:192.0.2.2]:1"); shut(c) {
			t.Error("another address of IPv4 is shut out")
		}
	})
}

// Strangers do not fill the log, and how many there were is told.
func TestHandshakesThatFail(t *testing.T) {
	who := func(context.Context, net.Conn) (string, error) { return "", errors.New("no certificate") }
	inPorch(t, who, func(b *talk, p *porch, _ chan error) {
		for range 1000 {
			p.dial(b.t, "198.51.100.1:1")
		}
		time.Sleep(time.Second)
		p.dial(b.t, "198.51.100.1:1")
		said := strings.Split(strings.TrimSpace(b.log.String()), "\n")
		if len(said) != 11 || !strings.Contains(said[10], "others_not_logged=990") {
			t.Errorf("%d lines, the last: %s", len(said), said[len(said)-1])
		}
	})
}

// A host whose certificate is good, and whose agent is not, does not keep others out.
func TestManyLinesOfOneHost(t *testing.T) {
	who := func(_ context.Context, c net.Conn) (string, error) {
		host, _, err := net.SplitHostPort(c.RemoteAddr().String())
		return host, err
	}
	inPorch(t, who, func(b *talk, p *porch, _ chan error) {
		for range maxHostLines {
			p.dial(b.t, "198.51.100.1:1")
		}
		if c := p.dial(b.t, "198.51.100.1:1"); !shut(c) {
			t.Error("one host has more than its share")
		}
		if c := p.dial(b.t, "198.51.100.2:1"); shut(c) {
			t.Error("another host is shut out")
		}
	})
}

func TestAcceptFails(t *testing.T) {
	inPorch(t, slow, func(b *talk, p *porch, done chan error) {
		from := time.Now()
		for range 5 {
			p.in <- nil
		}
		if d := time.Since(from); d < 300*time.Millisecond || d > time.Second {
			t.Errorf("five failures in %v; wanted it to wait in between", d)
		}
		if c := p.dial(b.t, "198.51.100.1:1"); shut(c) {
			t.Error("after failures nobody is let in")
		}
		from = time.Now()
		_ = p.Close() // by somebody else: that is an error, and streams end
		if err := <-done; !errors.Is(err, net.ErrClosed) || time.Since(from) != 0 {
			t.Errorf("after %v: %v", time.Since(from), err)
		}
		done <- nil
	})
}

// An end that was asked for is nobody's fault: who was still proving who it is is not said to have been refused.
func TestAStopRefusesNobody(t *testing.T) {
	var said *strings.Builder
	inPorch(t, slow, func(b *talk, p *porch, _ chan error) {
		said = &b.log
		p.dial(b.t, "198.51.100.1:1")
	})
	if said.Len() > 0 {
		t.Errorf("its log has:\n%s", said)
	}
}
