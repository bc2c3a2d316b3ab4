package answer

import (
	"net"
	"net/netip"
	"sync"

	"tunneldirector/realserver/space"
)

// A port is a socket at one VIP, which may be another one after a while.
type port struct {
	at    netip.AddrPort
	space space.Space
	oob   [128]byte // of the reader
	drops uint32    // of this socket, as they were told last

	mu   sync.Mutex // guards what follows, between the reader and those who close
	conn *net.UDPConn
	in   identity // the namespace that it is in
}

// A question came in.
type question struct {
	n      int
	from   netip.AddrPort
	device string // that brought it
	drops  uint32 // of the socket until now
}

// open opens the socket, in the namespace as it is now.
func (p *port) open() error {
	conn, in, err := listen(p.space, p.at)
	if err != nil {
		return err
	}
	p.close()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conn, p.in, p.drops = conn, in, 0
	return nil
}

func (p *port) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conn != nil {
		p.conn.Close()
	}
}

// leave closes a socket that is not in a namespace.
func (p *port) leave(now identity) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conn != nil && p.in != now {
		p.conn.Close()
	}
}

func (p *port) write(b []byte, to netip.AddrPort) error {
	_, err := p.conn.WriteToUDPAddrPort(b, to)
	return err
}

// dropped is by how much the socket's count of drops has grown.
func (p *port) dropped(drops uint32) uint64 {
	n := drops - p.drops // as it wraps
	p.drops = drops
	return uint64(n)
}
