package sim

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// backlog is how many datagrams wait to be read, or connections to be taken; more are lost.
const backlog = 512

type datagram struct {
	from netip.AddrPort
	data []byte
}

// datagrams are one socket of a host.
type datagrams struct {
	n    *network
	addr netip.AddrPort
	at   place

	mu     sync.Mutex
	come   *sync.Cond
	queue  []datagram
	limit  deadline // of reads
	closed bool
}

var _ net.PacketConn = (*datagrams)(nil)

// listenPacket opens a socket at an address of the network.
func (n *network) listenPacket(a netip.AddrPort) *datagrams {
	n.mu.Lock()
	defer n.mu.Unlock()
	b := &datagrams{n: n, addr: a, at: n.places[a.Addr()]}
	b.come = sync.NewCond(&b.mu)
	n.boxes[a] = b
	return b
}

// ReadFrom waits for a datagram. As with a real socket, a deadline that has passed goes before what is there.
func (b *datagrams) ReadFrom(p []byte) (int, net.Addr, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		switch {
		case b.closed:
			return 0, nil, net.ErrClosed
		case b.limit.passed():
			return 0, nil, os.ErrDeadlineExceeded
		case len(b.queue) > 0:
			d := b.queue[0]
			b.queue = b.queue[1:]
			return copy(p, d.data), net.UDPAddrFromAddrPort(d.from), nil
		}
		b.come.Wait()
	}
}

// WriteTo sends a datagram, which may be lost.
func (b *datagrams) WriteTo(p []byte, to net.Addr) (int, error) {
	udp, ok := to.(*net.UDPAddr)
	if !ok {
		return 0, fmt.Errorf("write to %v: not a UDP address", to)
	}
	dst := udp.AddrPort()
	dst = netip.AddrPortFrom(dst.Addr().Unmap(), dst.Port())
	b.mu.Lock()
	closed := b.closed
	b.mu.Unlock()
	if closed {
		return 0, net.ErrClosed
	}
	b.n.mu.Lock()
	there, known := b.n.places[dst.Addr()]
	b.n.mu.Unlock()
	if !known || there.path != b.at.path {
		return len(p), nil
	}
	d := datagram{b.addr, bytes.Clone(p)}
	for _, after := range b.n.arrivals(way{b.at.host, there.host, there.path}) {
		time.AfterFunc(after, func() { b.n.deliver(dst, d) })
	}
	return len(p), nil
}

// deliver puts a datagram where it is read, if somebody does.
func (n *network) deliver(to netip.AddrPort, d datagram) {
	n.mu.Lock()
	b, ok := n.boxes[to]
	n.mu.Unlock()
	if !ok {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.queue) < backlog {
		b.queue = append(b.queue, d)
		b.come.Signal()
	}
}

// Close ends reads and writes.
func (b *datagrams) Close() error {
	b.n.mu.Lock()
	if b.n.boxes[b.addr] == b {
		delete(b.n.boxes, b.addr)
	}
	b.n.mu.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.limit.stop()
	b.come.Broadcast()
	return nil
}

func (b *datagrams) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(b.addr) }

func (b *datagrams) SetDeadline(t time.Time) error { return b.SetReadDeadline(t) }

func (b *datagrams) SetReadDeadline(t time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.limit.set(t, b.come)
	return nil
}

// SetWriteDeadline does nothing: writes do not wait.
func (b *datagrams) SetWriteDeadline(time.Time) error { return nil }

// A deadline wakes those that wait at a condition when it passes. It is guarded by the condition's mutex.
type deadline struct {
	at    time.Time
	timer *time.Timer
}

func (d *deadline) set(t time.Time, wake *sync.Cond) {
	d.stop()
	d.at = t
	wake.Broadcast()
	if !t.IsZero() {
		d.timer = time.AfterFunc(max(0, time.Until(t)), func() {
			wake.L.Lock()
			defer wake.L.Unlock()
			wake.Broadcast()
		})
	}
}

func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
	}
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }
