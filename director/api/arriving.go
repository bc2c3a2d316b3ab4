package api

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// An arriving is a request's body that is still on its way. It has a deadline from the start, since net/http reads what
// is left of a body before it sends the answer of a handler that did not. Streams move the deadline with each read.
type arriving struct {
	io.ReadCloser
	rc     *http.ResponseController
	disarm func() bool
	whole  atomic.Bool // the end was read
}

// arrive gives a request with a body its deadline; the body ends at once when the server stops. done is called when the
// handler is: what has not come until then is waited for only a moment.
func arrive(w http.ResponseWriter, r *http.Request) (with *http.Request, done func()) {
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Now().Add(objectTimeout)) // a recorder has none
	a := &arriving{ReadCloser: r.Body, rc: rc, disarm: func() bool { return true }}
	if server := serving(r.Context()); server != nil {
		a.disarm = context.AfterFunc(server, func() { _ = rc.SetReadDeadline(time.Unix(1, 0)) })
	}
	with = r.WithContext(r.Context()) // a copy: net/http goes on with its own body
	with.Body = a
	return with, func() {
		if a.disarm(); !a.whole.Load() {
			_ = rc.SetReadDeadline(time.Now().Add(drainTimeout))
		}
	}
}

// Read clears the deadline at the end, else the request would be cancelled when it passes.
func (a *arriving) Read(p []byte) (int, error) {
	n, err := a.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) && !a.whole.Swap(true) {
		if a.disarm() {
			_ = a.rc.SetReadDeadline(time.Time{})
		}
	}
	return n, err
}

// endWithAnswer ends the connection after an answer that is sent before its request's end was read: whatever comes after
// would be taken for the next request.
func endWithAnswer(w http.ResponseWriter, r *http.Request) {
	if a, ok := r.Body.(*arriving); ok && r.ProtoMajor == 1 && !a.whole.Load() {
		w.Header().Set("Connection", "close")
	}
}

// bodyProblem says why a body did not come to its end.
func bodyProblem(ctx context.Context, err error) *Problem {
	if isClosed(stopping(ctx)) {
		p := problem(http.StatusServiceUnavailable, kindUnavailable, errStopping.Error())
		p.RetryAfter = 1
		return p
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return problem(http.StatusRequestTimeout, "timeout", "the body did not come within "+objectTimeout.String())
	}
	return problem(http.StatusBadRequest, kindMalformed, "the body was cut off: "+err.Error())
}

// refuse answers what reaches no operation. The connection ends with it, so that nobody holds one who may not.
func refuse(w http.ResponseWriter, r *http.Request, p *Problem) {
	if r.ProtoMajor == 1 { // of HTTP/2 it would end the other requests too
		w.Header().Set("Connection", "close")
	}
	writeProblem(w, p)
}

// A limited listener accepts only so many connections at a time. They stay what they are: net/http looks for TLS ones.
type limited struct {
	net.Listener
	log    *slog.Logger
	free   chan struct{}
	closed chan struct{}
	close  func() error
	warned time.Time // of Accept's goroutine
}

func newLimited(l net.Listener, n int, log *slog.Logger) *limited {
	out := &limited{Listener: l, log: log, free: make(chan struct{}, n), closed: make(chan struct{})}
	out.close = sync.OnceValue(func() error {
		close(out.closed)
		return l.Close()
	})
	return out
}

// Accept waits for room, then for a connection.
func (l *limited) Accept() (net.Conn, error) {
	select {
	case l.free <- struct{}{}:
	default:
		if now := time.Now(); now.Sub(l.warned) > time.Minute {
			l.warned = now
			l.log.Warn("no more connections are accepted until one ends", "api", l.Addr(), "open", cap(l.free))
		}
		select {
		case l.free <- struct{}{}:
		case <-l.closed:
			return nil, net.ErrClosed
		}
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.free
	}
	return c, err
}

// Close ends Accept.
func (l *limited) Close() error { return l.close() }

// state makes room when a connection ends.
func (l *limited) state(_ net.Conn, s http.ConnState) {
	if s != http.StateClosed && s != http.StateHijacked {
		return
	}
	select {
	case <-l.free:
	default:
	}
}
