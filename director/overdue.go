package director

import (
	"slices"
	"time"

	"tunneldirector/affinity"
	"tunneldirector/director/agent"
	"tunneldirector/director/observe"
)

// An adoption is ordered when the pin moves, or it is overdue:
//
//	moved, and no agent has ever spoken for the successor here ──┐
//	moved by an assigner, or a run of this one, that is gone ────┴─▶ overdue ─▶ the successor's agent has told of all its tunnels:
//	                                                                   │      adopt ordered, unless the tunnel was up there meanwhile
//	                                                                   └───▶ overdueLives: forgotten, the site has dialled by itself
//
// What was ordered of an agent that has spoken and is silent now is with the Book, which sends it when the agent comes again.

// An overdue move is one whose adoption was not ordered.
type overdue struct {
	move
	since time.Time // moved
}

// overdueKey tells overdue moves to a real server apart: of a group the last one counts.
type overdueKey struct {
	group affinity.GroupID
	apart string
}

// A debt is all that is overdue of one real server's agent. Of an agent that is not there it costs no look.
type debt struct {
	moves map[overdueKey]overdue
	last  time.Time // when the last of them was moved
}

const (
	// overdueLives is how long after the move the adoption is made up for. By then sites have found out that nobody answers.
	overdueLives = 5 * time.Minute
	// overdueMost is how many groups are seen to in a turn.
	overdueMost = 1000
)

// owe notes that an adoption is overdue.
func (d *Director) owe(m move, since time.Time) {
	o := d.overdue[m.to]
	if o == nil {
		o = &debt{moves: map[overdueKey]overdue{}}
		d.overdue[m.to] = o
	}
	o.moves[overdueKey{m.group, m.apart}] = overdue{m, since}
	if since.After(o.last) {
		o.last = since
	}
}

// paid notes that an adoption was ordered.
func (d *Director) paid(m move) {
	if o := d.overdue[m.to]; o != nil {
		delete(o.moves, overdueKey{m.group, m.apart})
	}
}

// oweMoved notes a group that was moved a short while ago by whoever assigned before: what was ordered then is not known here. Who moved
// it from where is not either; where its tunnels were seen is.
func (d *Director) oweMoved(p affinity.Pin) {
	switch p.Why {
	case affinity.WhyFailed, affinity.WhyOrphan, affinity.WhyDrained, affinity.WhyRebalanced, affinity.WhyRepinned:
		if ago := max(0, d.reckoned().Sub(p.Since.Time())); ago < overdueLives && p.Primary != 0 {
			d.owe(move{group: p.Group, to: p.Primary}, d.o.Now().Add(-ago))
		}
	}
}

// adoptOverdue orders what is overdue, of agents that can tell what is up already.
func (d *Director) adoptOverdue() {
	now, looks := d.o.Now(), overdueMost
	for to, o := range d.overdue {
		name := d.work.NameAt(to)
		switch {
		case name == "", len(o.moves) == 0, now.Sub(o.last) >= overdueLives:
			delete(d.overdue, to)
		case d.assigns && d.settled() && d.planeErr == nil && d.whole(name):
			d.settleDebt(name, o, now, &looks)
		}
	}
}

// settleDebt looks at so many of the moves to a real server, and takes off looks.
func (d *Director) settleDebt(to string, o *debt, now time.Time, looks *int) {
	var adopt []agent.Inherited
	for key, m := range o.moves {
		if *looks == 0 {
			break
		}
		*looks--
		if _, contested := d.joint.siblings[m.group]; contested {
			continue // it may go back to where its tunnels are up
		}
		delete(o.moves, key)
		if pin, ok := d.work.Pin(m.group); !ok || pin.Primary != m.to || now.Sub(m.since) >= overdueLives {
			continue
		}
		list, _ := d.inherited(m.move, m.since)
		for _, t := range list {
			if e, ordered := d.o.Agents.Errand(to, agent.OrderAdopt, t.ID); !d.establishedAt(to, t.ID) && (!ordered || e.Ordered.Before(m.since)) {
				adopt = append(adopt, t)
			}
		}
	}
	if len(adopt) > 0 {
		d.o.Agents.Order(to, agent.OrderAdopt, adopt)
		d.o.Log.Info("adopt ordered late", "real_server", to, "tunnels", len(adopt))
	}
}

// establishedAt tells whether a tunnel is established at a real server, whatever else is remembered of it, and by whichever clock.
func (d *Director) establishedAt(realServer, id string) bool {
	tun, ok := d.work.Tunnel(id)
	return ok && slices.ContainsFunc(d.sightings(d.work, tun, false), func(s observe.Sighting) bool { return s.RealServer == realServer })
}

// whole tells whether an agent is there that has told of all tunnels of a real server.
func (d *Director) whole(realServer string) bool {
	a, ok := d.o.Agents.Agent(realServer)
	return ok && a.Connected && a.Whole
}
