package lab

import (
	"encoding/binary"
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

// A Seen is an IP packet that passed an interface. Of one in IPIP it is the inner packet that is told.
type Seen struct {
	At       time.Time
	MAC      [6]byte // that the frame is for
	Src, Dst netip.Addr
	Proto    uint8 // of IPv6 the next header
	Type     uint8 // the byte after the IP header: of ICMP the type
	SrcPort  uint16
	DstPort  uint16 // of UDP and TCP, if the packet is whole or a first fragment
	SPI      uint32 // of ESP and AH, and of ESP in UDP/4500 (RFC 3948); 0: none
	Part     bool   // a fragment
	InIPIP   bool   // it came in IPv4 or IPv6 tunnelling (protocol 4 or 41)
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
		if err == nil {
			err = roomy(c.conn)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listen on %s in %s: %w", p.Name, n.Name, err)
	}
	go c.hear()
	return c, nil
}

// Outlet is the other end of a port's cable, in the switch: there a Capture sees what XDP forwards, too.
func (p Port) Outlet() Port { return Port{Name: p.outlet} }

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
			s.At = time.Now()
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
	s, ok = parsePacket(frame[14:])
	s.MAC = [6]byte(frame)
	return s, ok
}

func parsePacket(p []byte) (s Seen, ok bool) {
	if s.Src, s.Dst, ok = addresses(p); !ok {
		return s, false
	}
	offset := 0
	rest := p
	if s.Src.Is4() {
		s.Proto, rest = p[9], p[min(len(p), int(p[0]&15)*4):]
		offset = int(binary.BigEndian.Uint16(p[6:8]) & 0x1fff)
		s.Part = offset > 0 || p[6]&0x20 != 0
	} else {
		s.Proto, rest = p[6], p[40:]
		if s.Proto == unix.IPPROTO_FRAGMENT && len(rest) >= 8 {
			s.Proto, offset, s.Part, rest = rest[0], int(binary.BigEndian.Uint16(rest[2:4])>>3), true, rest[8:]
		}
	}
	if (s.Proto == unix.IPPROTO_IPIP || s.Proto == unix.IPPROTO_IPV6) && !s.Part {
		s, ok = parsePacket(rest)
		s.InIPIP = true
		return s, ok
	}
	if len(rest) > 0 {
		s.Type = rest[0]
	}
	if offset == 0 {
		s.parseHeader(rest)
	}
	discovery := s.Proto == unix.IPPROTO_ICMPV6 && (s.Type >= 130 && s.Type <= 137 || s.Type == 143) || s.Src.Is6() && s.Proto == 0
	return s, !discovery
}

// natT is the port of IKE and ESP through NAT (RFC 3948): IKE has a marker of four zero bytes there.
const natT = 4500

// parseHeader reads what follows the IP header of a whole packet or first fragment.
func (s *Seen) parseHeader(b []byte) {
	switch {
	case s.Proto == unix.IPPROTO_ESP && len(b) >= 4:
		s.SPI = binary.BigEndian.Uint32(b)
	case s.Proto == unix.IPPROTO_AH && len(b) >= 8:
		s.SPI = binary.BigEndian.Uint32(b[4:])
	case (s.Proto == unix.IPPROTO_UDP || s.Proto == unix.IPPROTO_TCP) && len(b) >= 4:
		s.SrcPort, s.DstPort = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
		if s.Proto == unix.IPPROTO_UDP && (s.SrcPort == natT || s.DstPort == natT) && len(b) >= 16 {
			s.SPI = binary.BigEndian.Uint32(b[8:])
		}
	}
}
