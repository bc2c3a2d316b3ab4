package strongswan

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"

	"tunneldirector/realserver/terminator"
)

// A client is one connection to charon, for one command or to listen.
type client struct {
	c      net.Conn
	r      *bufio.Reader
	ctx    context.Context
	idle   time.Duration
	unhook func() bool
	head   [4]byte
	buffer []byte
}

// dial connects. The end of ctx breaks off whatever the client does, and so does silence for longer than the driver's Timeout.
func (d *Driver) dial(ctx context.Context) (*client, error) {
	wait, cancel := context.WithTimeout(ctx, d.o.Timeout)
	defer cancel()
	c, err := (&net.Dialer{}).DialContext(wait, "unix", d.o.Socket)
	if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNREFUSED) {
		err = fmt.Errorf("%w: %w", terminator.ErrGone, err)
	}
	if err != nil {
		return nil, fmt.Errorf("connect to charon: %w", err)
	}
	k := &client{c: c, r: bufio.NewReaderSize(c, 32<<10), ctx: ctx, idle: d.o.Timeout}
	k.unhook = context.AfterFunc(ctx, func() { c.Close() })
	return k, nil
}

func (k *client) close() {
	k.unhook()
	k.c.Close()
}

// why is an error as the caller should know it: that the context ended rather than that the connection was closed for it.
func (k *client) why(err error) error {
	switch cause := context.Cause(k.ctx); {
	case err == nil:
		return nil
	case cause != nil:
		return cause
	case errors.Is(err, io.EOF):
		return io.ErrUnexpectedEOF
	}
	return err
}

func (k *client) send(kind byte, name string, m message) error {
	b := binary.BigEndian.AppendUint32(nil, uint32(2+len(name)+len(m)))
	b = append(append(append(b, kind, byte(len(name))), name...), m...)
	if len(b) > maxPacket {
		return fmt.Errorf("send %s: %d bytes, at most %d", name, len(b), maxPacket)
	}
	if err := k.c.SetWriteDeadline(time.Now().Add(k.idle)); err != nil {
		return k.why(err)
	}
	_, err := k.c.Write(b)
	return k.why(err)
}

// receive waits for a packet, for at most patience (0: for ever). The message is of use until the next one.
func (k *client) receive(patience time.Duration) (kind byte, name string, m message, err error) {
	var until time.Time
	if patience > 0 {
		until = time.Now().Add(patience)
	}
	if err := k.c.SetReadDeadline(until); err != nil {
		return 0, "", nil, k.why(err)
	}
	if _, err := io.ReadFull(k.r, k.head[:]); err != nil {
		return 0, "", nil, k.why(err)
	}
	n := int(binary.BigEndian.Uint32(k.head[:]))
	if n == 0 || n > maxPacket {
		return 0, "", nil, fmt.Errorf("%w: a packet of %d bytes", errNonsense, n)
	}
	if cap(k.buffer) < n {
		k.buffer = make([]byte, max(n, 8<<10))
	}
	b := k.buffer[:n]
	if _, err := io.ReadFull(k.r, b); err != nil {
		return 0, "", nil, k.why(err)
	}
	if b[0] == event {
		r := reader{rest: b[1:]}
		name = string(r.take(int(r.byte())))
		if r.short {
			return 0, "", nil, fmt.Errorf("%w: an event without a name", errNonsense)
		}
		return event, name, r.rest, nil
	}
	return b[0], "", b[1:], nil
}

// register asks for an event; false: this charon does not know it.
func (k *client) register(name string) (bool, error) {
	if err := k.send(eventRegister, name, nil); err != nil {
		return false, err
	}
	for {
		switch kind, _, _, err := k.receive(k.idle); {
		case err != nil:
			return false, err
		case kind == eventConfirm:
			return true, nil
		case kind == eventUnknown:
			return false, nil
		case kind != event: // of those that are registered already
			return false, fmt.Errorf("%w: packet type %d for an event", errNonsense, kind)
		}
	}
}

// A refusal is charon's own word that it did not do what it was asked to.
type refusal struct{ says string }

func (r refusal) Error() string { return "charon says: " + r.says }

// call sends a command and hands out what it streams as the named event, until its answer; with no such name, the answer itself.
func (d *Driver) call(ctx context.Context, command string, m message, stream string, got func(message) error) error {
	k, err := d.dial(ctx)
	if err != nil {
		return err
	}
	defer k.close()
	if stream != "" {
		known, err := k.register(stream)
		if err == nil && !known {
			err = fmt.Errorf("it knows no event %s: %w", stream, terminator.ErrCannot)
		}
		if err != nil {
			return fmt.Errorf("ask charon for %s: %w", command, err)
		}
	}
	if err := k.exchange(command, m, stream != "", got); err != nil {
		return fmt.Errorf("ask charon for %s: %w", command, err)
	}
	return nil
}

// maxStream is how many messages one command may stream.
const maxStream = 200_000

func (k *client) exchange(command string, m message, streams bool, got func(message) error) error {
	if err := k.send(cmdRequest, command, m); err != nil {
		return err
	}
	for range maxStream {
		kind, _, m, err := k.receive(k.idle)
		switch {
		case err != nil:
			return err
		case kind == event && streams:
			if err := got(m); err != nil {
				return err
			}
		case kind == cmdResponse:
			if err := m.success(); err != nil || streams || got == nil {
				return err
			}
			return got(m)
		case kind == cmdUnknown:
			return fmt.Errorf("it knows no such command: %w", terminator.ErrCannot)
		default:
			return fmt.Errorf("%w: packet type %d for an answer", errNonsense, kind)
		}
	}
	return fmt.Errorf("%w: more than %d messages", errNonsense, maxStream)
}

// success is the refusal that an answer is, if it is one.
func (m message) success() error {
	failed, says := false, ""
	err := m.each(func(at sections, key, value []byte) error {
		switch {
		case len(at) > 0:
		case string(key) == "success":
			failed = string(value) != "yes"
		case string(key) == "errmsg":
			says = string(value)
		}
		return nil
	})
	if err == nil && failed {
		return refusal{says}
	}
	return err
}
