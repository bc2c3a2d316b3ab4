package probe

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"
)

// A socket sends and receives frames on one interface.
type socket struct {
	iface iface
	conn  *packet.Conn
	raw   syscall.RawConn
}

// openSocket is called in the right network namespace.
func openSocket(i *iface) (*socket, error) {
	prog, err := filter(i.mac, i.own())
	if err != nil {
		return nil, err
	}
	conn, err := packet.Listen(&net.Interface{Index: i.index, Name: i.name, HardwareAddr: i.mac}, packet.Raw, unix.ETH_P_ALL, &packet.Config{Filter: prog})
	if errors.Is(err, unix.EPERM) {
		return nil, fmt.Errorf("open packet socket on %s: %w; the process needs CAP_NET_RAW", i.name, err)
	}
	if err != nil {
		return nil, fmt.Errorf("open packet socket on %s: %w", i.name, err)
	}
	raw, err := conn.SyscallConn()
	if err == nil {
		// What this host sends is not ours to see. An old kernel (before 4.20) shows it, and the filter drops it.
		err = raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1) })
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return &socket{iface: *i, conn: conn, raw: raw}, nil
}

// own are an interface's addresses.
func (i *iface) own() (out []netip.Addr) {
	for _, p := range i.addrs {
		out = append(out, p.Addr())
	}
	return out
}

// send writes one frame, without waiting.
func (s *socket) send(frame []byte) error {
	var err error
	if cerr := s.raw.Control(func(fd uintptr) { _, err = unix.Write(int(fd), frame) }); cerr != nil {
		return cerr
	}
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.ENOBUFS) {
		return fmt.Errorf("%w (%w)", errBusy, err)
	}
	return err
}

// read waits for frames and gives all that are there: one wake-up for a bunch.
func (s *socket) read(p *parser, buf []byte) (out []answer, err error) {
	rerr := s.raw.Read(func(fd uintptr) bool {
		for {
			var n int
			n, err = unix.Read(int(fd), buf)
			switch {
			case errors.Is(err, unix.EINTR):
				continue
			case errors.Is(err, unix.ENETDOWN):
				continue // told once when the interface goes down; the socket lives on
			case errors.Is(err, unix.EAGAIN):
				err = nil
				return len(out) > 0
			case err != nil:
				return true
			}
			if a, ok := p.parse(buf[:n]); ok {
				a.at, a.iface = time.Now(), s.iface.name
				out = append(out, a)
			}
		}
	})
	return out, errors.Join(rerr, err)
}
