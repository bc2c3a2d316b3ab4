package api

import (
	"context"
	"errors"
	"slices"
	"time"

	"tunneldirector/affinity"
)

// answer applies the plan, or only tells it.
func (c *completeSet) answer(ctx context.Context, plan *affinity.Plan) {
	r, w := requestOf(ctx)
	out := newAnswers(w, r)
	out.whole = !c.in.DryRun
	err := c.tellPlan(out, plan)
	if err == nil && !c.in.DryRun {
		err = c.apply(context.WithoutCancel(ctx), out, plan) // it is read as a whole, so it is applied as a whole
	}
	c.sum.Complete, c.sum.Seconds = err == nil, time.Since(c.begun).Seconds()
	if err != nil {
		c.sum.Why = err.Error()
	}
	c.sum.Revision = c.s.revisionNow()
	if err := errors.Join(out.add(StreamLine{Summary: &c.sum}), out.close()); err != nil {
		c.s.o.Log.Warn("complete set not answered to its end", "owner", c.owner, "error", err)
	}
	c.s.o.Log.Info("complete set", "owner", c.owner, "dry_run", c.in.DryRun, "lines", c.sum.Lines, "created", c.sum.Created,
		"changed", c.sum.Changed, "deleted", c.sum.Deleted, "refused", c.sum.Refused, "kept", c.sum.Kept, "seconds", c.sum.Seconds, "why", c.sum.Why)
}

func first(names []string, name string) []string {
	if len(names) < 100 {
		return append(names, name)
	}
	return names
}

// tellPlan answers what is refused and kept, and counts the rest of a dry run.
func (c *completeSet) tellPlan(out *answers, plan *affinity.Plan) error {
	c.sum = Summary{
		Warnings: c.warnings, Lines: c.count, Owner: c.owner, DryRun: c.in.DryRun, Unchanged: plan.Unchanged, Kept: len(c.kept), Newer: len(plan.Newer),
		Refused: c.refusals + len(plan.Refused), Untold: c.refusals - len(c.refused),
	}
	n := &c.sum.Names
	for _, put := range plan.Puts {
		if put.Seen == 0 {
			n.Create = first(n.Create, put.Tunnel.ID)
		} else {
			n.Change = first(n.Change, put.Tunnel.ID)
		}
		if c.in.DryRun {
			c.sum.count(false, affinity.Result{Created: put.Seen == 0, Changed: true, Pin: affinity.Pin{Primary: 1}})
		}
	}
	for _, d := range plan.Deletes {
		n.Delete = first(n.Delete, d.ID)
	}
	if c.in.DryRun {
		c.sum.Deleted = len(plan.Deletes)
	}
	for _, id := range plan.Newer {
		n.Newer = first(n.Newer, id)
	}
	for _, line := range c.refused {
		if err := out.add(line); err != nil {
			return err
		}
	}
	for i := range plan.Refused {
		if err := c.tellRefused(out, c.refusedLine(&plan.Refused[i])); err != nil {
			return err
		}
	}
	for id, why := range c.kept {
		n.Keep = first(n.Keep, id)
		if err := out.add(StreamLine{ID: id, Kept: why}); err != nil {
			return err
		}
	}
	slices.Sort(n.Keep)
	return out.flush()
}

func (c *completeSet) tellRefused(out *answers, line StreamLine) error {
	if !c.sieve.tells() {
		c.sum.Untold++
		return nil
	}
	return out.add(line)
}

func (c *completeSet) refusedLine(r *affinity.Refusal) StreamLine {
	const object = "tunnel "
	id := r.Object[min(len(object), len(r.Object)):]
	return StreamLine{Line: c.lines[id], ID: id, Error: refusalProblem(r)}
}

// apply makes the plan true: what changes first, since it may free claims, then what goes, then what is new.
func (c *completeSet) apply(ctx context.Context, out *answers, plan *affinity.Plan) error {
	a := setApplier{c: c, out: out, last: time.Now()}
	for _, put := range plan.Puts {
		if put.Seen != 0 {
			a.add(ctx, put.Tunnel.ID, affinity.PutTunnel{By: c.by, Tunnel: put.Tunnel, Unless: &put.Seen, Transient: true})
		}
	}
	for _, d := range plan.Deletes {
		a.add(ctx, d.ID, affinity.DeleteTunnel{By: c.by, ID: d.ID, Unless: &d.Seen})
	}
	for _, put := range plan.Puts {
		if put.Seen == 0 {
			a.add(ctx, put.Tunnel.ID, affinity.PutTunnel{By: c.by, Tunnel: put.Tunnel, Unless: &put.Seen, Transient: true})
		}
	}
	a.flush(ctx)
	return a.err
}

// A setApplier asks for changes in steps. After an error it does nothing more.
type setApplier struct {
	c    *completeSet
	out  *answers
	ids  []string
	ops  []affinity.Op
	last time.Time
	err  error
}

func (a *setApplier) add(ctx context.Context, id string, op affinity.Op) {
	a.ids, a.ops = append(a.ids, id), append(a.ops, op)
	if len(a.ops) == chunkLines {
		a.flush(ctx)
	}
}

func (a *setApplier) flush(ctx context.Context) {
	ids, ops := a.ids, a.ops
	a.ids, a.ops = nil, nil
	if a.err != nil || len(ops) == 0 {
		return
	}
	results, err := a.c.s.d.Do(ctx, ops)
	if err != nil {
		a.c.sum.Unanswered += len(ops)
		a.err = err
		return
	}
	for i, res := range results {
		if err := a.one(ids[i], ops[i], res); err != nil {
			a.err = err
			return
		}
	}
	if now := time.Now(); a.c.in.Progress && now.Sub(a.last) >= time.Second {
		a.last = now
		sum := &a.c.sum
		done := sum.Created + sum.Changed + sum.Unchanged + sum.Deleted
		_ = a.out.add(StreamLine{Progress: &Progress{done, sum.Refused, now.Sub(a.c.begun).Seconds()}}) // seen at the next flush
	}
	a.err = a.out.flush()
}

func (a *setApplier) one(id string, op affinity.Op, res affinity.Result) error {
	sum := &a.c.sum
	var r *affinity.Refusal
	switch {
	case errors.As(res.Err, &r) && r.Reason == affinity.Stale:
		sum.Newer++
		sum.Names.Newer = first(sum.Names.Newer, id)
	case errors.As(res.Err, &r) && r.Reason == affinity.Unwritable:
		return errDiskFull
	case res.Err != nil:
		sum.Refused++
		return a.c.tellRefused(a.out, StreamLine{Line: a.c.lines[id], ID: id, Error: asProblem(res.Err)})
	default:
		_, deletes := op.(affinity.DeleteTunnel)
		sum.count(deletes, res)
		if len(res.Warnings) > 0 {
			sum.Warned++
			return a.out.add(StreamLine{Line: a.c.lines[id], ID: id, Warnings: res.Warnings})
		}
	}
	return nil
}
