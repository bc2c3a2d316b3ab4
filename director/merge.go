package director

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"tunneldirector/affinity"
	"tunneldirector/cluster"
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

// A cut is a time in which another director was out of reach.
type cut struct {
	known affinity.Stamp // the highest here when it was noticed
	// From when to when, in stamps of this director; to 0: it lasts. What was written here then the other one did not see.
	from, to affinity.Stamp
}

// margin is how late a cut is noticed, and records come, about.
const margin = affinity.Stamp(2000 << 16) // 2 s

// has tells whether a stamp of this director's side is of the time of the cut, about.
func (c cut) has(s affinity.Stamp) bool { return s+margin > c.from && !c.after(s) }

// unseen tells whether the other side may have written a record when what it wrote did not come here. Its clock may be behind, and
// then it counts on from what it knew.
func (c cut) unseen(s affinity.Stamp) bool { return s+margin > min(c.known, c.from) && !c.after(s) }

func (c cut) after(s affinity.Stamp) bool { return c.to != 0 && s > c.to+margin }

// A sibling is a placement that lost against one that was made on the other side of a cut.
type sibling struct {
	lost affinity.Pin
	won  affinity.Header
	due  time.Time // when the evidence is looked at
}

const (
	siblingRest  = 2 * time.Second  // after the merge: agents' words come in, and the tables become equal
	siblingsMost = 100_000          // more are not kept
	siblingLife  = 10 * time.Minute // after which nothing is moved back any more
)

// before tells whether a record is from before a cut that lasts: what is pushed again is written again then, once, because the other
// side may have been told something else meanwhile.
func (d *Director) before(s affinity.Stamp) bool {
	for _, c := range d.joint.cuts {
		if c.to == 0 && s <= c.known {
			return true
		}
	}
	return false
}

// noteCuts keeps when directors were out of reach. One that left does nothing that this one would not see.
func (d *Director) noteCuts(v cluster.View) {
	now := d.reckoned()
	for _, p := range v.Peers {
		c, cutOff := d.joint.cuts[p.Member.Name]
		switch {
		case !p.Alive && !p.Beat.Leaving && !p.Member.Leaving && (!cutOff || c.to != 0):
			silent := time.Duration(0)
			if !p.Heard.IsZero() {
				silent = min(max(d.o.Now().Sub(p.Heard), 0), cluster.MaxOffset)
			}
			d.joint.cuts[p.Member.Name] = cut{known: d.clock.Last(), from: affinity.NewStamp(now.Add(-silent), 0)}
		case p.Alive && cutOff && c.to == 0:
			ahead := max(p.Offset, 0)
			if ahead > cluster.MaxOffset { // its stamps do not follow its clock
				ahead = 0
			}
			c.to = max(d.clock.Last(), affinity.NewStamp(now.Add(ahead), 0))
			d.joint.cuts[p.Member.Name] = c
		}
	}
}

// noteSibling keeps the loser of two placements that two directors made while they could not talk.
func (x *tx) noteSibling(from string, mine affinity.Pin, newer bool, c affinity.Change) {
	gap, was := x.d.joint.cuts[from]
	if !was || mine.Primary == 0 {
		return
	}
	theirs, placed := x.t.Pin(mine.Group) // what was taken, without reading it once more
	if !newer {
		if p, err := affinity.DecodePin(c.Value); err == nil {
			theirs, placed = *p, !p.Header.Deleted
		}
	}
	if !placed || theirs.Primary == mine.Primary || theirs.Primary == 0 || !gap.unseen(theirs.Header.Stamp) {
		return // what was written since is no more than what the assigner does
	}
	lost, won := mine, theirs.Header
	if !newer {
		lost, won = theirs, mine.Header
	} else if s, again := x.d.joint.siblings[mine.Group]; again && s.won == mine.Header {
		lost = s.lost // the other side has placed it more than once
	}
	if len(x.d.joint.siblings) < siblingsMost {
		x.d.joint.siblings[mine.Group] = sibling{lost: lost, won: won, due: x.now.Add(siblingRest)}
	}
	if !gap.has(mine.Header.Stamp) {
		return // placed before, and moved on the other side, as an event of its own says
	}
	x.event("contested", groupName(mine.Group), func(e *api.Event) {
		e.Why = fmt.Sprintf("placed at %s and at %s while the directors could not talk; the later one holds", x.t.NameAt(mine.Primary), x.t.NameAt(theirs.Primary))
	})
}

// settleSiblings gives groups back to the real server where their tunnels are really up, if the placement that lost had them
// there. Only the assigner does, and only by an agent's word, and not what an operator has moved.
func (d *Director) settleSiblings(ctx context.Context) {
	now := d.o.Now()
	var next *tx
	var done []affinity.GroupID
	for g, s := range d.joint.siblings {
		if len(done) >= maxOps/2 {
			break // one commit's worth
		}
		pin, ok := d.work.Pin(g)
		switch {
		case now.Before(s.due):
			continue
		case !ok || pin.Header != s.won || now.Sub(s.due) > siblingLife || byOperator(pin.Why):
			delete(d.joint.siblings, g)
			continue
		case !d.assigns:
			continue
		}
		done = append(done, g)
		if i := d.upAt(g, d.work.NameAt(s.lost.Primary)); i != 0 && i != pin.Primary {
			if next == nil {
				if next = d.begin(); !next.assigns {
					return
				}
			}
			next.pin(affinity.Pin{Group: g, Primary: i, Why: affinity.WhyPlaced, Note: "it is established there"})
			next.backup(g, i, affinity.WhyBackup)
		}
	}
	if next != nil {
		if err := d.commit(ctx, next); err != nil {
			d.o.Log.Warn("give tunnels back to where they are up", "error", err)
			return // they are tried again
		}
	}
	for _, g := range done {
		delete(d.joint.siblings, g)
	}
}

// byOperator tells whether a placement is what an operator asked for.
func byOperator(why affinity.Why) bool {
	return why == affinity.WhyRepinned || why == affinity.WhyRebalanced || why == affinity.WhyDrained
}

// upAt is the live incarnation of a real server, if the newest establishment of a group's tunnels is there; else 0. The one that the
// group was pinned to may have been called dead on the other side of the cut.
func (d *Director) upAt(g affinity.GroupID, name string) affinity.Index {
	life, ok := d.work.LifeOf(name)
	if !ok || !life.Alive {
		return 0
	}
	for _, tun := range d.work.PlacedBy(g) {
		if list := d.sightings(d.work, tun, false); len(list) > 0 {
			if list[0].RealServer == name && d.fresh(list[0]) {
				return life.Index
			}
			return 0
		}
	}
	return 0
}
