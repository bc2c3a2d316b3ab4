package lab

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// grace is how long answers are waited for after the last request.
const grace = time.Second

// A Pinger sends echo requests at an interval and remembers each.
type Pinger struct {
	conn     *icmp.PacketConn
	to       netip.Addr
	interval time.Duration
	count    int
	nonce    uint64
	began    time.Time

	sent     []Echo   // the sender's; read after done
	answers  []answer // the receiver's; read after done
	err      error
	received atomic.Uint64
	last     atomic.Uint64 // requests sent
	heard    atomic.Int64  // when the last answer came: nanoseconds after began
	cancel   context.CancelFunc
	done     chan struct{}
}

type answer struct {
	seq uint64
	at  time.Time
}

// Ping sends count echo requests from an address on a machine and returns what became of each. It returns early, without
// an error, when ctx ends.
func (l *Lab) Ping(ctx context.Context, ns *Namespace, from, to netip.Addr, interval time.Duration, count int) ([]Echo, error) {
	p, err := l.StartPing(ctx, ns, from, to, interval, count)
	if err != nil {
		return nil, err
	}
	<-p.done
	return p.Stop()
}

// StartPing begins to send echo requests, until there were count of them (0: no limit), ctx ends, or Stop.
func (l *Lab) StartPing(ctx context.Context, ns *Namespace, from, to netip.Addr, interval time.Duration, count int) (*Pinger, error) {
	p := &Pinger{to: to, interval: interval, count: count, began: time.Now(), done: make(chan struct{})}
	network := "ip4:icmp"
	if to.Is6() {
		network = "ip6:ipv6-icmp"
	}
	err := ns.Run(func() (err error) {
		p.conn, err = icmp.ListenPacket(network, from.String())
		return err
	})
	if err == nil {
		err = p.listenForAnswers()
	}
	if err != nil {
		return nil, fmt.Errorf("ping from %s in %s: %w", from, ns.Name, err)
	}
	var b [8]byte
	rand.Read(b[:]) // never fails
	p.nonce = binary.BigEndian.Uint64(b[:])
	ctx, p.cancel = context.WithCancel(ctx)
	go p.run(ctx)
	return p, nil
}

// listenForAnswers keeps out all but echo replies: a raw socket gets whatever ICMP there is for its address, that of other
// pingers too, and a busy machine would lose some of it.
func (p *Pinger) listenForAnswers() error {
	if p.to.Is6() {
		var f ipv6.ICMPFilter
		f.SetAll(true)
		f.Accept(ipv6.ICMPTypeEchoReply)
		return errors.Join(p.conn.IPv6PacketConn().SetICMPFilter(&f), roomy(p.conn.IPv6PacketConn().PacketConn))
	}
	var f ipv4.ICMPFilter
	f.SetAll(true)
	f.Accept(ipv4.ICMPTypeEchoReply)
	return errors.Join(p.conn.IPv4PacketConn().SetICMPFilter(&f), roomy(p.conn.IPv4PacketConn().PacketConn))
}

// roomy gives a socket a receive buffer in which packets can wait for a process that gets no time to run.
func roomy(c any) error {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return fmt.Errorf("set the receive buffer of a %T: %w", c, errors.ErrUnsupported)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) {
		set = os.NewSyscallError("setsockopt", unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4<<20))
	})
	return errors.Join(err, set)
}

// Sent and Received are how many requests and answers there were until now.
func (p *Pinger) Sent() uint64     { return p.last.Load() }
func (p *Pinger) Received() uint64 { return p.received.Load() }

// Silent is for how long there was no answer: since the last one, or since the start.
func (p *Pinger) Silent() time.Duration {
	heard := time.Duration(p.heard.Load()) // before the clock is read: it may rise meanwhile
	return time.Since(p.began) - heard
}

// Done is closed when all requests were sent and answered, or given up.
func (p *Pinger) Done() <-chan struct{} { return p.done }

// Stop sends no more, waits up to a second for what is on its way, and returns all. To stop many at once, end the context
// that they were started with first.
func (p *Pinger) Stop() ([]Echo, error) {
	p.cancel()
	<-p.done
	return p.sent, p.err
}

func (p *Pinger) run(ctx context.Context) {
	defer close(p.done)
	defer p.cancel()
	heard := make(chan error, 1)
	go func() { heard <- p.hear() }()
	err := p.send(ctx)
	p.awaitLast()
	err = errors.Join(err, p.conn.Close())
	p.err = errors.Join(err, <-heard)
	for _, a := range p.answers {
		if a.seq < uint64(len(p.sent)) && p.sent[a.seq].Lost() {
			p.sent[a.seq].Received = a.at
		}
	}
}

func (p *Pinger) send(ctx context.Context) error {
	tick := time.NewTicker(p.interval)
	defer tick.Stop()
	for n := 0; (p.count == 0 || n < p.count) && ctx.Err() == nil; n++ {
		packet, err := p.request(uint64(n))
		if err != nil {
			return err
		}
		p.sent = append(p.sent, Echo{Sent: time.Now()})
		p.last.Add(1)
		// A refusal (no route, no neighbour) is a lost packet, as it is on any machine.
		_, _ = p.conn.WriteTo(packet, &net.IPAddr{IP: p.to.AsSlice()})
		if n == p.count-1 {
			break
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	return nil
}

func (p *Pinger) request(seq uint64) ([]byte, error) {
	m := icmp.Message{Type: ipv4.ICMPTypeEcho}
	if p.to.Is6() {
		m.Type = ipv6.ICMPTypeEchoRequest
	}
	data := binary.BigEndian.AppendUint64(nil, p.nonce)
	m.Body = &icmp.Echo{ID: int(p.nonce & 0xffff), Seq: int(seq & 0xffff), Data: binary.BigEndian.AppendUint64(data, seq)}
	return m.Marshal(nil)
}

// hear reads answers until the socket is closed.
func (p *Pinger) hear() error {
	buf := make([]byte, 2048)
	for {
		n, _, err := p.conn.ReadFrom(buf)
		at := time.Now()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			continue // an ICMP error about one of ours, say: the request is lost, which is noticed anyway
		}
		proto := 1
		if p.to.Is6() {
			proto = 58
		}
		m, err := icmp.ParseMessage(proto, buf[:n])
		if err != nil || m.Type != ipv4.ICMPTypeEchoReply && m.Type != ipv6.ICMPTypeEchoReply {
			continue
		}
		e, ok := m.Body.(*icmp.Echo)
		if !ok || len(e.Data) != 16 || binary.BigEndian.Uint64(e.Data) != p.nonce {
			continue
		}
		p.answers = append(p.answers, answer{binary.BigEndian.Uint64(e.Data[8:]), at})
		p.heard.Store(int64(at.Sub(p.began)))
		p.received.Add(1)
	}
}

// awaitLast waits for answers that are on their way.
func (p *Pinger) awaitLast() {
	deadline := time.Now().Add(grace)
	for p.received.Load() < p.last.Load() && time.Now().Before(deadline) {
		time.Sleep(5 * time.Millisecond)
	}
}

// Establish pings from every site to the target until each was answered, so that all tunnels are up, or ctx ends: the
// error then names the sites without an answer.
func (l *Lab) Establish(ctx context.Context) error {
	results := make(chan error, len(l.Sites))
	for _, s := range l.Sites {
		go func() { results <- l.establish(ctx, s) }()
	}
	var errs []error
	for range l.Sites {
		errs = append(errs, <-results)
	}
	return errors.Join(errs...)
}

func (l *Lab) establish(ctx context.Context, s *Site) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p, err := l.StartPing(ctx, s.NS, s.Inside[0], l.Target.Inner.Addrs[0], 100*time.Millisecond, 0)
	if err != nil {
		return err
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for p.Received() == 0 && ctx.Err() == nil {
		select {
		case <-tick.C:
		case <-p.Done():
		}
	}
	if p.Received() == 0 {
		_, err := p.Stop()
		return errors.Join(fmt.Errorf("establish %s: no answer to %d echo requests", s.Name, p.Sent()), err)
	}
	_, err = p.Stop()
	return err
}
