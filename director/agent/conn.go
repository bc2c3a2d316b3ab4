package agent

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// A Conn sends and receives messages. One goroutine receives; any may send.
type Conn struct {
	c net.Conn
	r *bufio.Reader

	mu     sync.Mutex // guards writing
	w      bytes.Buffer
	broken error // of a write that failed, perhaps within a frame
}

// NewConn makes a Conn of a connection whose ends have proved who they are.
func NewConn(c net.Conn) *Conn { return &Conn{c: c, r: bufio.NewReaderSize(c, readAhead)} }

const (
	// readAhead is for small messages. What is larger is read to where it goes, and TLS gathers what comes by itself.
	readAhead = 4 << 10
	// keptWrite is the largest buffer that is kept for the next message: reports of all tunnels come once, and of what changed at each look.
	// Those of 10,000 tunnels at rest have 80 KiB.
	keptWrite = 192 << 10
)

var (
	encoder = func() cbor.UserBufferEncMode {
		// As text a time comes back exactly; as a float it would be another one each time that it is passed on.
		m, err := cbor.EncOptions{Time: cbor.TimeRFC3339NanoUTC}.UserBufferEncMode()
		if err != nil {
			panic(err)
		}
		return m
	}()
	decoder = func() cbor.DecMode {
		m, err := cbor.DecOptions{DupMapKey: cbor.DupMapKeyEnforcedAPF, MaxNestedLevels: 8, MaxArrayElements: 16 << 10, MaxMapPairs: 256,
			IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden}.DecMode()
		if err != nil {
			panic(err)
		}
		return m
	}()
)

// Send writes a message; a write takes at most Patience. Nothing is written of a message that breaks the bounds. After a write
// that failed the stream is of no use, and the error stays.
func (c *Conn) Send(m Message) error {
	if err := m.check(); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken != nil {
		return c.broken
	}
	defer c.shrink()
	const head = 4
	c.w.Reset()
	c.w.Write(make([]byte, head))
	if err := encoder.MarshalToBuffer(m, &c.w); err != nil {
		return fmt.Errorf("encode message: %w", err)
	}
	frame := c.w.Bytes()
	if n := len(frame) - head; n > MaxFrame {
		return fmt.Errorf("message of %d bytes: at most %d", n, MaxFrame)
	}
	binary.BigEndian.PutUint32(frame, uint32(len(frame)-head))
	if err := c.c.SetWriteDeadline(time.Now().Add(Patience)); err != nil {
		return err
	}
	_, c.broken = c.c.Write(frame)
	return c.broken
}

// shrink lets go of a buffer that was made for one large message.
func (c *Conn) shrink() {
	if c.w.Cap() > keptWrite {
		c.w = bytes.Buffer{}
	}
}

// Receive waits for the next message, for at most Patience. What breaks the bounds is an error; the stream is of no use then.
func (c *Conn) Receive() (Message, error) {
	var m Message
	if err := c.c.SetReadDeadline(time.Now().Add(Patience)); err != nil {
		return m, err
	}
	var head [4]byte
	if _, err := io.ReadFull(c.r, head[:]); err != nil {
		return m, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > MaxFrame {
		return m, fmt.Errorf("message of %d bytes: at most %d", n, MaxFrame)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(c.r, body); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return m, err
	}
	if err := decoder.Unmarshal(body, &m); err != nil {
		return Message{}, fmt.Errorf("decode message: %v", err) // not wrapped: io.EOF is the end of the stream, not of a body
	}
	if err := m.check(); err != nil {
		return Message{}, fmt.Errorf("receive: %w", err)
	}
	return m, nil
}

// Close ends the stream; a Receive that waits returns an error.
func (c *Conn) Close() error { return c.c.Close() }
