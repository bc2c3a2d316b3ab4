package route

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"syscall"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Messages go in batches: one sendmsg, and an acknowledgement for the last one only; those that fail answer anyway. The
// receive buffer has room for the failure of every one (about 1 KiB of kernel memory each).
const (
	batchMessages = 1000
	receiveBuffer = 4 << 20
	dumpBuffer    = 64 << 10
	answerTime    = 60 * time.Second // the kernel answers in its system call; that is for a machine that stands still
)

// A conn is a netlink socket.
type conn struct {
	c   *netlink.Conn
	raw syscall.RawConn
	seq uint32
	in  []byte
}

// dial opens a socket in a network namespace, with strict checking: dumps are filtered by the kernel, errors have a text.
func dial(ns int, groups uint32) (*conn, error) {
	c, err := netlink.Dial(unix.NETLINK_ROUTE, &netlink.Config{NetNS: ns, Groups: groups, Strict: true})
	if err != nil {
		return nil, fmt.Errorf("open rtnetlink: %w", err)
	}
	raw, err := c.SyscallConn()
	if err == nil {
		err = c.SetReadBuffer(receiveBuffer)
	}
	if err == nil {
		err = c.SetOption(netlink.CapAcknowledge, true)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open rtnetlink: %w", err), c.Close())
	}
	return &conn{c: c, raw: raw, in: make([]byte, dumpBuffer)}, nil
}

func (c *conn) close() error { return c.c.Close() }

func (c *conn) send(b []byte) (err error) {
	to := &unix.SockaddrNetlink{Family: unix.AF_NETLINK}
	if werr := c.raw.Write(func(fd uintptr) bool {
		err = unix.Sendto(int(fd), b, 0, to)
		return err != unix.EAGAIN
	}); werr != nil {
		return werr
	}
	return os.NewSyscallError("sendto", err)
}

// receive waits for what comes in; the slice is good until the next call.
func (c *conn) receive() (b []byte, err error) {
	n := 0
	if rerr := c.raw.Read(func(fd uintptr) bool {
		n, _, err = unix.Recvfrom(int(fd), c.in, 0)
		return err != unix.EAGAIN && err != unix.EINTR
	}); rerr != nil {
		return nil, rerr
	}
	return c.in[:max(n, 0)], os.NewSyscallError("recvfrom", err)
}

// split calls f for each message; body is what follows the header.
func split(b []byte, f func(h unix.NlMsghdr, body []byte) error) error {
	for len(b) >= unix.SizeofNlMsghdr {
		h := unix.NlMsghdr{Len: native.Uint32(b), Type: native.Uint16(b[4:]), Flags: native.Uint16(b[6:]), Seq: native.Uint32(b[8:]), Pid: native.Uint32(b[12:])}
		if int(h.Len) < unix.SizeofNlMsghdr || int(h.Len) > len(b) {
			return errors.New("netlink message cut short")
		}
		if err := f(h, b[unix.SizeofNlMsghdr:h.Len]); err != nil {
			return err
		}
		b = b[min((int(h.Len)+3)&^3, len(b)):]
	}
	return nil
}

// refusal is the error of an NLMSG_ERROR or NLMSG_DONE, nil for an acknowledgement; the kernel's text is in it.
func refusal(h unix.NlMsghdr, body []byte) error {
	code := int32(u32(body))
	if code == 0 {
		return nil
	}
	err := error(unix.Errno(-code))
	skip := 4
	if h.Type == unix.NLMSG_ERROR {
		skip += unix.SizeofNlMsghdr
	}
	if h.Flags&unix.NLM_F_ACK_TLVS != 0 && len(body) > skip {
		attributes(body[skip:], func(kind uint16, data []byte) {
			if kind == unix.NLMSGERR_ATTR_MSG {
				err = fmt.Errorf("%w (%s)", err, unix.ByteSliceToString(data))
			}
		})
	}
	return err
}

// exchange sends a batch and returns which messages were refused, by their number in it. starts are the messages' offsets.
func (c *conn) exchange(b []byte, starts []int) (map[int]error, error) {
	first := c.seq + 1
	for i, at := range starts {
		native.PutUint32(b[at+8:], first+uint32(i))
	}
	c.seq += uint32(len(starts))
	last := starts[len(starts)-1]
	native.PutUint16(b[last+6:], native.Uint16(b[last+6:])|unix.NLM_F_ACK)
	if err := c.c.SetReadDeadline(time.Now().Add(answerTime)); err != nil {
		return nil, err
	}
	if err := c.send(b); err != nil {
		return nil, err
	}
	refused := map[int]error{}
	for done := false; !done; {
		in, err := c.receive()
		if err != nil {
			return nil, err
		}
		err = split(in, func(h unix.NlMsghdr, body []byte) error {
			i := int(h.Seq - first)
			if h.Type != unix.NLMSG_ERROR || i < 0 || i >= len(starts) {
				return nil // of an exchange that was given up
			}
			if err := refusal(h, body); err != nil {
				refused[i] = err
			}
			done = done || i == len(starts)-1
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return refused, nil
}

// bulk sends a message per item and returns the refused ones. encode appends the message without its completion.
func bulk[T any](ctx context.Context, c *conn, items iter.Seq[T], encode func([]byte, T) []byte, refused func(T, error)) error {
	var b []byte
	var starts []int
	var batch []T
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		errs, err := c.exchange(b, starts)
		if err != nil {
			return err
		}
		for i, item := range batch {
			if err := errs[i]; err != nil {
				refused(item, err)
			}
		}
		b, starts, batch = b[:0], starts[:0], batch[:0]
		return ctx.Err()
	}
	for item := range items {
		start := len(b)
		b = encode(b, item)
		end(b, start)
		starts, batch = append(starts, start), append(batch, item)
		if len(batch) == batchMessages {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// dump asks for all objects of a kind and calls f for each, until f returns false.
func (c *conn) dump(request []byte, f func(kind uint16, body []byte) bool) error {
	c.seq++
	end(request, 0)
	native.PutUint16(request[6:], native.Uint16(request[6:])|unix.NLM_F_DUMP)
	native.PutUint32(request[8:], c.seq)
	if err := c.send(request); err != nil {
		return err
	}
	changed, done := false, false
	for !done {
		if err := c.c.SetReadDeadline(time.Now().Add(answerTime)); err != nil {
			return err
		}
		in, err := c.receive()
		if err != nil {
			return err
		}
		err = split(in, func(h unix.NlMsghdr, body []byte) error {
			changed = changed || h.Flags&unix.NLM_F_DUMP_INTR != 0
			switch {
			case done || h.Seq != c.seq:
			case h.Type == unix.NLMSG_DONE, h.Type == unix.NLMSG_ERROR:
				done = true
				return refusal(h, body)
			case !f(h.Type, body):
				done = true
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	if changed {
		return ErrChanged
	}
	return nil
}
