package blackbox

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"tunneldirector/director/plane"
)

const (
	// retryMost is the longest pause, about, before a plane that failed is asked again.
	retryMost = 30 * time.Second
	// settled is how long a plane has not failed when it works.
	settled = 10 * time.Second
	// ringWaits is how long a sample waits for the ring's goroutine.
	ringWaits = time.Second
)

// A source is whether samples come from the plane.
type source struct {
	log *slog.Logger

	mu      sync.Mutex // guards what follows
	problem string     // why none come; "" if they do
}

// tell takes what became of asking the plane.
func (s *source) tell(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err == nil && s.problem != "":
		s.log.Info("samples of dropped packets are taken again")
	case err != nil && s.problem == "":
		s.log.Warn("samples of dropped packets cannot be taken, and are asked for again", "error", err)
	}
	s.problem = told(err)
}

func (s *source) says() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.problem
}

// sample takes samples from the plane until ctx ends. A plane that fails is asked again.
func (r *Recorder) sample(ctx context.Context) error {
	retry := backoff.NewExponentialBackOff()
	retry.MaxInterval = retryMost
	for {
		began := time.Now()
		works := time.AfterFunc(settled, func() { r.source.tell(nil) })
		err := r.o.Plane.Samples(ctx, func(s plane.Sample) { r.shown(ctx, s) })
		works.Stop()
		if ctx.Err() != nil {
			return nil
		}
		if err == nil {
			err = errors.New("the data plane has ended them")
		}
		r.source.tell(err)
		if time.Since(began) >= settled {
			retry.Reset()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(retry.NextBackOff()):
		}
	}
}

// shown gives a sample to who watches, and to the ring if the packet was dropped, and not only foretold to be. It waits for the ring's goroutine: the plane keeps
// samples meanwhile, and counts those that it cannot keep. But where that goroutine hangs, who watches must go on seeing what comes: then
// what is for the ring is lost.
func (r *Recorder) shown(ctx context.Context, s plane.Sample) {
	if s.Watched {
		r.watching.shown(s)
	}
	if !s.Reason.Drops() || s.Foretold {
		return
	}
	select {
	case r.samples <- s:
		r.full = false
		return
	default:
		if r.full {
			return
		}
	}
	wait := time.NewTimer(ringWaits)
	defer wait.Stop()
	select {
	case r.samples <- s:
	case <-wait.C:
		r.full = true
	case <-ctx.Done():
	}
}
