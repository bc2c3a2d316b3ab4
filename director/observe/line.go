package observe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"tunneldirector/director/agent"
)

// A line is one agent's stream.
type line struct {
	conn     *agent.Conn
	host     string
	instance string
	version  string         // of the agent's program
	servers  []agent.Server // that it speaks for
	out      chan agent.Message
	over     chan error // of one: why the stream has to end
	heard    time.Time  // under the Book's lock
	missed   sync.Map   // of []netip.Addr by real server: its VIPs when a tunnel elsewhere was left out
	open     bool       // it was told what is open, and gets orders as they come; under the Book's lock
}

func newLine(c *agent.Conn, host, instance string) *line {
	return &line{conn: c, host: host, instance: instance, out: make(chan agent.Message, lineQueue), over: make(chan error, 1)}
}

const lineQueue = 1024 // messages that wait to be sent to an agent

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
	l := newLine(conn, host, first.Hello.Instance)
	l.version = first.Hello.Version
	welcome, err := b.join(l, first.Hello, o)
	if err != nil {
		_ = conn.Send(agent.Message{Refused: &agent.Refused{Why: agent.Text(err.Error())}})
		return err
	}
	defer b.leave(l)
	if err := conn.Send(agent.Message{Welcome: welcome}); err != nil {
		return err
	}
	b.begin(l)
	o.Log.Info("agent speaks", "host", host, "real_servers", len(welcome.Known), "refused", len(welcome.Refused), "version", first.Hello.Version)
	g, ctx := errgroup.WithContext(ctx)
	end := context.AfterFunc(ctx, func() { _ = conn.Close() }) // the first error is the cause: it closes, and what closing does comes later
	defer end()
	g.Go(func() error { return b.send(ctx, l, o) })
	g.Go(func() error { return b.hear(l, o) })
	return g.Wait()
}

// send writes what waits, keeps the stream alive, and ends it when the agent may not speak for a real server any more: dialling
// again, it is told which.
func (b *Book) send(ctx context.Context, l *line, o Options) error {
	idle := time.NewTicker(agent.Patience / 3)
	defer idle.Stop()
	for {
		var m agent.Message
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case err := <-l.over:
			return err
		case m = <-l.out:
		case <-idle.C:
			for _, s := range l.servers {
				if err := o.May(l.host, s); err != nil {
					return err
				}
			}
			if err := b.recall(l, o); err != nil {
				return err
			}
		}
		if err := l.conn.Send(m); err != nil {
			return err
		}
	}
}

// hear takes in what the agent says until the stream ends.
func (b *Book) hear(l *line, o Options) error {
	for {
		m, err := l.conn.Receive()
		if err == io.EOF { // by TLS, its own word; a stream that is cut has none
			return fmt.Errorf("the agent closed its stream, as one does that stops: %w", err)
		}
		if err != nil {
			return err
		}
		b.mu.Lock()
		l.heard = b.now()
		b.mu.Unlock()
		switch {
		case m.Report != nil:
			l.sort(m.Report, o)
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
		l.end(errors.New("the agent does not take what is sent to it"))
	}
}

// end makes a stream end, without waiting for it.
func (l *line) end(why error) {
	select {
	case l.over <- why:
	default:
	}
}

// orderBytes bounds an order by a guess at its bytes, well below what a frame may have.
const orderBytes = agent.MaxFrame / 2

// orders queues orders for tunnels, in parts. Under the Book's lock.
func (l *line) orders(realServer string, kind agent.OrderKind, tunnels []agent.Inherited) {
	for len(tunnels) > 0 {
		n, bytes := 0, 0
		for n < len(tunnels) && n < agent.MaxTunnels && bytes < orderBytes {
			bytes += 128 + len(tunnels[n].ID) + len(tunnels[n].Peer) + 24*len(tunnels[n].Subnets)
			n++
		}
		l.put(agent.Message{Order: &agent.Order{RealServer: realServer, Kind: kind, Tunnels: tunnels[:n]}})
		tunnels = tunnels[n:]
	}
}

// join makes a stream speak for the real servers it may. An instance that comes again takes the place of its own old stream.
func (b *Book) join(l *line, h *agent.Hello, o Options) (*agent.Welcome, error) {
	if h.Format == 0 {
		return nil, errors.New("the hello names no format")
	}
	w := &agent.Welcome{Format: min(h.Format, agent.Format), Director: agent.Text(o.Name), Known: map[string]uint64{}, Refused: map[string]string{}}
	named := map[string]bool{}
	for _, s := range h.RealServers {
		if named[s.Name] {
			return nil, fmt.Errorf("the hello names real server %s twice", s.Name)
		}
		named[s.Name] = true
		if err := o.May(l.host, s); err != nil {
			w.Refused[s.Name] = agent.Text(err.Error())
			continue
		}
		l.servers = append(l.servers, s)
		for _, words := range o.Differs(s) {
			if len(w.Warnings) < agent.MaxServers { // as many as a welcome may have
				w.Warnings = append(w.Warnings, agent.Text(words))
			}
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	b.sweep(now)
	l.heard = now
	l.servers = slices.DeleteFunc(l.servers, func(hello agent.Server) bool {
		why := b.seat(l, hello, now)
		if why != "" {
			w.Refused[hello.Name] = agent.Text(why)
			return true
		}
		w.Known[hello.Name] = b.servers[hello.Name].seq
		return false
	})
	if len(w.Known) == 0 {
		return nil, fmt.Errorf("the agent of host %s may speak for none of its real servers: %s", l.host, reasons(w.Refused))
	}
	b.poke()
	return w, nil
}

// reasons are those by real server, in the order of their names.
func reasons(refused map[string]string) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(refused)) {
		out = append(out, name+": "+refused[name])
	}
	return strings.Join(out, "; ")
}

// seat makes a stream the one that speaks for a real server, or says why not.
func (b *Book) seat(l *line, hello agent.Server, now time.Time) (refused string) {
	s := b.server(hello.Name)
	if old := s.line; old != nil {
		if old.instance != l.instance && now.Sub(old.heard) < agent.Patience {
			return fmt.Sprintf("another agent, of host %s, speaks for it; give each a name of its own, or stop one", old.host)
		}
		old.end(errors.New("the agent has come again")) // its words count no more
	}
	s.told = s.confirmed()
	if s.instance != l.instance {
		s.instance, s.seq = l.instance, 0
		s.status, s.statusAt = agent.Status{}, time.Time{} // an earlier run's word is not this one's
	}
	s.line, s.host, s.hello, s.since, s.filling = l, l.host, hello, now, 0
	for _, x := range s.peers { // what was established meanwhile elsewhere is stale here
		if x.gone == nil {
			b.tell(x)
		}
	}
	return ""
}

// begin sends the open orders, after the Welcome.
func (b *Book) begin(l *line) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l.open = true
	for _, s := range b.servers {
		if s.line == l {
			s.resend(b.now())
			b.resendFaults(s)
			if v, said := b.verdict[s.name]; said {
				l.put(agent.Message{Verdict: &v})
			}
			if closed, said := b.closed[s.name]; closed || said && s.status.Closed {
				s.close(closed)
			}
		}
	}
}

// leave notes that a stream has ended.
func (b *Book) leave(l *line) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.servers {
		if s.line == l {
			s.told = s.confirmed()
			s.line, s.since, s.filling = nil, b.now(), 0
		}
	}
	b.poke()
}
