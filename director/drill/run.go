package drill

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	injectWithin = 20 * time.Second // a restart is over when Inject returns
	undoWithin   = 10 * time.Second
	stateWithin  = 2 * time.Second
	settleWithin = 30 * time.Second // at the end
	lookEvery    = 250 * time.Millisecond
	probeAfter   = time.Second // after all is settled
)

// A run is a drill that goes on. Its steps own it; the watcher beside them only reads the plan and the probings.
type run struct {
	id     string // no other run has it; what its faults' ids begin with
	w      World
	d      *Drill
	o      Options
	plan   *Plan
	before State
	began  time.Time

	probings []Probing // as the plan's sample
	release  context.CancelFunc
	faults   []*made
	marks    []mark
	failures []Failure
}

// A made fault is one that was asked for.
type made struct {
	Injected
	undo func(context.Context) error // nil: nothing was made
}

// A mark is a line of the time line, while the time of the first fault is not known yet.
type mark struct {
	at       time.Time
	by, what string
}

// Run carries out a drill and says what came of it. The error is of what kept it from beginning: then nothing was done to the world.
// However it ends, also when ctx does, all faults are undone before it returns, and the world is given 30 s to settle.
func Run(ctx context.Context, w World, d *Drill, o Options) (*Result, error) {
	if err := d.Validate(); err != nil {
		return nil, fmt.Errorf("drill %s:\n%w", d.Name, err)
	}
	before, err := stateOf(ctx, w)
	if err != nil {
		return nil, fmt.Errorf("read the state before the drill: %w", err)
	}
	plan, err := NewPlan(before, d, o)
	if err != nil {
		return nil, err
	}
	r := &run{id: rand.Text(), w: w, d: d, o: o, plan: plan, before: before, began: time.Now()}
	if err := r.probe(ctx); err != nil {
		r.stop()
		return nil, err
	}
	why := r.perform(ctx)
	res := r.end(context.WithoutCancel(ctx), why)
	if p := new(panicked); errors.As(why, &p) {
		panic(p) // all is undone: now it is what it was
	}
	return res, nil
}

// perform does the steps and watches meanwhile. The error is why it was given up.
func (r *run) perform(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	watched, unwatch := context.WithCancel(ctx)
	g.Go(func() error { return guard(func() error { return r.watch(watched) }) })
	g.Go(func() error {
		defer unwatch()
		return guard(func() error { return r.steps(ctx) })
	})
	return g.Wait()
}

func (r *run) steps(ctx context.Context) error {
	for _, s := range r.d.Steps {
		if err := r.step(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) step(ctx context.Context, s Step) error {
	switch {
	case s.Fault != "" && s.Target == Each:
		return r.eachInTurn(ctx, s)
	case s.Fault != "":
		return r.inject(ctx, s, r.plan.Targets[s.Target])
	case s.Emptied > 0:
		return r.emptied(ctx, s.Emptied)
	case s.Undo:
		return r.undo(ctx)
	case s.Settle > 0:
		return r.settle(ctx, s.Settle, 0)
	}
	return sleep(ctx, s.Wait)
}

// settle waits until the world has been settled for a while.
func (r *run) settle(ctx context.Context, within, forLong time.Duration) error {
	return r.until(ctx, "settled", within, forLong, func(s *State) string { return s.Unsettled })
}

// emptied waits until the real servers that are drained have no tunnels.
func (r *run) emptied(ctx context.Context, within time.Duration) error {
	return r.until(ctx, "emptied", within, 0, func(s *State) string {
		for _, x := range r.faults {
			if x.Kind != Drain || x.undo == nil || x.Undone != nil {
				continue
			}
			if n := s.realServer(x.Target).Tunnels; n > 0 {
				return fmt.Sprintf("%s has %s still", x.Target, some(n, "tunnel"))
			}
		}
		return ""
	})
}

// until waits until the world has been some way for a while; not says why it is not.
func (r *run) until(ctx context.Context, is string, within, forLong time.Duration, not func(*State) string) error {
	end := time.Now().Add(within)
	var since time.Time
	for {
		s, err := stateOf(ctx, r.w)
		now, why := time.Now(), ""
		if err != nil {
			why = err.Error()
		} else {
			why = not(&s)
		}
		switch {
		case why != "":
			since = time.Time{}
		case since.IsZero():
			since = now
		}
		if !since.IsZero() && now.Sub(since) >= forLong {
			r.tell("%s", is)
			return nil
		}
		if !now.Before(end) {
			return fmt.Errorf("not %s within %s: %s", is, within, cmp.Or(why, "it is since a moment ago"))
		}
		if err := sleep(ctx, lookEvery); err != nil {
			return err
		}
	}
}

// tell puts a line into the time line.
func (r *run) tell(format string, args ...any) {
	m := mark{at: time.Now(), what: fmt.Sprintf(format, args...)}
	r.marks = append(r.marks, m)
	if r.o.Progress != nil {
		r.o.Progress(m.what)
	}
}

func (r *run) fail(f Failure) { r.failures = append(r.failures, f) }

func stateOf(ctx context.Context, w World) (State, error) {
	ctx, cancel := context.WithTimeout(ctx, stateWithin)
	defer cancel()
	return w.State(ctx)
}

// sleep waits; the error says why ctx ended before.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// panicked is a panic on its way past what has to be undone first.
type panicked struct {
	value any
	stack []byte
}

func (p *panicked) Error() string { return fmt.Sprintf("panic: %v\n%s", p.value, p.stack) }

// guard makes an error of a panic.
func guard(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &panicked{v, debug.Stack()}
		}
	}()
	return f()
}
