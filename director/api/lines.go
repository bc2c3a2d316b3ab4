package api

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"sync"
	"time"
)

// A lineReader splits a body into lines in constant memory. A line that is too long is skipped to its end.
type lineReader struct {
	r   *bufio.Reader
	max int
	buf []byte
}

func newLineReader(r io.Reader, maxLine int) *lineReader {
	return &lineReader{r: bufio.NewReaderSize(r, 64<<10), max: maxLine}
}

// What next found.
type lineKind uint8

const (
	lineWhole    lineKind = iota
	lineOverlong          // over the limit: only its beginning is given
	lineCut               // the body ended within it by an error, which comes next
)

// next gives a line without its end; it is valid until the next call. The error is io.EOF after the last line.
func (l *lineReader) next() ([]byte, lineKind, error) {
	l.buf = l.buf[:0]
	kind := lineWhole
	for {
		part, err := l.r.ReadSlice('\n')
		if room := l.max + 1 - len(l.buf); len(part) > room {
			kind = lineOverlong
			part = part[:max(room, 0)]
		}
		l.buf = append(l.buf, part...)
		switch {
		case err == nil:
			return bytes.TrimSpace(l.buf), kind, nil
		case errors.Is(err, bufio.ErrBufferFull):
		case len(l.buf) == 0:
			return nil, 0, err
		case errors.Is(err, io.EOF): // a last line without a newline
			if len(l.buf) > l.max {
				kind = lineOverlong
			}
			return bytes.TrimSpace(l.buf), kind, nil
		default:
			return bytes.TrimSpace(l.buf), lineCut, err
		}
	}
}

// waiting tells whether the next line is still to come over the network.
func (l *lineReader) waiting() bool { return l.r.Buffered() == 0 }

// A streamBody is a request's body with a deadline for each read, that can be stopped from another goroutine.
type streamBody struct {
	r           io.Reader
	setDeadline func(time.Time) error
	stopping    <-chan struct{} // closed when the server stops, which ends bodies too

	mu      sync.Mutex // guards stopped and the order of deadlines
	stopped error      // why it was stopped
}

func (b *streamBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	stopped := b.stopped
	if stopped == nil {
		_ = b.setDeadline(time.Now().Add(idleTimeout)) // not everything has deadlines
	}
	b.mu.Unlock()
	if stopped != nil {
		return 0, stopped
	}
	n, err := b.r.Read(p)
	if err == nil {
		return n, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case errors.Is(err, io.EOF):
		_ = b.setDeadline(time.Time{}) // else the request would be cancelled when it passes
	case b.stopped != nil:
		err = b.stopped
	case isClosed(b.stopping):
		err = errStopping
	}
	return n, err
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// stop makes reads fail with why. The one that waits fails too, at once if there is no use in talking on; else a moment
// later, since a chunked body that failed cannot be drained any more.
func (b *streamBody) stop(why error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stopped == nil {
		b.stopped = why
		until := time.Now().Add(drainTimeout)
		if errors.Is(why, errStopping) || errors.Is(why, errUnread) {
			until = time.Unix(1, 0)
		}
		_ = b.setDeadline(until)
	}
}
