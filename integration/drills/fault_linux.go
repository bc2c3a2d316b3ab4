package drills

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"tunneldirector/director/drill"
)

// undoing is how long a fault may take to be undone by the World itself.
const undoing = 30 * time.Second

// An undo takes a fault back. Where it fails it may be called again.
type undo = func(context.Context) error

// A fault is in place until it is undone: by whoever made it, when its time is over, or with the World.
//
//	made ──▶ in place ── Undo, or its time is over ──▶ undone
//	             ▲ │
//	             └─┘ it failed: again after a second, until Close
type fault struct {
	drill.Fault
	w *World

	mu    sync.Mutex // guards what follows
	undo  undo       // nil: undone
	timer *time.Timer
}

// Inject makes a fault; it is undone by itself when its time is over, counted from when it was made. Its errors, and those of undoing, do
// not say which fault it is: who asks knows.
func (w *World) Inject(ctx context.Context, f drill.Fault) (func(context.Context) error, error) {
	if f.For <= 0 {
		return nil, fmt.Errorf("for %v: a fault has an end", f.For)
	}
	if w.isClosed() {
		return nil, errors.New("the lab is closed")
	}
	u, err := w.befall(ctx, f)
	if u == nil || errors.Is(err, drill.ErrRefused) {
		return nil, err
	}
	x := &fault{Fault: f, w: w, undo: u}
	x.mu.Lock()
	x.timer = time.AfterFunc(f.For, x.expire)
	x.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.faults = append(w.faults, x)
	return x.end, err
}

func (w *World) isClosed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.closed
}

// end undoes it, if that is not done.
func (x *fault) end(ctx context.Context) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.undo == nil {
		return nil
	}
	if err := x.undo(ctx); err != nil {
		return err
	}
	x.undo = nil
	x.timer.Stop()
	return nil
}

// expire ends it when its time is over.
func (x *fault) expire() {
	ctx, cancel := context.WithTimeout(context.Background(), undoing)
	defer cancel()
	err := x.end(ctx)
	if err == nil {
		return
	}
	x.w.o.Logger.Warn("a fault whose time is over is still in place", "kind", x.Kind, "target", x.Target, "error", err)
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.w.isClosed() {
		x.timer.Reset(time.Second)
	}
}

// undoAll undoes all that is in place, and lets nothing more be made.
func (w *World) undoAll() error {
	w.mu.Lock()
	w.closed = true
	faults := w.faults
	w.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), undoing)
	defer cancel()
	var errs []error
	for _, x := range faults {
		if err := x.end(ctx); err != nil {
			errs = append(errs, fmt.Errorf("undo %s of %s: %w", x.Kind, x.Target, err))
		}
		x.timer.Stop()
	}
	return errors.Join(errs...)
}
