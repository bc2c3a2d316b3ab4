package api

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tunneldirector/affinity"
)

// A pipeListener is a network of pipes, which a test's own clock rules.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	close  func()
}

func newPipeListener() *pipeListener {
	l := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	l.close = sync.OnceFunc(func() { close(l.closed) })
	return l
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { l.close(); return nil }
func (l *pipeListener) Addr() net.Addr { return pipeAddr{} }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "pipe" }

// dial is nil, an error, if the listener takes nobody within a second.
func (l *pipeListener) dial() (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case l.conns <- far:
		return near, nil
	case <-time.After(time.Second):
		return nil, errors.New("nobody accepts")
	}
}

type oneToken struct{}

func (oneToken) Find(secret string) (name, role string, ok bool) {
	return "op", RoleOperator, secret == "right"
}

// slow sends a request whose body stops after a few bytes, and answers what came until the connection was closed, and when.
func slow(t *testing.T, l *pipeListener, head string) (answer string, took time.Duration) {
	begin := time.Now()
	c, err := l.dial()
	if err != nil {
		t.Error(err)
		return "", 0
	}
	defer c.Close()
	go func() { _, _ = io.WriteString(c, head+"\r\nHost: d1\r\nContent-Length: 100\r\n\r\n{\"id\":") }() // the server may hang up
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Errorf("%.40q: %v", head, err)
		return "", time.Since(begin)
	}
	data, err := io.ReadAll(res.Body)
	if err != nil {
		t.Errorf("%.40q: %v", head, err)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) { // until it is closed
		t.Errorf("%.40q: %v", head, err)
	}
	return fmt.Sprintf("%d %s", res.StatusCode, data), time.Since(begin)
}

const right = "\r\nAuthorization: Bearer right"

func TestSlowBodies(t *testing.T) {
	tests := []struct {
		name, head, want string
		within           time.Duration
	}{
		{"no token", "PUT /v1/tunnels/a HTTP/1.1", "401 ", 2 * time.Second},
		{"no such path", "PUT /v2 HTTP/1.1" + right, "404 ", 2 * time.Second},
		{"no such method", "PUT /v1/status HTTP/1.1" + right, "405 ", 2 * time.Second},
		{"no body wanted", "GET /v1/status HTTP/1.1" + right, "200 ", 2 * time.Second},
		{"wrong parameter", "PUT /v1/tunnels?what=1 HTTP/1.1" + right, "422 ", 2 * time.Second},
		{"an object", "PUT /v1/tunnels/a HTTP/1.1" + right, "408 ", 12 * time.Second},
		{"a batch", "POST /v1/tunnels/batch HTTP/1.1" + right, "200 ", idleTimeout + 5*time.Second},
		{"a set", "PUT /v1/tunnels HTTP/1.1" + right, "422 ", idleTimeout + 5*time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newPipeListener()
				ctx, cancel := context.WithCancel(t.Context())
				served := make(chan error, 1)
				go func() {
					served <- New(furnished(), Options{Tokens: oneToken{}}).Serve(ctx, []net.Listener{l})
				}()
				answer, took := slow(t, l, tt.head)
				if !strings.HasPrefix(answer, tt.want) || took > tt.within {
					t.Errorf("after %s, want %s: %s", took, tt.within, answer)
				}
				cancel()
				if err := <-served; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestManySlowBodies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 900
		l := newPipeListener()
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() { served <- New(furnished(), Options{Tokens: oneToken{}}).Serve(ctx, []net.Listener{l}) }()
		var wg sync.WaitGroup
		for i := range n {
			head, want, within := "PUT /v1/tunnels/a HTTP/1.1", "401 ", 2*time.Second
			if i%2 == 1 {
				head, want, within = head+right, "408 ", 12*time.Second
			}
			wg.Go(func() {
				if answer, took := slow(t, l, head); !strings.HasPrefix(answer, want) || took > within {
					t.Errorf("connection %d: after %s: %.40s", i, took, answer)
				}
			})
		}
		wg.Wait()
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}

// A server that stops does not wait for bodies that do not come.
func TestStopWithSlowBodies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newPipeListener()
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() { served <- New(furnished(), Options{Tokens: oneToken{}}).Serve(ctx, []net.Listener{l}) }()
		var wg sync.WaitGroup
		for _, tt := range []struct{ head, want string }{
			{"PUT /v1/tunnels/a HTTP/1.1", "503 "}, {"PUT /v1/services/a HTTP/1.1", "503 "}, {"POST /v1/tunnels/batch HTTP/1.1", "200 "},
		} {
			wg.Go(func() {
				if answer, _ := slow(t, l, tt.head+right); !strings.HasPrefix(answer, tt.want) || !strings.Contains(answer, "the director is stopping") {
					t.Errorf("%s: %s", tt.head, answer)
				}
			})
		}
		time.Sleep(2 * time.Second) // of the test's clock
		stopped := time.Now()
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
		if took := time.Since(stopped); took > 4*time.Second {
			t.Errorf("stopped after %s", took)
		}
		wg.Wait()
	})
}

// A request that takes long after its body was read is not cut off by the body's deadline.
func TestBodyDeadlineEndsWithTheBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newPipeListener()
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() {
			served <- New(slowDirector{furnished()}, Options{Tokens: oneToken{}}).Serve(ctx, []net.Listener{l})
		}()
		c, err := l.dial()
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // on one connection
			body := `{"service":"ipsec"}`
			go func() {
				_, _ = fmt.Fprintf(c, "PUT /v1/tunnels/a HTTP/1.1%s\r\nHost: d1\r\nContent-Length: %d\r\n\r\n%s", right, len(body), body) // told by the answer
			}()
			res, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, res.Body); err != nil || res.StatusCode >= 300 {
				t.Errorf("%d, %v", res.StatusCode, err)
			}
		}
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
		_ = c.Close()
	})
}

// slowDirector takes a minute for each change, unless the request is cancelled.
type slowDirector struct{ *lab }

func (d slowDirector) Do(ctx context.Context, ops []affinity.Op) ([]affinity.Result, error) {
	select {
	case <-time.After(time.Minute):
	case <-ctx.Done():
	}
	return d.lab.Do(ctx, ops)
}

func TestConnectionLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newPipeListener()
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() {
			served <- New(furnished(), Options{Tokens: oneToken{}, MaxConnections: 3}).Serve(ctx, []net.Listener{l})
		}()
		var open []net.Conn
		for range 3 {
			c, err := l.dial()
			if err != nil {
				t.Fatal(err)
			}
			open = append(open, c)
		}
		if _, err := l.dial(); err == nil {
			t.Error("a fourth connection was accepted")
		}
		_ = open[0].Close() // makes room
		c, err := l.dial()
		if err != nil {
			t.Error(err)
		}
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
		for _, c := range append(open[1:], c) {
			_ = c.Close()
		}
	})
}
