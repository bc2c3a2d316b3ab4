package director

import (
	"fmt"
	"time"

	"tunneldirector/director/api"
)

// wallWatch compares the wall clock with the time that passes.
type wallWatch struct {
	passed time.Time     // time.Now, whose differences are of the monotonic clock
	wall   time.Time     // the director's clock then
	jumped time.Time     // when the wall clock was last seen to jump; zero: never
	by     time.Duration // how far
}

const (
	wallJump = time.Minute      // what is more is no adjustment
	believe  = 10 * time.Minute // after which a lone director takes a jump for a correction
)

// watchWall lets stamps count on by themselves when the wall clock jumps, before any is made of it: a year ahead would stay
// ahead. A director with others knows from them when its clock is right again.
func (d *Director) watchWall() {
	w, now, wall := &d.watch, time.Now(), d.o.Now().Round(0)
	by := wall.Sub(w.wall) - now.Sub(w.passed)
	if !w.passed.IsZero() && (by > wallJump || by < -wallJump) {
		w.jumped, w.by, d.clock.Logical = now, by, true
		d.o.Log.Error("the wall clock jumped; stamps count on by themselves", "by", by)
		d.tell(api.Event{Kind: "clock", Object: d.o.Name, Why: fmt.Sprintf("jumped by %v; stamps count on by themselves", by.Round(time.Millisecond))})
	}
	w.passed, w.wall = now, wall
	if d.lone() && d.clock.Logical && now.Sub(w.jumped) > believe {
		d.clock.Logical = false
		d.o.Log.Warn("the wall clock is believed again", "it_jumped_by", w.by)
		d.tell(api.Event{Kind: "clock", Object: d.o.Name, Why: "is believed again"})
	}
}

// reckoned is the time by this director's clock, or by the others' where this one is off.
func (d *Director) reckoned() time.Time {
	if d.clock.Logical {
		return d.o.Now().Add(-d.joint.offset)
	}
	return d.o.Now()
}

// clockTrusted tells whether a jump is long enough ago that what the others say of this clock is about it as it is now.
func (d *Director) clockTrusted() bool {
	return d.watch.jumped.IsZero() || time.Since(d.watch.jumped) > 5*time.Second
}
