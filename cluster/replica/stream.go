package replica

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	silence   = 5 * time.Second // without a byte from the peer, or with none taken by it, the connection is given up
	pingEvery = time.Second
	chunk     = 64 << 10 // bytes written under one deadline
)

// traffic counts bytes by kind of message.
type traffic struct{ sent, received [kinds]atomic.Int64 }

// A stream is a connection that carries frames. One goroutine reads; any may write.
type stream struct {
	conn  net.Conn
	in    *bufio.Reader
	count *traffic

	mu     sync.Mutex // guards writing
	out    []byte
	broken error // of a write that failed, perhaps within a frame
}

func newStream(conn net.Conn, count *traffic) *stream {
	return &stream{conn: conn, in: bufio.NewReaderSize(patient{conn}, 32<<10), count: count}
}

// patient gives each read time anew, so that a slow connection is not taken for a silent one.
type patient struct{ net.Conn }

func (p patient) Read(b []byte) (int, error) {
	if err := p.SetReadDeadline(time.Now().Add(silence)); err != nil {
		return 0, err
	}
	return p.Conn.Read(b)
}

// read waits for the next message. It skips what may be ignored.
func (s *stream) read() (message, error) {
	for {
		var head [5]byte
		if _, err := io.ReadFull(s.in, head[:]); err != nil {
			return nil, err
		}
		n, k := int64(binary.BigEndian.Uint32(head[:]))-1, kind(head[4])
		if n < 0 || n > int64(k.limit()) {
			return nil, fmt.Errorf("%v of %d bytes, the limit is %d: %w", k, n, k.limit(), errGarbage)
		}
		if k&mayIgnore != 0 {
			s.count.received[0].Add(n + 5)
			if _, err := io.CopyN(io.Discard, s.in, n); err != nil {
				return nil, unexpected(err)
			}
			continue
		}
		body := make([]byte, n)
		if _, err := io.ReadFull(s.in, body); err != nil {
			return nil, unexpected(err)
		}
		m, err := decode(k, body)
		if err == nil {
			s.count.received[k].Add(n + 5)
		}
		return m, err
	}
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// write sends a message. After a write that failed the stream is of no use, and the error stays.
func (s *stream) write(m message) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return s.broken
	}
	s.out = m.append(append(s.out[:0], 0, 0, 0, 0, byte(m.kind())))
	if n := len(s.out) - 5; n > m.kind().limit() {
		return fmt.Errorf("send %v of %d bytes: the limit is %d", m.kind(), n, m.kind().limit())
	}
	binary.BigEndian.PutUint32(s.out, uint32(len(s.out)-4))
	for rest := s.out; len(rest) > 0; {
		now := rest[:min(len(rest), chunk)]
		s.broken = s.conn.SetWriteDeadline(time.Now().Add(silence))
		if s.broken == nil {
			_, s.broken = s.conn.Write(now)
		}
		if s.broken != nil {
			return s.broken
		}
		rest = rest[len(now):]
	}
	s.count.sent[m.kind()].Add(int64(len(s.out)))
	return nil
}
