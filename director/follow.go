package director

import (
	"fmt"
	"slices"

	"tunneldirector/affinity"
)

// tryChange puts next in the place of old, which is nil for a new one, and sees to its placement; or it refuses and changes
// nothing, if a tunnel that is up would be moved, or tenants that overlap would meet.
func (x *tx) tryChange(old, next *affinity.Tunnel) *affinity.Refusal {
	risky := next.Group != "" || old != nil && (old.Group != "" || old.Service != next.Service || x.overlaps(old, next))
	if !risky { // above all a new tunnel by itself: placement keeps it off other tenants
		x.change(old, next)
		return nil
	}
	saved, events, moves, turn, assigns := x.t.Save(), len(x.events), len(x.moves), x.d.turn, x.assigns
	x.assigns = true // judged by what the assigner would do
	was := x.serving(old, next)
	x.change(old, next)
	refusal := x.moved(was, old, next)
	if refusal == nil {
		refusal = x.meets(next)
	}
	x.assigns = assigns
	if refusal != nil || !assigns {
		x.t, x.events, x.moves, x.d.turn, x.cached = saved, x.events[:events], x.moves[:moves], turn, nil
	}
	if refusal == nil && !assigns {
		x.change(old, next)
	}
	return refusal
}

// overlaps tells whether a change may make a tunnel's subnets meet those of another tenant.
func (x *tx) overlaps(old, next *affinity.Tunnel) bool {
	return x.t.Tenanted() && (old.Tenant != next.Tenant || !slices.Equal(old.Subnets, next.Subnets))
}

// serving is where the tunnels that a change may touch are served.
func (x *tx) serving(old, next *affinity.Tunnel) map[string]affinity.Index {
	was := map[string]affinity.Index{}
	note := func(tun *affinity.Tunnel) {
		p, _ := x.t.PinOf(tun)
		was[tun.ID] = x.t.Serving(p)
	}
	for _, tun := range x.t.GroupTunnels(next.GroupID()) {
		note(tun)
	}
	if old != nil {
		note(old)
	}
	return was
}

// moved refuses a change by which a tunnel that is up changes its real server.
func (x *tx) moved(was map[string]affinity.Index, old, next *affinity.Tunnel) *affinity.Refusal {
	for id, i := range was {
		tun, ok := x.t.Tunnel(id)
		if !ok || i == 0 {
			continue
		}
		p, _ := x.t.PinOf(tun)
		before := *tun
		if id == next.ID { // packets came by its old endpoints; what the NMS says of it, it says now
			before = *old
			before.State = next.State
		}
		if x.t.Serving(p) == i || x.t.Shares(tun) && id == next.ID {
			continue
		}
		how, remedy := x.d.howUp(x.t, &before)
		if how == "" {
			continue
		}
		field, value := "group", next.Group
		if old != nil && old.Service != next.Service {
			field, value = "service", next.Service
		}
		return affinity.Refuse(affinity.Conflict, "tunnel "+next.ID, affinity.Fault{Field: field, Value: value,
			Problem: fmt.Sprintf("tunnel %s %s at %s and would have to move", id, how, x.t.NameAt(i)), Remedy: remedy})
	}
	return nil
}

// meets refuses a change by which a tunnel shares a real server with another tenant's overlapping subnets.
func (x *tx) meets(next *affinity.Tunnel) *affinity.Refusal {
	if !x.t.Tenanted() {
		return nil
	}
	p, _ := x.t.PinOf(next)
	for _, i := range x.overlapped([]*affinity.Tunnel{next}) {
		if i != 0 && (i == p.Primary || i == p.Backup) {
			return affinity.Refuse(affinity.Conflict, "tunnel "+next.ID, affinity.Fault{Field: "subnets", Value: next.Subnets[0].String(),
				Problem: "overlaps another tenant's subnet on real server " + x.t.NameAt(i) + ", where its group is",
				Remedy:  "repin the group first, or give the real server a VLAN for each tenant"})
		}
	}
	return nil
}

// change puts next in the place of old, and sees to its placement.
func (x *tx) change(old, next *affinity.Tunnel) {
	x.t.PutTunnel(next)
	x.follow(old, next)
}

// follow sees to the placement of a tunnel that has changed: the assigner's part of a push, whoever took it.
func (x *tx) follow(old, next *affinity.Tunnel) {
	if !x.assigns {
		return
	}
	if old != nil && old.GroupID() != next.GroupID() {
		x.changeGroup(old, next)
	} else if x.t.Split(next) && !x.d.mayBeUp(x.t, next) {
		x.dropPin(affinity.GroupID(next.ID)) // it is down: it joins its group
	}
	x.ensurePlaced(next)
	if old != nil && x.overlaps(old, next) {
		x.evade(next)
	}
}

// dropPin deletes a group's placement, if it has one.
func (x *tx) dropPin(g affinity.GroupID) {
	if x.assigns && x.t.PinEpoch(g) > 0 {
		x.t.DropPin(g, x.header(affinity.KindPin, string(g)))
	}
}

// leave forgets the placements that nobody needs when a tunnel is gone.
func (x *tx) leave(old *affinity.Tunnel) {
	if own := affinity.GroupID(old.ID); x.t.Empty(own) {
		x.dropPin(own)
	}
	x.leaveGroup(old)
}

// changeGroup takes a tunnel from one group to another.
func (x *tx) changeGroup(old, next *affinity.Tunnel) {
	pin, had := x.t.PinOf(old)
	x.leaveGroup(old)
	own := affinity.GroupID(next.ID)
	switch theirs, placed := x.t.Pin(next.GroupID()); {
	case !had || pin.Primary == 0:
		return
	case next.Group == "": // leaves a group and keeps its real server
		pin.Group = own
	case !placed: // the first of its group brings its placement along
		x.dropPin(own)
		pin.Group = next.GroupID()
	case x.t.Serving(theirs) != x.t.Serving(pin) && x.d.mayBeUp(x.t, next) && !x.t.Shares(next): // split
		pin.Group = own
	default: // joins; one that shares an endpoint with a member cannot be apart from it
		x.dropPin(own)
		return
	}
	x.pin(pin)
	if pin, _ = x.t.Pin(pin.Group); x.t.NeedsMending(pin) {
		x.mend(pin)
	}
}

// evade places a group anew that is not up, if it meets another tenant's overlapping subnets where it is.
func (x *tx) evade(next *affinity.Tunnel) {
	pin, _ := x.t.PinOf(next)
	meets := x.overlapped([]*affinity.Tunnel{next})
	switch {
	case pin.Primary != 0 && slices.Contains(meets, pin.Primary):
		if !slices.ContainsFunc(x.t.PlacedBy(pin.Group), func(tun *affinity.Tunnel) bool { return x.d.mayBeUp(x.t, tun) }) {
			x.place(pin.Group, affinity.WhyPlaced)
		}
	case pin.Backup != 0 && slices.Contains(meets, pin.Backup):
		x.backup(pin.Group, pin.Primary, affinity.WhyBackup)
	}
}

// leaveGroup forgets the placement of a group that has no tunnel any more.
func (x *tx) leaveGroup(old *affinity.Tunnel) {
	if old.Group != "" && x.t.Empty(old.GroupID()) {
		x.dropPin(old.GroupID())
	}
}
