package director

import (
	"context"

	"tunneldirector/affinity"
)

// A flight is a step whose commit is under way. The next step is built on its table meanwhile; whatever else changes the
// table waits for it to land.
//
//	request ─▶ build k+1 on k's table ─▶ k lands: publish, program, answer ─▶ k+1 takes off
//	                                     k fails: k is told so, and k+1 is built again on what was there before
type flight struct {
	tx       *tx
	batch    []*request
	answers  [][]affinity.Result
	dirty    affinity.Dirty
	revision uint64
	done     chan error // of the commit
}

// step applies a batch: the whole line of a push.
func (d *Director) step(ctx context.Context, batch []*request) {
	tx, answers := d.build(batch)
	if err := d.land(ctx); err != nil {
		tx, answers = d.build(batch)
	}
	d.takeOff(tx, batch, answers)
}

// build applies a batch to the newest table, be it on disk yet or not.
func (d *Director) build(batch []*request) (*tx, [][]affinity.Result) {
	base := d.work
	if d.flight != nil {
		base = d.flight.tx.t
	}
	tx := &tx{d: d, t: base.Clone(), now: d.o.Now()}
	answers := make([][]affinity.Result, len(batch))
	for i, r := range batch {
		answers[i] = make([]affinity.Result, len(r.ops))
		for j, op := range r.ops {
			answers[i][j] = tx.do(op)
		}
	}
	return tx, answers
}

// takeOff begins the commit. Nothing may be in flight.
func (d *Director) takeOff(tx *tx, batch []*request, answers [][]affinity.Result) {
	changes, dirty := tx.t.Take()
	if len(changes) == 0 {
		d.answer(batch, answers, nil)
		return
	}
	f := &flight{tx: tx, batch: batch, answers: answers, dirty: dirty, revision: d.revisionAfter(tx), done: make(chan error, 1)}
	go func() { f.done <- d.o.Store.Commit(changes, f.revision) }()
	d.flight = f
}

// landing is what the flight's commit is told by; nil without a flight.
func (d *Director) landing() <-chan error {
	if d.flight == nil {
		return nil
	}
	return d.flight.done
}

// land waits for the flight, if there is one. Its error is that of the commit.
func (d *Director) land(ctx context.Context) error {
	if d.flight == nil {
		return nil
	}
	return d.landed(ctx, d.await(d.flight.done))
}

// landed finishes a step whose commit is over.
func (d *Director) landed(ctx context.Context, err error) error {
	f := d.flight
	d.flight = nil
	err = d.committed(ctx, f.tx, f.dirty, f.revision, err)
	d.answer(f.batch, f.answers, err)
	return err
}

// answer tells the callers of a batch; if the commit failed, those whose changes were accepted are told that.
func (d *Director) answer(batch []*request, answers [][]affinity.Result, err error) {
	for i, r := range batch {
		for j := range answers[i] {
			answers[i][j].Revision = d.work.Revision()
			if err != nil && answers[i][j].Err == nil {
				answers[i][j] = affinity.Result{Err: err}
			}
		}
		r.done <- answers[i]
	}
}
