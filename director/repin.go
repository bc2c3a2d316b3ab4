package director

import (
	"slices"

	"tunneldirector/affinity"
	"tunneldirector/affinity/place"
)

// repin moves a whole group, split tunnels too, to a real server by name or to the best one.
func (x *tx) repin(op affinity.Repin) affinity.Result {
	object := "group " + groupName(op.Group)
	tunnels := x.t.GroupTunnels(op.Group)
	if !x.assigns {
		return refused(x.notHere(object))
	}
	if len(tunnels) == 0 {
		return refused(affinity.Refuse(affinity.NotFound, object, affinity.Fault{Field: "group", Value: groupName(op.Group),
			Problem: "is neither a group nor a tunnel", Remedy: "director tunnel list"}))
	}
	g := tunnels[0].GroupID()
	tunnels = x.t.GroupTunnels(g)
	if op.Idle {
		if r := x.busy(object, op.To, tunnels); r != nil {
			return refused(r)
		}
	}
	var refusal *affinity.Refusal
	before := len(x.events)
	joined := x.liftSplit(g, tunnels)
	x.replan(g, func(_ []*affinity.Tunnel, v place.View, d place.Demand, old affinity.Pin) (affinity.Pin, bool) {
		next, r := chooseAt(v, d, op, object, tunnels[0].Service)
		next.Group, refusal = g, r
		return next, r == nil && next.Primary != old.Primary
	})
	for _, p := range joined {
		if refusal != nil {
			x.t.Unlift(p)
		} else {
			x.dropPin(p.Group)
			now, _ := x.t.Pin(g)
			x.moves = append(x.moves, move{group: g, apart: string(p.Group), from: p.Primary, to: now.Primary})
		}
	}
	if refusal != nil {
		return refused(refusal)
	}
	return x.answer(tunnels[0], affinity.Result{Changed: len(x.events) > before || len(joined) > 0})
}

// busy refuses to move a group that is up, or may be.
func (x *tx) busy(object, to string, tunnels []*affinity.Tunnel) *affinity.Refusal {
	for _, tun := range tunnels {
		if how, _ := x.d.howUp(x.t, tun); how != "" {
			return affinity.Refuse(affinity.Conflict, object, affinity.Fault{Field: "to", Value: to, Problem: "tunnel " + tun.ID + " " + how,
				Remedy: "wait until it is down, or move it all the same: director repin without --idle"})
		}
	}
	return nil
}

// liftSplit takes the pins of split tunnels off.
func (x *tx) liftSplit(g affinity.GroupID, tunnels []*affinity.Tunnel) (lifted []affinity.Pin) {
	for _, tun := range tunnels {
		if own := affinity.GroupID(tun.ID); own != g {
			if p, ok := x.t.Lift(own); ok {
				lifted = append(lifted, p)
			}
		}
	}
	return lifted
}

// chooseAt finds a placement at the real server that is asked for; "" is any.
func chooseAt(v place.View, d place.Demand, op affinity.Repin, object, service string) (affinity.Pin, *affinity.Refusal) {
	at := v
	if op.To != "" {
		at.Servers = slices.DeleteFunc(slices.Clone(v.Servers), func(s place.Server) bool { return s.Name != op.To })
		if len(at.Servers) == 0 {
			return affinity.Pin{}, affinity.Refuse(affinity.NotFound, object, affinity.Fault{Field: "to", Value: op.To,
				Problem: "is not a real server of service " + service + " that was ever alive", Remedy: "director realserver list"})
		}
	}
	choice, err := place.Choose(at, d)
	if err != nil {
		return affinity.Pin{}, affinity.Refuse(affinity.Conflict, object, affinity.Fault{Field: "to", Value: op.To, Problem: err.Error(),
			Remedy: "choose another real server, undrain it or raise its capacity"})
	}
	p := affinity.Pin{Primary: choice.Primary, Why: op.Why}
	p.Backup, p.Note = place.ChooseBackup(v, d, choice.Primary)
	return p, nil
}
