package realserver

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tunneldirector/director/agent"
	"tunneldirector/realserver/terminator"
)

// countingConn swallows what is written.
type countingConn struct {
	net.Conn
	n int
}

func (c *countingConn) Write(b []byte) (int, error)      { c.n += len(b); return len(b), nil }
func (c *countingConn) SetWriteDeadline(time.Time) error { return nil }

// software is a terminator in memory.
type software struct {
	mu        sync.Mutex
	up        []agent.Tunnel
	err       error // of Tunnels
	hung      bool  // Tunnels answers when its context ends
	looks     int
	adopt     func(agent.Inherited) error // nil: the tunnel is up after delay
	delay     time.Duration
	adopted   []string
	released  []string
	accept    []bool
	acceptErr error
}

func (s *software) set(f func(*software)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s)
}

func (s *software) Tunnels(ctx context.Context) ([]agent.Tunnel, error) {
	s.mu.Lock()
	s.looks++
	hung, err, up := s.hung, s.err, slices.Clone(s.up)
	s.mu.Unlock()
	if hung {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return up, err
}

func (s *software) Adopt(_ context.Context, t agent.Inherited) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.adopted = append(s.adopted, t.ID)
	if s.adopt != nil {
		return s.adopt(t)
	}
	s.establish(agent.Tunnel{Peer: t.Peer, Local: t.Local, Endpoint: t.Endpoint, Subnets: t.Subnets, Rx: 1})
	return nil
}

func (s *software) asked() []string { return copied(s, &s.adopted) }
func (s *software) gave() []string  { return copied(s, &s.released) }
func (s *software) taken() []bool   { return copied(s, &s.accept) }

func (s *software) lookCount() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.looks
}

func copied[T any](s *software, of *[]T) []T {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(*of)
}

// establish makes a tunnel up after the delay. The caller holds mu.
func (s *software) establish(t agent.Tunnel) {
	time.AfterFunc(s.delay, func() {
		s.set(func(s *software) {
			t.Since = time.Now().Round(0)
			s.up = slices.DeleteFunc(s.up, func(x agent.Tunnel) bool { return x.Peer == t.Peer })
			s.up = append(s.up, t)
		})
	})
}

func (s *software) Release(_ context.Context, t agent.Inherited) error {
	s.set(func(s *software) {
		s.released = append(s.released, t.Peer)
		s.up = slices.DeleteFunc(s.up, func(x agent.Tunnel) bool { return x.Peer == t.Peer })
	})
	return nil
}

func (s *software) Accept(_ context.Context, on bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.accept = append(s.accept, on)
	return s.acceptErr
}

// kernel is software whose data path may outlive it, and that tells of changes.
type kernel struct {
	software
	carries int
	poke    chan struct{}
}

func (k *kernel) Carries(context.Context) (int, error) { return k.carries, nil }

func (k *kernel) Watch(ctx context.Context, changed chan<- struct{}) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-k.poke:
			select {
			case changed <- struct{}{}:
			default:
			}
		}
	}
}

// A director is the far end of a stream, which keeps what it hears.
type director struct {
	t       testing.TB
	name    string
	accept  func(*agent.Hello) agent.Message // nil: all are welcome, nothing is known
	mute    bool                             // it reads nothing after its welcome
	mu      sync.Mutex
	conns   []*agent.Conn
	hellos  []agent.Hello
	status  map[string]agent.Status
	heard   int // statuses
	found   int // of which say what was found
	known   map[string]*reader
	wholes  int
	steps   map[string]agent.Outcome // by kind and tunnel
	refused bool
}

func (d *director) serve(c net.Conn) {
	conn := agent.NewConn(c)
	m, err := conn.Receive()
	if err != nil || m.Hello == nil {
		d.t.Errorf("first message %+v, %v", m, err)
		return
	}
	d.mu.Lock()
	d.hellos = append(d.hellos, *m.Hello)
	d.conns = append(d.conns, conn)
	accept := d.accept
	d.mu.Unlock()
	reply := agent.Message{Welcome: &agent.Welcome{Format: agent.Format, Director: d.name}}
	if accept != nil {
		reply = accept(m.Hello)
	}
	if conn.Send(reply) != nil || reply.Refused != nil {
		_ = conn.Close()
		return
	}
	if d.mute {
		return
	}
	go func() {
		for conn.Send(agent.Message{}) == nil {
			time.Sleep(agent.Patience / 3)
		}
	}()
	for {
		m, err := conn.Receive()
		if err != nil {
			_ = conn.Close()
			return
		}
		d.take(conn, &m)
	}
}

func (d *director) take(conn *agent.Conn, m *agent.Message) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case m.Status != nil:
		if m.Status.FoundAsBefore {
			m.Status.Found = d.status[m.Status.RealServer].Found
		} else {
			d.found++
		}
		d.status[m.Status.RealServer] = *m.Status
		d.heard++
	case m.Report != nil:
		r := d.known[m.Report.RealServer]
		if r == nil {
			r = &reader{}
			d.known[m.Report.RealServer] = r
		}
		if m.Report.Whole && m.Report.First {
			d.wholes++
			r.seq = 0
		}
		r.read(d.t, []agent.Report{*m.Report})
	case m.Progress != nil:
		for _, s := range m.Progress.Tunnels {
			d.steps[m.Progress.Kind.String()+" "+s.ID] = s.Outcome
		}
	}
}

// order sends an order over the last connection.
func (d *director) order(o agent.Order) {
	d.mu.Lock()
	c := d.conns[len(d.conns)-1]
	d.mu.Unlock()
	if err := c.Send(agent.Message{Order: &o}); err != nil {
		d.t.Errorf("order: %v", err)
	}
}

// hangUp ends the last connection.
func (d *director) hangUp() {
	d.mu.Lock()
	defer d.mu.Unlock()
	_ = d.conns[len(d.conns)-1].Close()
}

func (d *director) last() agent.Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.status["rs1"]
}

func (d *director) health() string { return d.last().Health.String() }

func (d *director) up() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.known["rs1"] == nil {
		return -1
	}
	return len(d.known["rs1"].up)
}

func (d *director) outcome(kind, id string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.steps[kind+" "+id].String()
}

// count counts the tunnels whose order of a kind stands so.
func (d *director) count(kind string, o agent.Outcome) (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for k, x := range d.steps {
		if x == o && k[:len(kind)] == kind {
			n++
		}
	}
	return n
}

// A lab is an agent with one real server, rs1, and directors, in virtual time.
type lab struct {
	agent     *Agent
	directors []*director
	answers   map[string]State
	told      time.Time // when they were told last
	mu        sync.Mutex
	logs      *logs
}

// begin starts an agent; it ends with the test. It must be called in a bubble of synctest.
func begin(t *testing.T, soft terminator.Terminator, directors int, change func(*lab, *Options)) *lab {
	t.Helper()
	l := &lab{answers: map[string]State{}, logs: &logs{}}
	o := Options{Host: "node-a", Version: "1.2.3", Log: slog.New(l.logs), Answer: func(name string, s State) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.answers[name], l.told = s, time.Now()
	}}
	o.Instances = []Instance{{Server: agent.Server{Name: "rs1", Terminator: "memory", Method: "dr", VIPs: []netip.Addr{netip.MustParseAddr("192.0.2.10")}}, Terminator: soft}}
	byAddress := map[string]*director{}
	for i := range directors {
		name := string(rune('1' + i))
		d := &director{t: t, name: "d" + name, status: map[string]agent.Status{}, known: map[string]*reader{}, steps: map[string]agent.Outcome{}}
		o.Directors = append(o.Directors, d.name)
		byAddress[d.name] = d
		l.directors = append(l.directors, d)
	}
	o.Dial = func(_ context.Context, address string) (net.Conn, error) {
		d := byAddress[address]
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.refused {
			return nil, errors.New("connection refused")
		}
		near, far := net.Pipe()
		go d.serve(far)
		return near, nil
	}
	if change != nil {
		change(l, &o)
	}
	l.agent = New(o)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.agent.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the agent ended with %v", err)
		}
		for _, d := range l.directors {
			for _, c := range d.conns {
				_ = c.Close()
			}
		}
		time.Sleep(agent.Patience) // what speaks to them notices
	})
	return l
}

func (l *lab) answer() State {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.answers["rs1"]
}

// logs keeps messages.
type logs struct {
	slog.Handler
	mu   sync.Mutex
	list []string
}

func (l *logs) Enabled(context.Context, slog.Level) bool { return true }
func (l *logs) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *logs) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := r.Level.String() + " " + r.Message
	r.Attrs(func(a slog.Attr) bool { text += " " + a.String(); return true })
	l.list = append(l.list, text)
	return nil
}

// text is all that was logged.
func (l *logs) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.list, "\n")
}
