package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// room is how many bytes a stream takes in one direction that are not acknowledged, and how many that are not read.
const room = 64 << 10

// A segment is what was written at once, on its way.
type segment struct {
	data []byte
	due  time.Time
	end  error // instead of data: the stream ends there
}

// A pipe is one direction of a stream: what is written arrives in order, late, or, as long as the way is cut, not; but nothing is lost.
type pipe struct {
	n   *network
	way way

	mu       sync.Mutex
	moved    *sync.Cond
	flight   []segment
	arrived  []byte
	unacked  int  // bytes that were written and that the writer does not know to have arrived
	late     int  // of these, how many have arrived
	sealed   bool // the writer has ended it
	brokenW  error
	brokenR  error // after what has arrived
	read     deadline
	write    deadline
	peerGone func(error) // tells the other direction that its reader is gone
}

func (n *network) newPipe(w way) *pipe {
	p := &pipe{n: n, way: w}
	p.moved = sync.NewCond(&p.mu)
	return p
}

// put writes, and waits for room.
func (p *pipe) put(data []byte) (sent int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(data) > 0 {
		switch {
		case p.sealed:
			return sent, net.ErrClosed
		case p.brokenW != nil:
			return sent, p.brokenW
		case p.write.passed():
			return sent, os.ErrDeadlineExceeded
		case p.unacked >= room:
			p.moved.Wait()
			continue
		}
		part := data[:min(len(data), room-p.unacked, 16<<10)]
		data = data[len(part):]
		sent += len(part)
		p.unacked += len(part)
		p.send(segment{data: append([]byte(nil), part...)})
	}
	return sent, nil
}

// send puts a segment on the way. The caller holds mu.
func (p *pipe) send(s segment) {
	s.due = time.Now().Add(p.n.travel(p.way, true))
	if k := len(p.flight); k > 0 && s.due.Before(p.flight[k-1].due) {
		s.due = p.flight[k-1].due
	}
	p.flight = append(p.flight, s)
	time.AfterFunc(time.Until(s.due), p.arrive)
}

// arrive takes what is due from the way, if that is open and there is room.
func (p *pipe) arrive() {
	up, back := p.n.up(p.way), p.n.up(p.way.back())
	p.mu.Lock()
	var end error
	for up && len(p.flight) > 0 && !time.Now().Before(p.flight[0].due) && len(p.arrived) < room && end == nil {
		s := p.flight[0]
		p.flight = p.flight[1:]
		p.arrived = append(p.arrived, s.data...)
		p.late += len(s.data)
		if s.end != nil {
			p.brokenR, end = s.end, s.end
		}
	}
	if back {
		p.unacked -= p.late
		p.late = 0
	}
	p.moved.Broadcast()
	p.mu.Unlock()
	if end != nil {
		p.peerGone(end)
	}
}

// resume goes on after a cut, when the next retransmission is due.
func (p *pipe) resume() { time.AfterFunc(p.n.travel(p.way, true)+300*time.Millisecond, p.arrive) }

// get reads what has arrived.
func (p *pipe) get(b []byte) (int, error) {
	p.mu.Lock()
	for len(p.arrived) == 0 || p.read.passed() {
		switch {
		case errors.Is(p.brokenR, net.ErrClosed):
			p.mu.Unlock()
			return 0, net.ErrClosed
		case p.read.passed():
			p.mu.Unlock()
			return 0, os.ErrDeadlineExceeded
		case p.brokenR != nil:
			err := p.brokenR
			p.mu.Unlock()
			return 0, err
		}
		p.moved.Wait()
	}
	k := copy(b, p.arrived)
	p.arrived = p.arrived[k:]
	more := len(p.flight) > 0
	p.mu.Unlock()
	if more {
		p.arrive()
	}
	return k, nil
}

// stop ends one or both sides at once.
func (p *pipe) stop(writer, reader error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if writer != nil && p.brokenW == nil {
		p.brokenW = writer
	}
	if reader != nil && (p.brokenR == nil || errors.Is(reader, net.ErrClosed)) {
		p.brokenR = reader
	}
	if errors.Is(reader, net.ErrClosed) {
		p.arrived = nil
	}
	p.moved.Broadcast()
}

// giveUp breaks the stream for a writer that has waited too long.
func (p *pipe) giveUp() {
	p.mu.Lock()
	waits := p.unacked > 0
	p.mu.Unlock()
	if waits {
		p.stop(syscall.ETIMEDOUT, nil)
		p.peerGone(syscall.ETIMEDOUT)
	}
}

// A stream is one end of a connection.
type stream struct {
	n         *network
	in, out   *pipe
	here, far netip.AddrPort
	once      sync.Once
}

var _ net.Conn = (*stream)(nil)

// join makes the two ends of a connection.
func (n *network) join(a, b place, from, to netip.AddrPort) (*stream, *stream) {
	ab, ba := n.newPipe(way{a.host, b.host, a.path}), n.newPipe(way{b.host, a.host, a.path})
	ab.peerGone = func(err error) { ba.stop(syscall.EPIPE, nil); n.drop(err, ab, ba) }
	ba.peerGone = func(err error) { ab.stop(syscall.EPIPE, nil); n.drop(err, ab, ba) }
	n.mu.Lock()
	n.pipes[ab], n.pipes[ba] = true, true
	n.mu.Unlock()
	return &stream{n: n, in: ba, out: ab, here: from, far: to}, &stream{n: n, in: ab, out: ba, here: to, far: from}
}

// drop forgets a connection; one that timed out is broken for its reader, too.
func (n *network) drop(err error, ab, ba *pipe) {
	if errors.Is(err, syscall.ETIMEDOUT) {
		ab.stop(err, err)
		ba.stop(err, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if errors.Is(err, syscall.ETIMEDOUT) {
		delete(n.pipes, ab)
		delete(n.pipes, ba)
	}
}

func (s *stream) Read(b []byte) (int, error)  { return s.in.get(b) }
func (s *stream) Write(b []byte) (int, error) { return s.out.put(b) }

// Close has the other end read what was written, and then the end.
func (s *stream) Close() error { return s.end(io.EOF, 0) }

// end closes this end; the other one is told by err, later.
func (s *stream) end(err error, later time.Duration) error {
	s.once.Do(func() {
		s.in.stop(nil, net.ErrClosed)
		s.out.mu.Lock()
		s.out.sealed = true
		s.out.moved.Broadcast()
		s.out.mu.Unlock()
		time.AfterFunc(later, func() {
			s.out.mu.Lock()
			defer s.out.mu.Unlock()
			s.out.send(segment{end: err})
		})
	})
	return nil
}

// lose is the end of the machine: what is under way is gone, and the other end hears of it late.
func (s *stream) lose() {
	s.out.mu.Lock()
	s.out.flight = nil
	s.out.mu.Unlock()
	_ = s.end(syscall.ECONNRESET, 8*time.Second)
}

func (s *stream) LocalAddr() net.Addr  { return net.TCPAddrFromAddrPort(s.here) }
func (s *stream) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(s.far) }

func (s *stream) SetDeadline(t time.Time) error {
	return errors.Join(s.SetReadDeadline(t), s.SetWriteDeadline(t))
}

func (s *stream) SetReadDeadline(t time.Time) error {
	s.in.mu.Lock()
	defer s.in.mu.Unlock()
	s.in.read.set(t, s.in.moved)
	return nil
}

func (s *stream) SetWriteDeadline(t time.Time) error {
	s.out.mu.Lock()
	defer s.out.mu.Unlock()
	s.out.write.set(t, s.out.moved)
	return nil
}

// A door takes connections.
type door struct {
	take func(c *stream, peer string)
}

// listen has take called with each connection, in a goroutine of its own.
func (n *network) listen(a netip.AddrPort, take func(c *stream, peer string)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.doors[a] = &door{take}
}

// shut takes no more connections.
func (n *network) shut(a netip.AddrPort) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.doors, a)
}

// dial connects; while the way is cut it tries again, as long as ctx lets it.
func (n *network) dial(ctx context.Context, from, to netip.AddrPort) (*stream, error) {
	n.mu.Lock()
	a, b := n.places[from.Addr()], n.places[to.Addr()]
	n.mu.Unlock()
	w := way{a.host, b.host, a.path}
	wait := time.Second
	for !n.up(w) || !n.up(w.back()) {
		if err := sleep(ctx, wait); err != nil {
			return nil, fmt.Errorf("dial %s: %w", to, err)
		}
		if wait *= 2; wait > patience {
			return nil, fmt.Errorf("dial %s: %w", to, syscall.ETIMEDOUT)
		}
	}
	if err := sleep(ctx, n.travel(w, true)+n.travel(w.back(), true)); err != nil {
		return nil, fmt.Errorf("dial %s: %w", to, err)
	}
	n.mu.Lock()
	d, open := n.doors[to]
	n.mu.Unlock()
	if !open {
		return nil, fmt.Errorf("dial %s: %w", to, syscall.ECONNREFUSED)
	}
	here, there := n.join(a, b, from, to)
	go d.take(there, a.host)
	return here, nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
