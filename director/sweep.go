package director

import (
	"context"
	"fmt"
	"time"

	"tunneldirector/affinity"
)

// A sweep walks over all pins after a death, a birth or new room, and mends those that are not as they should be. It goes
// in slices, so that pushes are served between them.
//
//	orphans:  primary and backup dead (or none): placed anew, first of all
//	failed:   primary dead, backup alive: the backup becomes primary, and a new backup is chosen
//	bare:     backup dead or missing: a backup is chosen
//	unplaced: placed, if there is room now
type sweep struct {
	pass         int  // 0: at rest; 1: orphans; 2: the others; 3: tunnels, of whoever assigned before
	whole        bool // pass 3 is to come
	later        bool // a look at everything is due when the tables are equal
	lately       bool // pass 1 looks for what was moved by whoever assigned before
	after        affinity.GroupID
	again        bool // it did not get through
	roomAppeared bool // a real server changed by which the unplaced and those without a backup may find room
	roomFreed    bool // tunnels were deleted: the same, but seldom enough
	mended       int
	began        time.Time
	last         time.Time
}

const (
	sweepLook = 50_000 // pins looked at in a slice
	sweepMend = 1_000  // pins changed in a slice
	// sweepTunnels is how many tunnels are looked at in a slice: each is decoded.
	sweepTunnels = 5_000
	sweepRest    = time.Second
)

// start begins at the first pin.
func (s *sweep) start() { s.pass, s.after, s.mended, s.began = 1, "", 0, time.Time{} }

// takeOver looks at everything: what the assigner before did not get to.
func (s *sweep) takeOver() {
	s.start()
	s.whole, s.lately = true, true
}

// due tells whether it is time to look at all pins again.
func (s *sweep) due(now time.Time, t *affinity.Table) bool {
	rested := now.Sub(s.last)
	switch {
	case rested < sweepRest:
		return false
	case s.again:
		return true
	case s.roomAppeared:
		return t.Unplaced() > 0 || t.Alone() > 0
	}
	return s.roomFreed && (t.Unplaced() > 0 || t.Alone() > 0 && rested > 30*sweepRest)
}

// background does a slice of what is not urgent.
func (d *Director) background(ctx context.Context) {
	if d.planeErr != nil && d.o.Now().After(d.replaceAt) {
		if err := d.replacePlane(ctx); err != nil && ctx.Err() == nil { // else told to stop meanwhile
			d.planeFailed(err)
		}
		d.hand(nil) // what waited for it
	}
	if d.sweep.pass == 0 && d.sweep.due(d.o.Now(), d.work) {
		d.sweep.again, d.sweep.roomAppeared, d.sweep.roomFreed = false, false, false
		d.sweep.start()
	}
	if d.sweep.pass != 0 && !d.assigns {
		d.sweep.pass = 0
	}
	if d.assigns && !d.settled() {
		return
	}
	if d.sweep.later {
		d.sweep.later = false
		d.sweep.takeOver()
	}
	if d.sweep.pass == 3 {
		d.sweepTunnels(ctx)
	} else if d.sweep.pass != 0 && !d.work.Freeze().On {
		d.sweepSlice(ctx)
	}
	if d.assigns {
		d.drainSlice(ctx)
	}
}

// sweepSlice looks at some pins and mends what it finds.
func (d *Director) sweepSlice(ctx context.Context) {
	if d.sweep.began.IsZero() {
		d.sweep.began = d.o.Now()
	}
	looked, more := 0, false
	var found []affinity.Pin
	d.work.Pins(d.sweep.after, func(p affinity.Pin) bool {
		if looked >= sweepLook || len(found) >= sweepMend {
			more = true
			return false
		}
		looked++
		d.sweep.after = p.Group
		if d.sweep.lately && d.o.Agents != nil {
			d.oweMoved(p)
		}
		if d.work.Orphaned(p) == (d.sweep.pass == 1) && d.work.NeedsMending(p) || d.sweep.whole && d.work.Empty(p.Group) {
			found = append(found, p)
		}
		return true
	})
	tx := d.begin()
	for _, p := range found {
		tx.mend(p)
	}
	if err := d.commit(ctx, tx); err != nil {
		d.sweep.pass, d.sweep.again, d.sweep.last = 0, true, d.o.Now() // the disk refuses: from the start, later
		return
	}
	d.sweep.mended += len(found)
	if !more {
		d.nextPass(ctx)
	}
}

// nextPass goes on to the other pins, or ends the sweep.
func (d *Director) nextPass(ctx context.Context) {
	if d.sweep.pass == 1 || d.sweep.pass == 2 && d.sweep.whole {
		d.sweep.pass, d.sweep.after, d.sweep.lately = d.sweep.pass+1, "", false
		return
	}
	d.sweep.whole = false
	if d.sweep.mended > 0 {
		d.o.Log.Info("placements mended", "groups", d.sweep.mended, "seconds", d.o.Now().Sub(d.sweep.began).Seconds(), "unplaced", d.work.Unplaced(), "without_backup", d.work.Alone())
	}
	d.sweep.pass, d.sweep.last = 0, d.o.Now()
	d.dropLives(ctx)
}

// sweepTunnels sees to tunnels whose pushes nobody has followed: the assigner was gone.
func (d *Director) sweepTunnels(ctx context.Context) {
	tx, looked, more := d.begin(), 0, false
	if d.sweep.after == "" {
		for _, l := range d.work.Lives() {
			if _, exists := d.work.RealServer(l.RealServer); !exists && l.Alive {
				tx.kill(l, "removed")
				d.sweep.again = true // for those that were pinned there
			}
		}
	}
	d.work.Tunnels(string(d.sweep.after), func(tun *affinity.Tunnel) bool {
		if looked >= sweepTunnels || len(tx.events) >= sweepMend {
			more = true
			return false
		}
		looked++
		d.sweep.after = affinity.GroupID(tun.ID)
		tx.ensurePlaced(tun)
		return true
	})
	if err := d.commit(ctx, tx); err != nil {
		d.sweep.pass, d.sweep.whole, d.sweep.again, d.sweep.last = 0, true, true, d.o.Now()
		return
	}
	if !more {
		d.nextPass(ctx)
	}
}

// mend gives a pin what it lacks.
func (x *tx) mend(p affinity.Pin) {
	primary, backup := x.t.AliveAt(p.Primary), x.t.AliveAt(p.Backup)
	switch {
	case len(x.t.PlacedBy(p.Group)) == 0:
		x.dropPin(p.Group) // all its tunnels are split
	case p.Primary == 0:
		x.place(p.Group, affinity.WhyPlaced)
	case primary:
		x.backup(p.Group, p.Primary, affinity.WhyBackup)
	case backup:
		x.backup(p.Group, p.Backup, affinity.WhyFailed)
	default:
		x.place(p.Group, affinity.WhyOrphan)
	}
}

// dropLives forgets dead incarnations that no pin names: their indexes may be given out again.
func (d *Director) dropLives(ctx context.Context) {
	tx := d.begin()
	named := map[affinity.Index]bool{}
	d.work.Pairs(func(p, b affinity.Index, _ affinity.Load) { named[p], named[b] = true, true })
	for _, l := range d.work.Lives() {
		current, known := d.work.LifeOf(l.RealServer)
		_, exists := d.work.RealServer(l.RealServer)
		if !named[l.Index] && (!l.Alive && !exists || !known || current.Index != l.Index) {
			tx.t.DropLife(l.Index, tx.header(affinity.KindLife, affinity.LifeKey(l.Index)))
		}
	}
	if err := d.commit(ctx, tx); err != nil {
		d.o.Log.Warn("forget old incarnations", "error", fmt.Errorf("tried again later: %w", err))
	}
}
