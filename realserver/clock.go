package realserver

import (
	"context"
	"sync"
	"time"
)

// A wall tells by how much the wall clock was set: how it differs from the time that went by.
type wall struct{ last time.Time }

// step is by how much it was set since the call before. Readings lie apart by less than jitter for other reasons.
func (w *wall) step(now time.Time) time.Duration {
	before := w.last
	w.last = now
	if before.IsZero() {
		return 0
	}
	return stepOf(now.Round(0).Sub(before.Round(0)), now.Sub(before))
}

// stepOf compares what the wall clock says to have passed with what passed.
func stepOf(wall, passed time.Duration) time.Duration {
	const jitter = 500 * time.Millisecond
	if d := wall - passed; d.Abs() > jitter {
		return d
	}
	return 0
}

// A door lets everyone through who waits for something that began not before they came.
type door struct {
	mu    sync.Mutex
	last  time.Time     // when the last one began
	waits chan struct{} // closed when the next one is over; nil: nobody waits
}

// open is called when one that began at a time is over.
func (d *door) open(began time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last = began
	if d.waits != nil {
		close(d.waits)
		d.waits = nil
	}
}

// pass waits for one that began not before a time, and calls ask whenever it has to wait.
func (d *door) pass(ctx context.Context, after time.Time, ask func()) error {
	for {
		d.mu.Lock()
		if !d.last.Before(after) {
			d.mu.Unlock()
			return nil
		}
		if d.waits == nil {
			d.waits = make(chan struct{})
		}
		c := d.waits
		d.mu.Unlock()
		ask()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c:
		}
	}
}
