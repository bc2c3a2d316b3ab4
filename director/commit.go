package director

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"tunneldirector/affinity"
	"tunneldirector/director/api"
)

// commit makes a transaction durable, publishes and programs it. Its error is that of the store: nothing was changed.
func (d *Director) commit(ctx context.Context, tx *tx) error {
	changes, dirty := tx.t.Take()
	if len(changes) == 0 {
		return nil
	}
	revision := d.work.Revision() + uint64(max(1, len(tx.events)))
	if err := d.write(changes, revision); err != nil {
		d.joint.full = true
		d.o.Log.Error("commit refused", "changes", len(changes), "error", err)
		d.tell(api.Event{Kind: "refused", Object: "store", Why: fmt.Sprintf("%d changes at once: %v", len(changes), err)})
		if !errors.Is(err, ErrRefused) {
			d.fatal = fmt.Errorf("the disk failed in the middle of a commit; start again from what it holds: %w", err)
		}
		return affinity.Refuse(affinity.Unwritable, "store", affinity.Fault{Field: "store", Problem: err.Error(),
			Remedy: "nothing was changed; try again when there is room"})
	}
	d.joint.full = false
	tx.t.SetRevision(revision)
	d.publish(tx.t)
	d.digest.Note(changes)
	d.events.add(tx.events, revision)
	d.tell(tx.events...)
	d.program(ctx, dirty)
	d.hand(tx.moves)
	d.tellPeers(changes, revision)
	if dirty.Config {
		d.holdNow(ctx)
		d.watchTargets()
	}
	return nil
}

// tellPeers hands on what this director has written itself; what it merged the others get from who wrote it.
func (d *Director) tellPeers(changes []affinity.Change, revision uint64) {
	if d.lone() {
		return
	}
	own := slices.DeleteFunc(slices.Clone(changes), func(c affinity.Change) bool { return c.Now.Origin != d.o.Name })
	if len(own) > 0 {
		d.o.Peers.Wrote(own, revision)
	}
}

// write commits in another goroutine, so that a slow disk does not delay a failover: verdicts that come meanwhile are
// acted on in the data plane at once, and judged in full afterwards.
func (d *Director) write(changes []affinity.Change, revision uint64) error {
	done := make(chan error, 1)
	go func() { done <- d.store.Commit(changes, revision) }()
	for {
		select {
		case err := <-done:
			return err
		case v := <-d.verdicts:
			d.early = append(d.early, v)
			if life, ok := d.work.LifeOf(v.RealServer); ok && life.Alive && !v.Alive && d.holdDeath(v.RealServer) == "" {
				d.condemn(life, v)
			}
			d.noteReach(v)
		}
	}
}

// judgeWaiting judges verdicts before more requests are served.
func (d *Director) judgeWaiting(ctx context.Context) {
	for {
		early := d.early
		d.early = nil
		for _, v := range early {
			d.judge(ctx, v)
		}
		select {
		case v := <-d.verdicts:
			d.early = append(d.early, v)
		default:
			if len(d.early) == 0 {
				return
			}
		}
	}
}

// placeUnpinned places tunnels that a crash in the middle of a large commit left without a pin.
func (d *Director) placeUnpinned(ctx context.Context) error {
	tx := d.begin()
	n := 0
	d.work.Unpinned(func(g affinity.GroupID) bool {
		tx.place(g, affinity.WhyPlaced)
		n++
		return true
	})
	if n > 0 {
		d.o.Log.Warn("tunnels without a placement were found and placed", "groups", n)
	}
	return d.commit(ctx, tx)
}
