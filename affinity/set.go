package affinity

import (
	"maps"
	"net/netip"
	"slices"
)

// A Plan is how a complete set of an owner's tunnels is reached.
type Plan struct {
	Puts      []PlannedPut
	Deletes   []PlannedDelete
	Unchanged int
	Newer     []string // pushed since the request began, so left alone
	Refused   []Refusal
}

// PlannedPut is a tunnel to put, and the stamp of the record that it replaces: 0 for none.
type PlannedPut struct {
	Tunnel *Tunnel
	Seen   Stamp
}

// PlannedDelete is a tunnel that the set does not name.
type PlannedDelete struct {
	ID   string
	Seen Stamp
}

// PlanSet compares the complete wanted set of an owner with a table. Records stamped after start are left alone. The set
// is judged by its final state: a claim may pass from one tunnel to another within it. What would be contested or is
// faulty in itself is refused, and the tunnel stays as it was. keep names tunnels that must not be deleted.
// The table is written to: give it a clone that nobody else uses.
func PlanSet(t *Table, by Actor, owner string, start Stamp, wanted []*Tunnel, reserved []netip.Prefix, keep func(*Tunnel) bool) Plan {
	p := planner{t: t, plan: &Plan{}, deleted: map[string]bool{}, old: map[string]*Tunnel{}}
	named := make(map[string]bool, len(wanted))
	for _, w := range wanted {
		named[w.ID] = true
	}
	t.Tunnels("", func(tun *Tunnel) bool {
		switch {
		case tun.Owner != owner || named[tun.ID]:
		case tun.Header.Stamp > start:
			p.plan.Newer = append(p.plan.Newer, tun.ID)
		case keep == nil || !keep(tun):
			p.plan.Deletes = append(p.plan.Deletes, PlannedDelete{tun.ID, tun.Header.Stamp})
		}
		return true
	})
	for _, d := range p.plan.Deletes {
		p.deleted[d.ID] = true
		tun, _ := t.Tunnel(d.ID)
		t.DeleteTunnel(tun)
	}
	for _, w := range wanted {
		p.put(w, by, owner, start, reserved)
	}
	p.settle()
	return *p.plan
}

type planner struct {
	t       *Table
	plan    *Plan
	deleted map[string]bool    // by the plan itself
	old     map[string]*Tunnel // of what was put: the record before, nil for none
}

func (p *planner) put(w *Tunnel, by Actor, owner string, start Stamp, reserved []netip.Prefix) {
	if tomb, dead := p.t.Tombstone(w.ID); dead && tomb.Header.Stamp > start && !p.deleted[w.ID] {
		p.plan.Newer = append(p.plan.Newer, w.ID)
		return
	}
	old, exists := p.t.Tunnel(w.ID)
	if exists && old.Owner == owner && old.Header.Stamp > start {
		p.plan.Newer = append(p.plan.Newer, w.ID)
		return
	}
	if _, refusal := p.t.CheckTunnel(w, by, reserved, true); refusal != nil {
		p.plan.Refused = append(p.plan.Refused, *refusal)
		return
	}
	next := *w
	next.Owner = owner
	next.Created = start + 1 // behind every record there is
	seen := Stamp(0)
	if exists {
		next.Header, next.Created, next.Roamed, seen = old.Header, old.Created, old.Roamed, old.Header.Stamp
		if SameIntent(old, &next) {
			p.plan.Unchanged++
			return
		}
	}
	p.old[w.ID] = old
	p.t.MakeWay(&next, func(other *Tunnel, deleted bool) {
		if deleted {
			p.t.DeleteTunnel(other)
		} else {
			p.t.PutTunnel(other)
		}
	})
	p.t.PutTunnel(&next)
	p.t.Take()
	p.plan.Puts = append(p.plan.Puts, PlannedPut{&next, seen})
}

// settle takes back puts until no claim is contested because of one. Each put is taken back at most once, and the state
// before all of them was sound, so it ends.
func (p *planner) settle() {
	for {
		var refused []Refusal
		for _, put := range p.plan.Puts {
			if r := p.t.checkClaims(put.Tunnel); r != nil && p.loses(put.Tunnel) {
				refused = append(refused, *r)
				p.takeBack(put.Tunnel.ID)
			}
		}
		if refused == nil {
			return
		}
		p.plan.Refused = append(p.plan.Refused, refused...)
		p.plan.Puts = slices.DeleteFunc(p.plan.Puts, func(put PlannedPut) bool {
			_, still := p.old[put.Tunnel.ID]
			return !still
		})
	}
}

// loses tells whether tun must give way: a rival stays as it was, or comes before it.
func (p *planner) loses(tun *Tunnel) bool {
	loses := false
	rival := func(c claim) {
		p.t.endpoints.each(c.key(), func(h claim) bool { loses = loses || p.yields(tun, c, h); return !loses })
	}
	p.t.eachEndpointClaim(tun.ID, tun, rival)
	p.t.eachSubnetClaim(tun.ID, tun, func(c claim) {
		p.t.subnets.each(c.key(), func(h claim) bool { loses = loses || p.yields(tun, c, h); return !loses })
	})
	return loses
}

func (p *planner) yields(tun *Tunnel, c, h claim) bool {
	if h.id == tun.ID || p.t.groupID(h.id) == tun.GroupID() {
		return false
	}
	_, rivalIsNew := p.old[h.id]
	return !rivalIsNew || h.created < c.created || h.created == c.created && h.id < c.id
}

func (p *planner) takeBack(id string) {
	before := p.old[id]
	delete(p.old, id)
	if before != nil {
		p.t.PutTunnel(before)
	} else {
		now, _ := p.t.Tunnel(id)
		p.t.DeleteTunnel(now)
	}
	p.t.Take()
}

// SameIntent tells whether two records ask for the same.
func SameIntent(a, b *Tunnel) bool {
	return a.ID == b.ID && a.Service == b.Service && a.Owner == b.Owner && a.Bandwidth == b.Bandwidth && a.Group == b.Group &&
		a.Tenant == b.Tenant && a.State == b.State && a.Generation == b.Generation && a.GenClosed == b.GenClosed &&
		slices.Equal(a.Endpoints, b.Endpoints) && slices.Equal(a.Subnets, b.Subnets) &&
		slices.Equal(a.SeparateFrom, b.SeparateFrom) && maps.Equal(a.Labels, b.Labels)
}
