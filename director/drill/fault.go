package drill

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// steady is how long all has to be settled before the next director's turn: one that was only told to restart is there still.
const steady = 2 * time.Second

// inject makes a fault. What the world says of it is kept, whether it was made or not.
func (r *run) inject(ctx context.Context, s Step, target string) error {
	ctx, cancel := context.WithTimeout(ctx, injectWithin)
	defer cancel()
	x := &made{Injected: Injected{Fault: Fault{ID: fmt.Sprintf("%s-%d", r.id, len(r.faults)+1), Kind: s.Fault, Target: target, For: s.For}, At: time.Now()}}
	r.faults = append(r.faults, x)
	var err error
	if x.undo, err = r.w.Inject(ctx, x.Fault); err == nil && x.undo == nil {
		x.undo = func(context.Context) error { return nil }
	}
	switch {
	case errors.Is(err, ErrRefused) && r.d.Expect.Refused:
		x.Error = err.Error()
		r.tell("%s: %v", x.words(), err)
		return nil
	case err != nil:
		x.Error = err.Error()
		return fmt.Errorf("make %s: %w", x.words(), err)
	case r.d.Expect.Refused:
		r.fail(Failure{What: x.words() + " was to be refused, and was not", At: &x.At})
		return errors.New(x.words() + " was not refused")
	}
	r.tell("%s, for %s at most", x.words(), s.For)
	return nil
}

// words are what a fault is, and of whom.
func (x *made) words() string {
	if x.Target == "" {
		return string(x.Kind)
	}
	return string(x.Kind) + " of " + x.Target
}

// eachInTurn makes a fault of one director after another, each when all is settled again.
func (r *run) eachInTurn(ctx context.Context, s Step) error {
	for _, name := range r.plan.Each {
		if err := r.inject(ctx, s, name); err != nil {
			return err
		}
		if err := r.settle(ctx, s.For, steady); err != nil {
			return fmt.Errorf("after %s of %s: %w", s.Fault, name, err)
		}
		if err := r.undo(ctx); err != nil {
			return err
		}
	}
	return nil
}

// undo undoes all that is in place, at once: one that does not answer does not hold up the others. It goes on when ctx ends.
func (r *run) undo(ctx context.Context) error {
	var list []*made
	for _, x := range r.faults {
		if x.undo != nil && x.Undone == nil {
			list = append(list, x)
		}
	}
	errs := make([]error, len(list))
	var g sync.WaitGroup
	for i, x := range list {
		g.Go(func() { errs[i] = undoOne(ctx, x) })
	}
	g.Wait()
	for i, x := range list {
		if errs[i] != nil {
			x.Error = errs[i].Error()
			errs[i] = fmt.Errorf("undo %s: %w", x.words(), errs[i])
			r.tell("%v", errs[i])
			continue
		}
		x.Undone = new(time.Now())
		r.tell("undone: %s", x.words())
	}
	return errors.Join(errs...)
}

func undoOne(ctx context.Context, x *made) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoWithin)
	defer cancel()
	return guard(func() error { return x.undo(ctx) })
}

// tellLeft makes failures of faults that could not be undone.
func (r *run) tellLeft() {
	for _, x := range r.faults {
		if x.undo != nil && x.Undone == nil {
			r.fail(Failure{What: fmt.Sprintf("%s could not be undone, it ends by itself %s after it began: %s", x.words(), x.For, x.Error), At: &x.At})
		}
	}
}

// befallen are the real servers that faults befell; true: their packets were lost, not only their tunnels drained.
func (r *run) befallen() map[string]bool {
	list := map[string]bool{}
	for _, x := range r.faults {
		if x.undo == nil || x.Kind.Befalls() != "real server" {
			continue
		}
		list[x.Target] = list[x.Target] || x.Kind != Drain
		if x.Kind != HostLoss {
			continue
		}
		host := r.before.realServer(x.Target).Host
		for _, rs := range r.before.RealServers {
			if host != "" && rs.Host == host {
				list[rs.Name] = true
			}
		}
	}
	return list
}

// realServer is the one of a name; its zero value if there is none.
func (s State) realServer(name string) RealServer {
	i := slices.IndexFunc(s.RealServers, func(r RealServer) bool { return r.Name == name })
	if i < 0 {
		return RealServer{}
	}
	return s.RealServers[i]
}
