package lab

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"
)

// A Seen is an IP packet that passed an interface.
type Seen struct {
	Src, Dst netip.Addr
	Proto    uint8 // of IPv6 the next header
	Type     uint8 // the byte after the IP header: of ICMP the type
}

// A Capture notes the IP packets that pass an interface, in and out, neighbour and multicast listener discovery left out.
type Capture struct {
	conn    *packet.Conn
	closing atomic.Bool
	done    chan struct{}

	mu   sync.Mutex // guards seen
	seen []Seen
}

// Capture begins to listen at a machine's port. Close it.
func (n *Namespace) Capture(p Port) (*Capture, error) {
	c := &Capture{done: make(chan struct{})}
	err := n.Run(func() error {
		ifi, err := net.InterfaceByName(p.Name)
		if err == nil {
			c.conn, err = packet.Listen(ifi, packet.Raw, unix.ETH_P_ALL, nil)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listen on %s in %s: %w", p.Name, n.Name, err)
	}
	go c.hear()
	return c, nil
}

// Close ends it.
func (c *Capture) Close() error {
	c.closing.Store(true)
	err := c.conn.Close()
	<-c.done
	return err
}

// Seen are the packets until now, in order.
func (c *Capture) Seen() []Seen {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.seen)
}

func (c *Capture) hear() {
	defer close(c.done)
	buf := make([]byte, 65536)
	for {
		n, _, err := c.conn.ReadFrom(buf)
		switch {
		case err != nil && c.closing.Load():
			return
		case err != nil:
			time.Sleep(time.Millisecond) // the interface is down, say
			continue
		}
		if s, ok := parseSeen(buf[:n]); ok {
			c.mu.Lock()
			c.seen = append(c.seen, s)
			c.mu.Unlock()
		}
	}
}

func parseSeen(frame []byte) (s Seen, ok bool) {
	if len(frame) < 14 {
		return s, false
	}
	p := frame[14:]
	if s.Src, s.Dst, ok = addresses(p); !ok {
		return s, false
	}
	rest := p
	if s.Src.Is4() {
		s.Proto, rest = p[9], p[min(len(p), int(p[0]&15)*4):]
	} else {
		s.Proto, rest = p[6], p[40:]
	}
	if len(rest) > 0 {
		s.Type = rest[0]
	}
	discovery := s.Proto == 58 && (s.Type >= 130 && s.Type <= 137 || s.Type == 143) || s.Src.Is6() && s.Proto == 0
	return s, !discovery
}
