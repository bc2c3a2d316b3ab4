package api

import (
	"io"
	"sync"
)

const outboxSize = 64 << 10

// An outbox is a pipe that holds up to 64 KiB: what waits goes out as soon as the reader comes for it, so that a source
// that pauses leaves nothing behind, and one that is fast is read in large pieces.
type outbox struct {
	mu      sync.Mutex // guards what follows; writer and reader are two goroutines
	changed *sync.Cond
	buf     []byte
	end     error // for the reader, behind buf
	gone    error // for the writer
}

func newOutbox() *outbox {
	o := &outbox{}
	o.changed = sync.NewCond(&o.mu)
	return o
}

// Write waits for room.
func (o *outbox) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(o.buf) >= outboxSize && o.gone == nil {
		o.changed.Wait()
	}
	if o.gone != nil {
		return 0, o.gone
	}
	o.buf = append(o.buf, p...)
	o.changed.Broadcast()
	return len(p), nil
}

// Read waits for something.
func (o *outbox) Read(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(o.buf) == 0 && o.end == nil && o.gone == nil {
		o.changed.Wait()
	}
	switch {
	case o.gone != nil:
		return 0, o.gone
	case len(o.buf) == 0:
		return 0, o.end
	}
	n := copy(p, o.buf)
	if o.buf = o.buf[n:]; len(o.buf) == 0 {
		o.buf = nil
	}
	o.changed.Broadcast()
	return n, nil
}

// finish ends what is written; nil: in good order.
func (o *outbox) finish(err error) {
	if err == nil {
		err = io.EOF
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.end = err
	o.changed.Broadcast()
}

// hangUp makes writes fail.
func (o *outbox) hangUp(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.gone == nil {
		o.gone = err
	}
	o.changed.Broadcast()
}

// Close hangs up; the HTTP client calls it.
func (o *outbox) Close() error {
	o.hangUp(io.ErrClosedPipe)
	return nil
}
