package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/conn"
)

// bind is WireGuard's way to its UDP sockets: opened in a namespace whichever thread asks, and bound to addresses, not
// to any, so that what a real server sends, a handshake of its own included, comes from the virtual IP.
type bind struct {
	ns     *Namespace
	counts *counters // nil: none
	gate   *gate     // nil: none
	v4, v6 atomic.Pointer[net.UDPConn]

	mu     sync.Mutex   // guards what follows
	locals []netip.Addr // at most one a family
}

var _ conn.Bind = (*bind)(nil)

// Open implements conn.Bind.
func (b *bind) Open(port uint16) ([]conn.ReceiveFunc, uint16, error) {
	var fns []conn.ReceiveFunc
	for _, local := range b.addresses() {
		slot, network := b.slot(local)
		var c *net.UDPConn
		err := b.ns.Run(func() error {
			pc, err := new(net.ListenConfig).ListenPacket(context.Background(), network, netip.AddrPortFrom(local, port).String())
			if err == nil {
				c = pc.(*net.UDPConn)
				err = roomy(c)
			}
			return err
		})
		if err != nil {
			return nil, 0, errors.Join(fmt.Errorf("listen in %s: %w", b.ns.Name, err), b.Close())
		}
		if !slot.CompareAndSwap(nil, c) {
			return nil, 0, errors.Join(conn.ErrBindAlreadyOpen, c.Close())
		}
		port = c.LocalAddr().(*net.UDPAddr).AddrPort().Port()
		fns = append(fns, b.receive(c))
	}
	return fns, port, nil
}

func (b *bind) addresses() []netip.Addr {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.locals
}

// move is for sockets that are opened from now on.
func (b *bind) move(to netip.Addr) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.locals = []netip.Addr{to}
}

func (b *bind) slot(a netip.Addr) (*atomic.Pointer[net.UDPConn], string) {
	if a.Is4() {
		return &b.v4, "udp4"
	}
	return &b.v6, "udp6"
}

func (b *bind) receive(c *net.UDPConn) conn.ReceiveFunc {
	return func(packets [][]byte, sizes []int, eps []conn.Endpoint) (int, error) {
		n, from, err := c.ReadFromUDPAddrPort(packets[0])
		if err != nil {
			return 0, err
		}
		b.gate.pass()
		if b.counts != nil {
			b.counts.received(from.Addr(), packets[0][:n])
		}
		sizes[0], eps[0] = n, endpoint(from)
		return 1, nil
	}
}

// Send implements conn.Bind.
func (b *bind) Send(bufs [][]byte, ep conn.Endpoint) error {
	dst, ok := ep.(endpoint)
	if !ok {
		return conn.ErrWrongEndpointType
	}
	slot, _ := b.slot(netip.AddrPort(dst).Addr())
	c := slot.Load()
	if c == nil {
		return unix.EAFNOSUPPORT
	}
	for _, buf := range bufs {
		b.gate.pass()
		if b.counts != nil { // before it is on the wire: who has the answer must find it counted
			b.counts.sent(netip.AddrPort(dst).Addr())
		}
		if _, err := c.WriteToUDPAddrPort(buf, netip.AddrPort(dst)); err != nil {
			return err
		}
	}
	return nil
}

// Close implements conn.Bind.
func (b *bind) Close() error {
	var errs []error
	for _, slot := range []*atomic.Pointer[net.UDPConn]{&b.v4, &b.v6} {
		if c := slot.Swap(nil); c != nil {
			errs = append(errs, c.Close())
		}
	}
	return errors.Join(errs...)
}

// SetMark implements conn.Bind; nothing in the lab is marked.
func (b *bind) SetMark(mark uint32) error {
	if mark != 0 {
		return fmt.Errorf("mark packets with %d: not in the lab", mark)
	}
	return nil
}

// BatchSize implements conn.Bind: one packet at a time keeps a device's buffers small.
func (b *bind) BatchSize() int { return 1 }

// ParseEndpoint implements conn.Bind.
func (b *bind) ParseEndpoint(s string) (conn.Endpoint, error) {
	ap, err := netip.ParseAddrPort(s)
	return endpoint(ap), err
}

// endpoint is where a peer is. The source is the socket's.
type endpoint netip.AddrPort

func (e endpoint) ClearSrc()           {}
func (e endpoint) SrcToString() string { return "" }
func (e endpoint) SrcIP() netip.Addr   { return netip.Addr{} }
func (e endpoint) DstToString() string { return netip.AddrPort(e).String() }
func (e endpoint) DstIP() netip.Addr   { return netip.AddrPort(e).Addr() }
func (e endpoint) DstToBytes() []byte {
	b, _ := netip.AddrPort(e).MarshalBinary() // never fails
	return b
}
