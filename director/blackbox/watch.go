package blackbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"tunneldirector/director/plane"
)

const (
	// watchFor is how long the plane watches after the last word from here.
	watchFor = 10 * time.Second
	// watchAgain is how often it is told to go on.
	watchAgain = 3 * time.Second
	// watchWaits is how many samples wait for who watches; more are lost.
	watchWaits = 256
)

// ErrWatched is returned to who would watch while somebody does.
type ErrWatched struct {
	By    string // who watches
	Since time.Time
}

func (e ErrWatched) Error() string {
	return fmt.Sprintf("%s watches packets since %s, and one at a time can: try again when that has ended", e.By, e.Since.UTC().Format(time.RFC3339))
}

// watching is the one who watches.
type watching struct {
	mu      sync.Mutex        // guards what follows
	samples chan plane.Sample // nil: nobody watches
	by      string
	since   time.Time
}

// begin gives the channel of samples to who watches now.
func (w *watching) begin(by string) (<-chan plane.Sample, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.samples != nil {
		return nil, ErrWatched{By: w.by, Since: w.since}
	}
	w.samples, w.by, w.since = make(chan plane.Sample, watchWaits), by, time.Now()
	return w.samples, nil
}

func (w *watching) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.samples = nil
}

// shown gives a copy of a sample to who watches, and never waits.
func (w *watching) shown(s plane.Sample) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.samples == nil {
		return
	}
	s.Head = bytes.Clone(s.Head)
	select {
	case w.samples <- s:
	default:
	}
}

// Watch calls f for packets that fit w, as they come, whatever becomes of them, from this goroutine until ctx ends, which is no
// error, or f fails. One watches at a time: another is refused with ErrWatched. Packets that come faster than f returns are lost.
func (r *Recorder) Watch(ctx context.Context, by string, w plane.Watch, f func(plane.Sample) error) (err error) {
	if problem := r.source.says(); problem != "" {
		return fmt.Errorf("watch packets: the data plane shows none: %s", problem)
	}
	samples, err := r.watching.begin(by)
	if err != nil {
		return err
	}
	defer r.watching.end() // after the plane's watch has: the next one's must not be ended
	if err := r.o.Plane.Watch(w, time.Now().Add(watchFor)); err != nil {
		return fmt.Errorf("watch packets: %w", err)
	}
	defer func() {
		if e := r.o.Plane.Watch(plane.Watch{}, time.Time{}); e != nil { // it ends by itself, too
			err = errors.Join(err, fmt.Errorf("end a watch of packets: %w", e))
		}
	}()
	tick := time.NewTicker(watchAgain)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.ended:
			return errEnded
		case s := <-samples:
			if err := f(s); err != nil {
				return err
			}
		case <-tick.C:
			if err := r.o.Plane.Watch(w, time.Now().Add(watchFor)); err != nil {
				return fmt.Errorf("watch packets: %w", err)
			}
		}
	}
}
