package director

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"tunneldirector/affinity"
	"tunneldirector/affinity/place"
	"tunneldirector/director/agent"
	"tunneldirector/director/api"
)

// A drain moves a real server's groups elsewhere at a rate, idle ones first, then those with the most expected bandwidth; at
// its deadline all that are left. Where there is no room they stay, and are tried again. While automatic moves are frozen
// nothing moves.
type drain struct {
	after  affinity.GroupID // how far the pins were looked through
	found  []drainable
	queue  []affinity.GroupID // sorted
	rested time.Time          // when the queue was last filled
	budget float64            // groups that may be moved now
	last   time.Time
	stuck  string // why the last one could not be moved
}

type drainable struct {
	group affinity.GroupID
	up    bool
	bits  uint64
}

const (
	drainLook   = 20_000 // pins looked at in a slice, of which
	drainFind   = 2_000  // are looked at closely
	drainMove   = 500    // groups moved in a slice, at most
	drainRest   = 2 * time.Second
	headlessPer = 20 // groups a second that are moved off a real server whose control process is gone
)

// drainPlan is how a real server is emptied now: groups a second, and whether the deadline is over; false: it is not.
func (d *Director) drainPlan(rs *affinity.RealServer) (rate float64, all, draining bool) {
	now := d.o.Now()
	if rs.Admin == affinity.Drained && rs.Drain != nil {
		rate, all, draining = float64(rs.Drain.Milli)/1000, rs.Drain.By != 0 && !now.Before(d.deadline(rs, now)), true
	}
	if since, ok := d.headless[rs.Name]; ok && now.Sub(since) >= headlessGrace && d.saysHeadless(rs.Name) {
		rate, draining = max(rate, headlessPer), true
	}
	return rate, all, draining
}

// A deadline is when a drain ends by this process's own clock, which does not jump.
type deadline struct {
	by affinity.Stamp
	at time.Time
}

// deadline is that of a drain: worked out when it is seen first, so that a clock that is set does not move everything at once.
func (d *Director) deadline(rs *affinity.RealServer, now time.Time) time.Time {
	known, ok := d.deadlines[rs.Name]
	if !ok || known.by != rs.Drain.By {
		known = deadline{rs.Drain.By, now.Add(rs.Drain.By.Time().Sub(now))}
		d.deadlines[rs.Name] = known
	}
	return known.at
}

// drainSlice does what is due of all drains.
func (d *Director) drainSlice(ctx context.Context) {
	for _, rs := range d.work.RealServers() {
		rate, all, draining := d.drainPlan(rs)
		life, ok := d.work.LifeOf(rs.Name)
		if !draining || !ok || !life.Alive || d.work.Freeze().On || d.work.Load(life.Index).Tunnels == 0 {
			if x := d.drains[rs.Name]; x != nil {
				d.stick(rs.Name, x, "")
				delete(d.drains, rs.Name)
			}
			continue
		}
		x := d.drains[rs.Name]
		if x == nil {
			x = &drain{last: d.o.Now()}
			d.drains[rs.Name] = x
		}
		if len(x.queue) == 0 {
			d.fillDrain(x, life.Index)
		}
		d.moveDrained(ctx, rs.Name, x, life.Index, rate, all)
	}
}

// fillDrain looks on for groups of an index; the queue is filled when all pins were looked through.
func (d *Director) fillDrain(x *drain, i affinity.Index) {
	now := d.o.Now()
	if now.Sub(x.rested) < drainRest && x.after == "" {
		return
	}
	looked, more, most := 0, false, len(x.found)+drainFind
	d.work.Pins(x.after, func(p affinity.Pin) bool {
		if looked == drainLook || len(x.found) == most {
			more = true
			return false
		}
		looked++
		x.after = p.Group
		if p.Primary == i {
			g := drainable{group: p.Group}
			for _, tun := range d.work.PlacedBy(p.Group) {
				g.bits += tun.Bandwidth
				g.up = g.up || d.mayBeUp(d.work, tun)
			}
			x.found = append(x.found, g)
		}
		return true
	})
	if more {
		return
	}
	slices.SortFunc(x.found, func(a, b drainable) int {
		switch {
		case a.up != b.up && b.up:
			return -1
		case a.up != b.up:
			return 1
		}
		return cmp.Or(cmp.Compare(b.bits, a.bits), cmp.Compare(a.group, b.group))
	})
	for _, g := range x.found {
		x.queue = append(x.queue, g.group)
	}
	x.found, x.after, x.rested = nil, "", now
}

// moveDrained moves as many groups as the rate allows.
func (d *Director) moveDrained(ctx context.Context, name string, x *drain, i affinity.Index, rate float64, all bool) {
	now := d.o.Now()
	x.budget = min(x.budget+now.Sub(x.last).Seconds()*rate, max(1, rate))
	x.last = now
	n := min(int(x.budget), drainMove, len(x.queue))
	if all {
		n = min(drainMove, len(x.queue))
	}
	if n == 0 {
		return
	}
	tx, stuck := d.begin(), ""
	for _, g := range x.queue[:n] {
		if p, ok := tx.t.Pin(g); ok && p.Primary == i {
			stuck = tx.drainOne(g)
		}
	}
	x.queue = x.queue[n:]
	x.budget = max(0, x.budget-float64(n))
	if err := d.commit(ctx, tx); err != nil {
		stuck = err.Error()
	}
	d.stick(name, x, stuck)
}

// stick notes why a drain does not get on; "": it does.
func (d *Director) stick(name string, x *drain, why string) {
	if why != x.stuck {
		x.stuck = why
		d.note(func(h *health) {
			if h.stuck[name] = why; why == "" {
				delete(h.stuck, name)
			}
		})
	}
}

// saysHeadless tells whether an agent is there that says so now.
func (d *Director) saysHeadless(name string) bool {
	a, ok := d.o.Agents.Agent(name)
	return ok && a.Connected && a.Status.Health == agent.HealthHeadless
}

// drainOne places a group elsewhere, or says why it cannot.
func (x *tx) drainOne(g affinity.GroupID) (stuck string) {
	x.replan(g, func(tunnels []*affinity.Tunnel, v place.View, dem place.Demand, old affinity.Pin) (affinity.Pin, bool) {
		dem.Exclude = append(dem.Exclude, old.Primary)
		choice, err := place.Choose(v, dem)
		if err != nil {
			stuck = err.Error()
			return old, false
		}
		x.d.turn++
		return affinity.Pin{Group: g, Primary: choice.Primary, Backup: choice.Backup, Why: affinity.WhyDrained, Note: strings.Join(choice.Notes, "; ")}, true
	})
	return stuck
}

// startDrain refuses a drain too many, and fills in what a drain began with.
func (x *tx) startDrain(rs *affinity.RealServer, plan *affinity.Drain) (*affinity.Drain, *affinity.Refusal) {
	if r := x.unavailable(rs); r != nil {
		return nil, r
	}
	if plan == nil {
		return nil, nil
	}
	next := *plan
	next.Started = affinity.NewStamp(x.now, 0)
	next.Of, _ = x.pinned(rs.Name)
	return &next, nil
}

// unavailable refuses to drain one more real server of a service than may be out of use at a time.
func (x *tx) unavailable(rs *affinity.RealServer) *affinity.Refusal {
	for _, name := range rs.Services {
		s, ok := x.t.Service(name)
		if !ok || s.MaxUnavailable == 0 {
			continue
		}
		var out []string
		for _, other := range x.t.RealServers() {
			if other.Name == rs.Name || !slices.Contains(other.Services, name) {
				continue
			}
			life, born := x.t.LifeOf(other.Name)
			switch {
			case other.Admin == affinity.Drained:
				out = append(out, other.Name+" drained")
			case born && !life.Alive:
				out = append(out, other.Name+" dead")
			}
		}
		if len(out) >= int(s.MaxUnavailable) {
			return affinity.Refuse(affinity.Conflict, "real server "+rs.Name, affinity.Fault{Field: "admin", Value: "drained",
				Problem: "service " + name + " has max_unavailable " + fmt.Sprint(s.MaxUnavailable) + ", and there are " + strings.Join(out, ", "),
				Remedy:  "undrain one of them first, or raise max_unavailable of the service"})
		}
	}
	return nil
}

// drainStatus is how a drain stands.
func drainStatus(t *affinity.Table, rs *affinity.RealServer, left uint32, now time.Time) *api.DrainStatus {
	if rs.Admin != affinity.Drained || rs.Drain == nil {
		return nil
	}
	out := &api.DrainStatus{Started: rs.Drain.Started.Time(), Of: rs.Drain.Of, Left: left, Rate: float64(rs.Drain.Milli) / 1000}
	if rs.Drain.By != 0 {
		by := rs.Drain.By.Time()
		out.Deadline = &by
	}
	switch {
	case left == 0, t.Freeze().On:
	case out.Rate > 0:
		eta := now.Add(time.Duration(float64(left) / out.Rate * float64(time.Second)))
		if out.Deadline != nil && out.Deadline.Before(eta) {
			eta = *out.Deadline
		}
		out.ETA = &eta
	case out.Deadline != nil:
		out.ETA = out.Deadline
	}
	return out
}
