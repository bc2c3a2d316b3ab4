package director

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"tunneldirector/affinity"
	"tunneldirector/cluster/replica"
	"tunneldirector/director/api"
)

// What other directors have written comes in here. Each record stands for itself: it is taken if it comes after the version
// that is here, whatever else the table holds, so that any order of arrival ends in the same table. The assigner then does what
// follows from it: placements of new tunnels, deaths of removed real servers.

// A merge is records of another director.
type merge struct {
	from    string
	records []affinity.Change
	done    chan error
}

// maxMerge is how many records one commit takes of others, about: each may be followed by a placement.
const maxMerge = 3000

// Merge takes records of another director: durable and programmed when it returns. The error joins those of single records
// that could not be read, each a *replica.RecordError; the others are in. Any other error means that nothing was taken.
func (d *Director) Merge(ctx context.Context, from string, records []affinity.Change) error {
	m := &merge{from, records, make(chan error, 1)}
	select {
	case d.merges <- m:
	case <-d.stopped:
		return ErrStopped
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case err := <-m.done:
		return err
	case <-d.stopped:
		return ErrStopped
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Digest sums up the table; it changes with each commit.
func (d *Director) Digest() *affinity.Digest { return d.digest }

// gatherMerges takes what waits already, up to a commit's worth.
func (d *Director) gatherMerges(first *merge) []*merge {
	batch, n := []*merge{first}, len(first.records)
	for n < maxMerge {
		select {
		case m := <-d.merges:
			batch = append(batch, m)
			n += len(m.records)
		default:
			return batch
		}
	}
	return batch
}

// merge takes a batch: the whole line of a push that another director has answered.
func (d *Director) merge(ctx context.Context, batch []*merge) {
	if d.assigns { // the first that is heard of who assigns after a cut may be its records
		d.takeAssigning(d.o.Now(), d.view())
	}
	tx := d.begin()
	tx.forgotten, tx.defers = d.forgetful(), d.assigns && !d.settled()
	errs := make([]error, len(batch))
	var after []func()
	for i, m := range batch {
		tx.by = affinity.Actor{Name: "director " + m.from}
		for _, c := range m.records {
			then, err := tx.take(m.from, c)
			if err != nil {
				errs[i] = errors.Join(errs[i], &replica.RecordError{Kind: c.Kind, Key: c.Key, Err: err})
			}
			if then != nil {
				after = append(after, then)
			}
		}
	}
	tx.by = affinity.Actor{Name: d.o.Name}
	for _, then := range after {
		then()
	}
	err := d.commit(ctx, tx)
	for i, m := range batch {
		if err != nil {
			errs[i] = err
		}
		m.done <- errs[i]
	}
	d.forgive()
	if tx.lives && d.assigns && d.o.Prober != nil { // what another one has called dead may answer here
		for _, v := range d.o.Prober.Verdicts() {
			d.judge(ctx, v)
		}
	}
}

// take merges one record, tells of it, and gives what the assigner has to do about it when all are in; nil: nothing.
func (x *tx) take(from string, c affinity.Change) (then func(), err error) {
	var old *affinity.Tunnel
	var rs *affinity.RealServer
	var pin affinity.Pin
	switch c.Kind {
	case affinity.KindTunnel:
		old, _ = x.t.Tunnel(c.Key)
	case affinity.KindRealServer:
		rs, _ = x.t.RealServer(c.Key)
	case affinity.KindPin:
		pin, _ = x.t.Pin(affinity.GroupID(c.Key))
	}
	newer, err := x.t.Merge(c.Kind, c.Key, c.Value, x.forgotten)
	if err != nil {
		return nil, err
	}
	if c.Kind == affinity.KindPin {
		x.noteSibling(from, pin, newer, c)
	}
	if !newer {
		return nil, nil
	}
	x.cached = nil
	h, _ := x.t.Version(c.Kind, c.Key)
	x.d.clock.Follow(h.Stamp, x.d.reckoned())
	switch c.Kind {
	case affinity.KindTunnel:
		return x.tookTunnel(old, c.Key), nil
	case affinity.KindRealServer:
		return x.tookRealServer(rs, c.Key), nil
	case affinity.KindPin:
		return x.tookPin(pin, affinity.GroupID(c.Key)), nil
	case affinity.KindLife:
		x.tookLife(c.Key)
	case affinity.KindService:
		x.event("service", c.Key, func(e *api.Event) { e.Why = "by another director" })
		x.d.sweep.roomAppeared = true
	case affinity.KindFreeze:
		x.d.sweep.roomAppeared = true
	}
	return nil, nil
}

func (x *tx) tookTunnel(old *affinity.Tunnel, id string) func() {
	next, alive := x.t.Tunnel(id)
	if !alive {
		if old == nil {
			return nil
		}
		x.event("tunnel-deleted", id, nil)
		x.d.sweep.roomFreed = true
		return x.later(func() {
			x.inheritLearned(old)
			x.leave(old)
		})
	}
	x.event("tunnel-put", id, nil)
	x.noteOverwritten(old, next)
	return func() {
		if !x.assigns && !x.t.Crowded() {
			return
		}
		next, alive = x.t.Tunnel(id) // a later record of the batch may have changed it
		if !alive {
			return
		}
		if lost := x.t.Contested(next); len(lost) > 0 {
			x.event("contested", id, func(e *api.Event) { e.Why = strings.Join(lost, "; ") })
		}
		x.later(func() { x.follow(old, next) })()
	}
}

// noteOverwritten tells of a push that was acknowledged here while the other director could not be reached, and gives way to a later one.
func (x *tx) noteOverwritten(old, next *affinity.Tunnel) {
	if old == nil || old.Header.Origin == next.Header.Origin || affinity.SameIntent(old, next) {
		return
	}
	if gap, was := x.d.joint.cuts[next.Header.Origin]; was && gap.has(old.Header.Stamp) {
		x.event("contested", next.ID, func(e *api.Event) {
			e.Why = fmt.Sprintf("pushed at directors %s and %s while they could not talk; the later push, at %s, holds", old.Header.Origin, next.Header.Origin, next.Header.Origin)
		})
	}
}

// later does what the assigner has to do now, or, while tables are being compared, leaves it to a look at everything when they are
// equal: the placement of what has come may be on its way, too.
func (x *tx) later(do func()) func() {
	return func() {
		if x.defers {
			x.d.sweep.later = true
			return
		}
		do()
	}
}

// inheritLearned hands the placement of a learned tunnel that is gone to the one that has been announced in its place.
func (x *tx) inheritLearned(old *affinity.Tunnel) {
	p, placed := x.t.PinOf(old)
	s, known := x.t.Service(old.Service)
	if !old.Learned() || !placed || p.Primary == 0 || !known {
		return
	}
	for _, ep := range old.Claimed() {
		for _, vip := range s.VIPs {
			h, held := x.t.AtEndpoint(affinity.EndpointKey{VIP: vip, Addr: ep.Addr(), Port: ep.Port()})
			next, ok := x.t.Tunnel(h.Tunnel)
			if !held || !ok || next.Service != old.Service {
				continue
			}
			if _, has := x.t.PinOf(next); !has {
				p.Group, p.Note = next.GroupID(), "it was learned there"
				x.pin(p)
			}
			return
		}
	}
}

func (x *tx) tookRealServer(old *affinity.RealServer, name string) func() {
	x.event("real-server", name, func(e *api.Event) { e.Why = "changed at another director" })
	x.d.sweep.roomAppeared = true
	return func() {
		next, ok := x.t.RealServer(name)
		switch {
		case !ok:
			x.retire(name, "removed")
		case old != nil && lostAddress(old, next):
			x.retire(name, "its address was changed")
		}
		x.bearUnprobed(name)
	}
}

func (x *tx) tookPin(old affinity.Pin, g affinity.GroupID) (then func()) {
	p, ok := x.t.Pin(g)
	if !ok {
		return x.later(func() { x.keepPlaced(old, g) })
	}
	if x.t.NeedsMending(p) {
		x.d.sweep.again = true // it names what died, and was forgotten, while directors could not talk
	}
	if p.Primary != old.Primary {
		x.event(pinKind(old, p), groupName(g), func(e *api.Event) {
			e.From, e.To, e.Backup, e.Why = x.t.NameAt(old.Primary), x.t.NameAt(p.Primary), x.t.NameAt(p.Backup), p.Why.String()+": by director "+p.Header.Origin
		})
	}
	return nil
}

// keepPlaced gives a group the placement back that another director has deleted: its tunnels were deleted on one side of a
// partition, and put again on the other.
func (x *tx) keepPlaced(old affinity.Pin, g affinity.GroupID) {
	tunnels := x.t.PlacedBy(g)
	if _, placed := x.t.Pin(g); placed || len(tunnels) == 0 || !x.assigns {
		return
	}
	if old.Primary != 0 {
		x.pin(old)
	}
	for _, tun := range tunnels {
		x.ensurePlaced(tun)
	}
}

// tookLife tells of an incarnation that another director began or ended.
func (x *tx) tookLife(key string) {
	x.lives = true
	x.d.sweep.start()
	for _, l := range x.t.Lives() {
		if affinity.LifeKey(l.Index) != key {
			continue
		}
		word := "alive: "
		if !l.Alive {
			word = "dead: "
		} else if x.d.o.Agents != nil {
			x.d.o.Agents.Again(l.RealServer)
		}
		x.event("real-server", l.RealServer, func(e *api.Event) { e.Why = fmt.Sprintf("%s%s (incarnation %d)", word, l.Cause, l.Incarnation) })
	}
}
