package fault

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
)

// An entry is a fault that is recorded.
//
//	          Do                asked for, or its time is over
//	making ──────▶ standing ─────────────────────────▶ undoing ──▶ forgotten
//	                ▲  ▲  │  Do failed: at once            │
//	                │  └──┘                                │ failed: again after a second
//	                └──────────────────────────────────────┘
type entry struct {
	record
	effect  Effect
	broken  error     // of a record that cannot be read: there is nothing that could be undone by it
	began   time.Time // with a monotonic reading; zero: before this run
	phase   phase
	undo    bool         // wanted
	tried   time.Time    // when Undo failed last
	err     error        // of that
	doErr   error        // why it was not made
	making  []chan error // of who wait for it to be made
	waiting []chan error // or for the next end of Undo
}

// A phase is what is done with an entry.
type phase uint8

const (
	fresh phase = iota // recorded; Do has not begun
	doing
	standing // nothing is done
	undoing
)

// A result is what Do or Undo of an entry returned.
type result struct {
	e   *entry
	err error
}

// due tells whether a fault's time is over: by the time that went by, or by the wall clock. So a clock that jumps back does not lengthen
// it, nor does a machine that sleeps.
func (e *entry) due(now time.Time) bool {
	return e.began.IsZero() || now.Sub(e.began) >= e.lasts() || !now.Round(0).Before(e.Until)
}

func (e *entry) lasts() time.Duration { return time.Duration(e.Millis) * time.Millisecond }

func (e *entry) standing() Standing {
	s := Standing{ID: e.ID, Kind: e.Kind, Target: e.Target, By: e.By, Made: e.Made, Until: e.Until}
	if e.err != nil {
		s.Error = e.err.Error()
	}
	return s
}

// Run makes faults and undoes them until ctx ends. Then it undoes all that are in place, and returns nil.
func (l *Ledger) Run(ctx context.Context) error {
	defer close(l.over)
	var g errgroup.Group
	defer func() { _ = g.Wait() }()
	effects := context.WithoutCancel(ctx) // those that have begun are finished
	for ctx.Err() == nil {
		l.step(effects, &g, time.Now())
		l.wait(ctx.Done(), l.calls)
	}
	for _, e := range l.all {
		e.undo, e.tried = true, time.Time{}
	}
	limit := make(chan struct{})
	defer time.AfterFunc(lastLimit, func() { close(limit) }).Stop()
	for stop := false; !stop && l.busy(); {
		l.step(effects, &g, time.Now())
		stop = l.wait(limit, nil)
	}
	l.show()
	return nil
}

// wait takes in one thing that happens, and tells whether that is the end.
func (l *Ledger) wait(end <-chan struct{}, calls chan func()) bool {
	l.show()
	timer := time.NewTimer(l.next(time.Now()))
	defer timer.Stop()
	select {
	case <-end:
		return true
	case call := <-calls:
		call()
	case r := <-l.done:
		l.settle(r)
	case <-timer.C:
	}
	return false
}

// busy tells whether there is anything that could be undone still.
func (l *Ledger) busy() bool {
	for _, e := range l.all {
		if e.broken == nil {
			return true
		}
	}
	return false
}

// next is how long nothing is due.
func (l *Ledger) next(now time.Time) time.Duration {
	if !l.busy() {
		return time.Hour
	}
	wait := again // the wall clock may be set meanwhile
	for _, e := range l.all {
		switch {
		case e.phase != standing || e.broken != nil:
		case e.undo:
			wait = min(wait, e.tried.Add(again).Sub(now))
		default:
			wait = min(wait, e.began.Add(e.lasts()).Sub(now))
		}
	}
	return max(wait, 0)
}

// step begins what is due.
func (l *Ledger) step(ctx context.Context, g *errgroup.Group, now time.Time) {
	for _, e := range l.all {
		e.undo = e.undo || e.due(now)
		switch {
		case e.broken != nil:
		case e.phase == fresh && !e.undo:
			e.phase = doing
			g.Go(func() error { l.done <- result{e, l.bring(ctx, e)}; return nil })
		case (e.phase == standing || e.phase == fresh) && e.undo && now.Sub(e.tried) >= again:
			e.phase = undoing
			g.Go(func() error { l.done <- result{e, l.takeBack(ctx, e)}; return nil })
		}
	}
}

// bring runs an entry's Do.
func (l *Ledger) bring(ctx context.Context, e *entry) error {
	ctx, cancel := context.WithTimeout(ctx, effectLimit)
	defer cancel()
	return e.effect.Do(ctx, e.ID, e.lasts())
}

// takeBack runs an entry's Undo.
func (l *Ledger) takeBack(ctx context.Context, e *entry) error {
	if e.broken != nil {
		return e.broken
	}
	ctx, cancel := context.WithTimeout(ctx, effectLimit)
	defer cancel()
	return e.effect.Undo(ctx, e.ID)
}

// settle takes in what became of Do or Undo.
func (l *Ledger) settle(r result) {
	if r.e.phase == undoing {
		l.undone(r.e, r.err)
		return
	}
	e := r.e
	e.phase = standing
	if r.err != nil {
		e.doErr, e.undo = fmt.Errorf("make fault %s (%s of %s): %w", e.ID, e.Kind, e.Target, r.err), true
		return // who waits is told when it is undone
	}
	l.log.Warn("fault made", "id", e.ID, "kind", e.Kind, "target", e.Target, "by", e.By, "until", e.Until)
	answer(&e.making, nil)
}

// undone takes in that an entry is undone, or is not.
func (l *Ledger) undone(e *entry, err error) {
	if e.phase == fresh && e.doErr == nil {
		e.doErr = errors.New("it was undone before it was made")
	}
	e.phase, e.undo = standing, true
	if err == nil {
		if err = l.remove(e.ID); err == nil {
			delete(l.all, e.ID)
			l.log.Info("fault undone", "id", e.ID, "kind", e.Kind, "target", e.Target)
		}
	}
	if err != nil && e.broken == nil {
		err = fmt.Errorf("undo fault %s (%s of %s): %w", e.ID, e.Kind, e.Target, err)
	}
	if err != nil && (e.err == nil || e.err.Error() != err.Error()) {
		l.log.Error("a fault cannot be undone yet", "error", err, "again", again)
	}
	e.err, e.tried = err, time.Now()
	answer(&e.making, errors.Join(e.doErr, err))
	answer(&e.waiting, err)
}

// answer tells all who wait, once.
func answer(who *[]chan error, err error) {
	for _, c := range *who {
		c <- err
	}
	*who = nil
}
