package probe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// A socket sends and receives frames on one interface. It is not known to Go's poller, on purpose: that would wake a thread
// for each frame, while the loop comes by every tick anyway. The kernel notes when each frame came.
type socket struct {
	iface iface
	fd    int
	buf   [2048]byte
	oob   [64]byte
	parse *parser
}

// openSocket is called in the right network namespace.
func openSocket(i *iface) (*socket, error) {
	// Protocol 0 receives nothing until bind, when the filter is there.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open packet socket on %s: %w", i.name, err)
	}
	s := &socket{iface: *i, fd: fd, parse: newParser()}
	err = s.refilter(i)
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)
	}
	if err == nil {
		// What this host sends is not ours to see. A kernel before 4.20 shows it, and the filter drops it.
		_ = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1)
		all := binary.NativeEndian.Uint16([]byte{unix.ETH_P_ALL >> 8, unix.ETH_P_ALL & 0xff})
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: i.index})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open packet socket on %s: %w", i.name, err), s.close())
	}
	return s, nil
}

// refilter lets through answers to the interface's addresses as they are now.
func (s *socket) refilter(i *iface) error {
	prog, err := filter(i.mac, i.own())
	if err != nil {
		return err
	}
	s.iface.addrs = i.addrs
	if err := unix.SetsockoptSockFprog(s.fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, fprog(prog)); err != nil {
		return fmt.Errorf("attach filter to the packet socket on %s: %w", i.name, err)
	}
	return nil
}

func fprog(prog []bpf.RawInstruction) *unix.SockFprog {
	code := make([]unix.SockFilter, len(prog))
	for n, i := range prog {
		code[n] = unix.SockFilter{Code: i.Op, Jt: i.Jt, Jf: i.Jf, K: i.K}
	}
	return &unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
}

func (s *socket) close() error { return unix.Close(s.fd) }

// send writes one frame, without waiting.
func (s *socket) send(frame []byte) error {
	_, err := unix.Write(s.fd, frame)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.ENOBUFS) {
		return fmt.Errorf("%w (%w)", errBusy, err)
	}
	return err
}

// receive calls f for each answer that is there, without waiting.
func (s *socket) receive(f func(answer)) {
	for {
		n, oobn, _, _, err := unix.Recvmsg(s.fd, s.buf[:], s.oob[:], 0)
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ENETDOWN): // the latter is told once when the interface goes down
			continue
		case err != nil:
			return // nothing there; a socket whose interface is gone is replaced when the host is looked at
		}
		if a, ok := s.parse.parse(s.buf[:n]); ok {
			a.at, a.iface = arrival(s.oob[:oobn], time.Now()), s.iface.name
			f(a)
		}
	}
}

// arrival is when the kernel took a frame in, on the monotonic clock of now; now itself if that is not told, or if the wall
// clock was set in between.
func arrival(oob []byte, now time.Time) time.Time {
	const header, size = unix.SizeofCmsghdr, 16 // struct timespec
	if len(oob) < header+size || binary.NativeEndian.Uint32(oob[12:]) != unix.SO_TIMESTAMPNS {
		return now
	}
	sec, nsec := binary.NativeEndian.Uint64(oob[header:]), binary.NativeEndian.Uint64(oob[header+8:])
	if age := now.Sub(time.Unix(int64(sec), int64(nsec))); age > 0 && age < time.Second {
		return now.Add(-age)
	}
	return now
}
