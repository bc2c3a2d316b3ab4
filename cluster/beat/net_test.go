package beat

import (
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// A network carries datagrams between sockets at once, where none is cut. It works in virtual time.
type network struct {
	mu    sync.Mutex
	socks map[netip.AddrPort]*sock
	cut   map[[2]netip.AddrPort]bool // from, to
	stuck map[netip.AddrPort]bool    // what it sends does not leave before its deadline
}

func newNetwork() *network {
	return &network{socks: map[netip.AddrPort]*sock{}, cut: map[[2]netip.AddrPort]bool{}, stuck: map[netip.AddrPort]bool{}}
}

// set cuts a direction, or mends it.
func (n *network) set(from, to netip.AddrPort, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[[2]netip.AddrPort{from, to}] = cut
}

func (n *network) stick(from netip.AddrPort) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stuck[from] = true
}

func (n *network) listen(addr netip.AddrPort) *sock {
	s := &sock{net: n, addr: addr, change: make(chan struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.socks[addr] = s
	return s
}

type datagram struct {
	from net.Addr
	data []byte
}

type sock struct {
	net  *network
	addr netip.AddrPort

	mu          sync.Mutex
	change      chan struct{} // closed when what is below changes
	queue       []datagram
	closed      bool
	read, write time.Time
}

func (s *sock) touch(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	close(s.change)
	s.change = make(chan struct{})
}

func (s *sock) ReadFrom(buf []byte) (int, net.Addr, error) {
	for {
		s.mu.Lock()
		deadline, change := s.read, s.change
		switch {
		case s.closed:
			s.mu.Unlock()
			return 0, nil, net.ErrClosed
		case !deadline.IsZero() && !time.Now().Before(deadline):
			s.mu.Unlock()
			return 0, nil, os.ErrDeadlineExceeded
		case len(s.queue) > 0:
			d := s.queue[0]
			s.queue = s.queue[1:]
			s.mu.Unlock()
			return copy(buf, d.data), d.from, nil
		}
		s.mu.Unlock()
		var timeout <-chan time.Time
		if !deadline.IsZero() {
			timeout = time.After(time.Until(deadline))
		}
		select {
		case <-change:
		case <-timeout:
		}
	}
}

func (s *sock) WriteTo(data []byte, to net.Addr) (int, error) {
	addr := to.(*net.UDPAddr).AddrPort()
	s.net.mu.Lock()
	peer, cut, stuck := s.net.socks[addr], s.net.cut[[2]netip.AddrPort{s.addr, addr}], s.net.stuck[s.addr]
	s.net.mu.Unlock()
	if stuck {
		s.mu.Lock()
		left := time.Until(s.write)
		if s.write.IsZero() {
			left = time.Hour
		}
		s.mu.Unlock()
		time.Sleep(left)
		return 0, os.ErrDeadlineExceeded
	}
	if peer != nil && !cut {
		peer.touch(func() { peer.queue = append(peer.queue, datagram{net.UDPAddrFromAddrPort(s.addr), data}) })
	}
	return len(data), nil
}

func (s *sock) Close() error                       { s.touch(func() { s.closed = true }); return nil }
func (s *sock) LocalAddr() net.Addr                { return net.UDPAddrFromAddrPort(s.addr) }
func (s *sock) SetDeadline(t time.Time) error      { s.touch(func() { s.read, s.write = t, t }); return nil }
func (s *sock) SetReadDeadline(t time.Time) error  { s.touch(func() { s.read = t }); return nil }
func (s *sock) SetWriteDeadline(t time.Time) error { s.touch(func() { s.write = t }); return nil }
