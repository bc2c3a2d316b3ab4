package fault

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	effectLimit = 10 * time.Second // that an effect may take to be made, or undone
	again       = time.Second      // between attempts to undo, and looks at the clock
	lastLimit   = 12 * time.Second // that Run takes at its end to undo what is in place
	voidFor     = time.Minute      // that a fault, undone before it was made, is not made any more
	maxVoid     = 1024             // such faults
)

// ErrHeld is wrapped by the error of Open if another process has the directory. That one may only be about to undo what it found there,
// which takes no longer than UndoLimit.
var ErrHeld = errors.New("another process has it")

// UndoLimit is how long Open takes at most to undo what it finds.
const UndoLimit = effectLimit

// errClosed is of a Ledger whose Run has ended.
var errClosed = errors.New("the ledger of faults is closed: the daemon stops")

// A Ledger is the faults of this machine. Its methods may be called from any goroutine; those that make and undo wait for Run.
type Ledger struct {
	dir     string
	effects Effects
	log     *slog.Logger
	lock    *os.File

	calls chan func()
	done  chan result   // of effects
	over  chan struct{} // closed when Run has ended
	shown atomic.Pointer[[]Standing]

	undid []Standing // of Open

	all  map[string]*entry    // Run's
	void map[string]time.Time // Run's: when what was not there was undone
}

// Open takes a directory, and undoes all that is recorded there from before: after a crash, or a boot. What cannot be undone now stays,
// with its error, and Run goes on trying. The directory is made if it is not there. An error is that it cannot be read, or that another
// process has it.
func Open(ctx context.Context, dir string, effects Effects, log *slog.Logger) (*Ledger, error) {
	l := &Ledger{dir: dir, effects: effects, log: log, calls: make(chan func()), over: make(chan struct{}), all: map[string]*entry{}, void: map[string]time.Time{}}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open the ledger of faults: %w", err)
	}
	var err error
	if l.lock, err = lock(dir); err != nil {
		return nil, fmt.Errorf("open the ledger of faults %s: %w", dir, err)
	}
	left, err := l.read()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the ledger of faults: %w", err), l.lock.Close())
	}
	l.done = make(chan result, MaxFaults+len(left)) // one of each
	var g errgroup.Group
	errs := make([]error, len(left))
	for i, e := range left {
		l.all[e.ID] = e
		g.Go(func() error { errs[i] = l.takeBack(ctx, e); return nil })
	}
	_ = g.Wait() // each has its own error
	for i, e := range left {
		if l.undone(e, errs[i]); l.all[e.ID] == nil {
			l.undid = append(l.undid, e.standing())
		}
	}
	l.show()
	return l, nil
}

// Left is what Open found and has undone.
func (l *Ledger) Left() []Standing { return l.undid }

// Close lets go of the directory. What is in place stays, and is undone by who opens it next. Run must have ended, or never begun.
func (l *Ledger) Close() error { return l.lock.Close() }

// List is what is recorded, the oldest first. It never waits.
func (l *Ledger) List() []Standing { return *l.shown.Load() }

// show publishes what is recorded.
func (l *Ledger) show() {
	list := []Standing{}
	for _, e := range l.all {
		list = append(list, e.standing())
	}
	slices.SortFunc(list, func(a, b Standing) int { return cmp.Or(a.Made.Compare(b.Made), cmp.Compare(a.ID, b.ID)) })
	l.shown.Store(&list)
}

// Inject makes a fault and returns when it is made; the record is on the disk before. On an error there is none, or List has it as one
// that is being undone. The same fault again, by its ID, is made once. If ctx ends before it is made, it is made nevertheless, and undone
// after its time.
func (l *Ledger) Inject(ctx context.Context, f Fault) error {
	if err := f.check(); err != nil {
		return err
	}
	of, err := json.Marshal(f.Effect)
	if err != nil {
		return fmt.Errorf("record fault %s: %w", f.ID, err)
	}
	return l.ask(ctx, func(answer chan error) {
		e, ok := l.all[f.ID]
		if !ok || e.Kind != f.Kind || e.Target != f.Target || e.undo {
			if err := l.admit(&f); err != nil {
				answer <- err
				return
			}
			now := time.Now()
			e = &entry{effect: f.Effect, began: now, record: record{Format: format, ID: f.ID, Kind: f.Kind, Target: f.Target, By: f.By,
				Made: now.Round(0).UTC(), Until: now.Round(0).UTC().Add(f.For), Millis: f.For.Milliseconds(), Name: f.Effect.Name(), Effect: of}}
			if err := l.write(&e.record); err != nil {
				answer <- fmt.Errorf("%w: fault %s cannot be recorded, and is not made: %w", ErrRefused, f.ID, err)
				return
			}
			l.all[f.ID] = e
		}
		if e.phase == standing {
			answer <- nil
			return
		}
		e.making = append(e.making, answer)
	})
}

// May says why Inject would refuse a fault now.
func (l *Ledger) May(ctx context.Context, f Fault) error {
	if err := f.check(); err != nil {
		return err
	}
	return l.ask(ctx, func(answer chan error) { answer <- l.admit(&f) })
}

// admit says why a fault is not to be made, or why there is no room for it.
func (l *Ledger) admit(f *Fault) error {
	if at, ok := l.void[f.ID]; ok && time.Since(at) < voidFor {
		return fmt.Errorf("%w: fault %s was undone before it was made", ErrRefused, f.ID)
	}
	for _, e := range l.all {
		if e.ID == f.ID || e.Kind == f.Kind && e.Target == f.Target {
			return fmt.Errorf("%w: fault %s (%s of %s) is in place until %s; undo it first", ErrRefused, e.ID, e.Kind, e.Target, e.Until.Format(time.RFC3339))
		}
	}
	if len(l.all) >= MaxFaults {
		return fmt.Errorf("%w: %d faults are in place, and there are at most %d at once; undo some", ErrRefused, len(l.all), MaxFaults)
	}
	return nil
}

// Undo undoes a fault and returns when that is done, or has failed: then it is tried again every second. What is not there is undone,
// and Inject refuses it for a minute: an order to undo may overtake the one to make.
func (l *Ledger) Undo(ctx context.Context, id string) error {
	return l.ask(ctx, func(answer chan error) {
		switch e, ok := l.all[id]; {
		case !ok:
			answer <- l.avoid(id, time.Now())
		case e.broken != nil:
			answer <- e.broken
		default:
			e.undo, e.tried = true, time.Time{}
			e.waiting = append(e.waiting, answer)
		}
	})
}

// avoid notes that a fault is not to be made.
func (l *Ledger) avoid(id string, now time.Time) error {
	maps.DeleteFunc(l.void, func(_ string, at time.Time) bool { return now.Sub(at) >= voidFor })
	if len(l.void) >= maxVoid {
		return fmt.Errorf("undo fault %s: it is not there, and %d such were undone within %v; ask again later", id, maxVoid, voidFor)
	}
	l.void[id] = now
	return nil
}

// ask has Run do something and waits for its answer.
func (l *Ledger) ask(ctx context.Context, do func(answer chan error)) error {
	answer := make(chan error, 1)
	select {
	case l.calls <- func() { do(answer) }:
	case <-l.over:
		return errClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-answer:
		return err
	case <-l.over:
		return errClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}
