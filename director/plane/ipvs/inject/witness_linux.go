package inject

import (
	"encoding/binary"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A witness is a socket of ours beside the daemon's: the kernel gives each of them a copy of what comes to the group on the
// near end. What the witness has seen has passed the cable and every packet filter. It is bound to the port alone, so that
// it is not taken for the daemon's.
type witness struct{ socket int }

// watch opens a witness in the thread's network namespace.
func watch(index int, o Options) (_ *witness, err error) {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	err = errors.Join(
		unix.SetsockoptInt(s, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
		unix.SetsockoptInt(s, unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, index),
		unix.SetsockoptIPMreqn(s, unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP, &unix.IPMreqn{Multiaddr: o.Group.As4(), Ifindex: int32(index)}),
		unix.Bind(s, &unix.SockaddrInet4{Port: int(o.Port)}),
	)
	if err != nil {
		return nil, errors.Join(err, unix.Close(s))
	}
	return &witness{socket: s}, nil
}

// take reads what has come: how many messages with entries, until the marker of this number or until there is no more.
func (w *witness) take(marker uint64) (messages int, marked bool, err error) {
	var b [markerSize]byte // the rest of a longer message is not read
	for {
		n, _, err := unix.Recvfrom(w.socket, b[:], 0)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return messages, false, nil
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return messages, false, os.NewSyscallError("recvfrom", err)
		case n < markerSize:
			continue
		case b[4] != 0:
			messages++
		case binary.BigEndian.Uint64(b[headerSize:]) == marker:
			return messages, true, nil
		}
	}
}

// wait returns when there is something to take, or after a time.
func (w *witness) wait(d time.Duration) error {
	fds := []unix.PollFd{{Fd: int32(w.socket), Events: unix.POLLIN}}
	if _, err := unix.Poll(fds, int(d.Milliseconds())); err != nil && !errors.Is(err, unix.EINTR) {
		return os.NewSyscallError("poll", err)
	}
	return nil
}

func (w *witness) Close() error { return unix.Close(w.socket) }
