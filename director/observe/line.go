package observe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"tunneldirector/director/agent"
)

// Options say how agents are served.
type Options struct {
	Name string // of this director
	Log  *slog.Logger
	// Who is the host whose agent a connection is of, as its certificate proves. It may block for the handshake.
	Who func(ctx context.Context, c net.Conn) (host string, err error)
	// May tells why the agent of a host may not speak for a real server; nil: it may.
	May func(host string, s agent.Server) error
	// Differs are sentences on how a real server's host is prepared for something else than the table says.
	Differs func(s agent.Server) []string
}

// A line is one agent's stream.
type line struct {
	conn     *agent.Conn
	host     string
	instance string
	out      chan agent.Message
	broken   chan struct{} // of one: out was full, the stream ends
	heard    time.Time     // under the Book's lock
	open     bool          // it was told what is open, and gets orders as they come; under the Book's lock
}

const (
	lineQueue  = 1024 // messages that wait to be sent to an agent
	maxLines   = 1024 // agents at once
	handshakes = 64   // connections that have not proved who they are yet
)

// Serve answers agents on a listener until ctx ends, and closes it.
func (b *Book) Serve(ctx context.Context, l net.Listener, o Options) error {
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	var g errgroup.Group
	defer func() { _ = g.Wait() }()
	slots, unproved := make(chan struct{}, maxLines), make(chan struct{}, handshakes)
	for {
		c, err := l.Accept()
		if ctx.Err() != nil {
			if err == nil {
				_ = c.Close()
			}
			return nil
		}
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("serve agents on %s: %w", l.Addr(), err)
			}
			o.Log.Warn("accept an agent", "error", err)
			select { // out of file descriptors: they come back
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
			continue
		}
		select {
		case unproved <- struct{}{}:
		default:
			_ = c.Close()
			continue
		}
		g.Go(func() error {
			host, err := prove(ctx, c, o)
			<-unproved
			if err != nil {
				o.Log.Warn("agent refused", "remote", c.RemoteAddr().String(), "error", err)
				return c.Close()
			}
			select {
			case slots <- struct{}{}:
				defer func() { <-slots }()
			default:
				o.Log.Warn("agent refused", "host", host, "error", fmt.Sprintf("%d agents are connected", maxLines))
				return c.Close()
			}
			err = b.Talk(ctx, c, host, o)
			if ctx.Err() == nil {
				o.Log.Warn("agent's stream ended", "host", host, "error", err)
			}
			return nil
		})
	}
}

func prove(ctx context.Context, c net.Conn, o Options) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, agent.Patience)
	defer cancel()
	return o.Who(ctx, c)
}

// Talk serves one agent, of a host that is proved, until its stream or ctx ends, and closes the connection.
func (b *Book) Talk(ctx context.Context, c net.Conn, host string, o Options) error {
	conn := agent.NewConn(c)
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	defer conn.Close()
	first, err := conn.Receive()
	if err != nil {
		return fmt.Errorf("wait for hello: %w", err)
	}
	if first.Hello == nil {
		return errors.New("the first message is not a hello")
	}
	l := &line{conn: conn, host: host, instance: first.Hello.Instance, out: make(chan agent.Message, lineQueue), broken: make(chan struct{}, 1)}
	welcome, err := b.join(l, first.Hello, o)
	if err != nil {
		_ = conn.Send(agent.Message{Refused: &agent.Refused{Why: err.Error()}})
		return err
	}
	defer b.leave(l)
	if err := conn.Send(agent.Message{Welcome: welcome}); err != nil {
		return err
	}
	b.begin(l)
	o.Log.Info("agent speaks", "host", host, "real_servers", len(welcome.Known), "refused", len(welcome.Refused), "version", first.Hello.Version)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return l.send(ctx) })
	g.Go(func() error {
		defer conn.Close() // ends the sender's writing
		return b.hear(l)
	})
	return g.Wait()
}

// send writes what waits, and keeps the stream alive.
func (l *line) send(ctx context.Context) error {
	defer l.conn.Close() // ends hear
	idle := time.NewTicker(agent.Patience / 3)
	defer idle.Stop()
	for {
		var m agent.Message
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-l.broken:
			return errors.New("the agent does not take what is sent to it")
		case m = <-l.out:
		case <-idle.C:
		}
		if err := l.conn.Send(m); err != nil {
			return err
		}
	}
}

// hear takes in what the agent says until the stream ends.
func (b *Book) hear(l *line) error {
	for {
		m, err := l.conn.Receive()
		if err != nil {
			return err
		}
		b.mu.Lock()
		l.heard = b.now()
		b.mu.Unlock()
		switch {
		case m.Report != nil:
			known, err := b.report(l, m.Report)
			if err != nil {
				return err
			}
			if known != nil {
				l.put(agent.Message{Known: known})
			}
		case m.Status != nil:
			if err := b.note(l, m.Status); err != nil {
				return err
			}
		case m.Progress != nil:
			b.progress(l, m.Progress)
		case m.Hello != nil:
			return errors.New("a second hello")
		}
	}
}

// put queues a message; a stream whose agent does not take them ends, and orders are sent again on the next one.
func (l *line) put(m agent.Message) {
	select {
	case l.out <- m:
	default:
		select {
		case l.broken <- struct{}{}:
		default:
		}
	}
}

// orders queues orders for tunnels, in parts. Under the Book's lock.
func (l *line) orders(realServer string, kind agent.OrderKind, tunnels []agent.Inherited) {
	for part := range slices.Chunk(tunnels, agent.MaxTunnels/4) { // well below MaxFrame
		l.put(agent.Message{Order: &agent.Order{RealServer: realServer, Kind: kind, Tunnels: part}})
	}
}

// join makes a stream speak for the real servers it may. An instance that comes again takes the place of its own old stream.
func (b *Book) join(l *line, h *agent.Hello, o Options) (*agent.Welcome, error) {
	if h.Instance == "" || len(h.Instance) > agent.MaxText {
		return nil, errors.New("the hello names no instance")
	}
	if h.Format == 0 {
		return nil, errors.New("the hello names no format")
	}
	w := &agent.Welcome{Format: min(h.Format, agent.Format), Director: o.Name, Known: map[string]uint64{}, Refused: map[string]string{}}
	for _, s := range h.RealServers {
		if err := o.May(l.host, s); err != nil {
			w.Refused[s.Name] = err.Error()
		} else {
			w.Warnings = append(w.Warnings, o.Differs(s)...)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	l.heard = now
	for _, hello := range h.RealServers {
		if _, refused := w.Refused[hello.Name]; refused {
			continue
		}
		s := b.server(hello.Name)
		if old := s.line; old != nil && old.instance != l.instance && now.Sub(old.heard) < agent.Patience {
			w.Refused[hello.Name] = fmt.Sprintf("another agent, of host %s, speaks for it; give each a name of its own, or stop one", old.host)
			continue
		}
		if s.line != nil {
			_ = s.line.conn.Close()
		}
		if s.instance != l.instance {
			s.instance, s.seq = l.instance, 0
		}
		s.line, s.host, s.hello, s.since, s.filling, s.fresh = l, l.host, hello, now, 0, nil
		w.Known[s.name] = s.seq
		for _, x := range s.peers { // what was established meanwhile elsewhere is stale here
			if x.Gone.IsZero() {
				b.tell(*x)
			}
		}
	}
	if len(w.Known) == 0 {
		return nil, fmt.Errorf("the agent of host %s may speak for none of its real servers: %v", l.host, w.Refused)
	}
	b.poke()
	return w, nil
}

// begin sends the open orders, after the Welcome.
func (b *Book) begin(l *line) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l.open = true
	for _, s := range b.servers {
		if s.line == l {
			s.resend()
		}
	}
}

// leave notes that a stream has ended.
func (b *Book) leave(l *line) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.servers {
		if s.line == l {
			s.line, s.since = nil, b.now()
		}
	}
	b.poke()
}
