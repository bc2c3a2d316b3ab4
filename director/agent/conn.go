package agent

import (
	"bufio"
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

	mu sync.Mutex // guards writing
	w  []byte
}

// NewConn makes a Conn of a connection whose ends have proved who they are.
func NewConn(c net.Conn) *Conn { return &Conn{c: c, r: bufio.NewReaderSize(c, 64<<10)} }

var (
	encoder = func() cbor.EncMode {
		m, err := cbor.EncOptions{Time: cbor.TimeUnixMicro}.EncMode()
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

// Send writes a message. It blocks for at most Patience.
func (c *Conn) Send(m Message) error {
	body, err := encoder.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode message: %w", err)
	}
	if len(body) > MaxFrame {
		return fmt.Errorf("message of %d bytes: at most %d", len(body), MaxFrame)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.w = append(binary.BigEndian.AppendUint32(c.w[:0], uint32(len(body))), body...)
	if err := c.c.SetWriteDeadline(time.Now().Add(Patience)); err != nil {
		return err
	}
	_, err = c.c.Write(c.w)
	return err
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
		return Message{}, fmt.Errorf("decode message: %w", err)
	}
	return m, m.check()
}

// Close ends the stream; a Receive that waits returns an error.
func (c *Conn) Close() error { return c.c.Close() }

// check holds a message to the bounds.
func (m *Message) check() error {
	switch {
	case m.Hello != nil && len(m.Hello.RealServers) > MaxServers:
		return fmt.Errorf("hello for %d real servers: at most %d", len(m.Hello.RealServers), MaxServers)
	case m.Report != nil:
		return m.Report.check()
	case m.Order != nil && len(m.Order.Tunnels) > MaxTunnels:
		return fmt.Errorf("order for %d tunnels: at most %d", len(m.Order.Tunnels), MaxTunnels)
	case m.Progress != nil && len(m.Progress.Tunnels) > MaxTunnels:
		return fmt.Errorf("progress of %d tunnels: at most %d", len(m.Progress.Tunnels), MaxTunnels)
	case m.Status != nil && (m.Status.Health > HealthDead || len(m.Status.Cause) > MaxText || len(m.Status.Load.Parts) > 256):
		return errors.New("status out of its bounds")
	}
	return nil
}

func (r *Report) check() error {
	if len(r.Up) > MaxTunnels || len(r.Down) > MaxTunnels {
		return fmt.Errorf("report of %d tunnels: at most %d", max(len(r.Up), len(r.Down)), MaxTunnels)
	}
	for i := range r.Up {
		t := &r.Up[i]
		switch {
		case t.Peer == "" || len(t.Peer) > MaxText:
			return fmt.Errorf("report: a peer's name of %d bytes: 1 to %d", len(t.Peer), MaxText)
		case len(t.Subnets) > MaxSubnets:
			return fmt.Errorf("report: %d subnets of peer %q: at most %d", len(t.Subnets), t.Peer, MaxSubnets)
		case !t.Endpoint.Addr().IsValid():
			return fmt.Errorf("report: peer %q has no endpoint", t.Peer)
		}
	}
	return nil
}
