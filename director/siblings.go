package director

import (
	"context"
	"fmt"
	"time"

	"tunneldirector/affinity"
	"tunneldirector/cluster"
	"tunneldirector/director/api"
)

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
