package director

import (
	"fmt"
	"slices"
	"time"

	"tunneldirector/affinity"
	"tunneldirector/director/api"
)

// A tx is the next table while it is being built.
type tx struct {
	d      *Director
	t      *affinity.Table
	now    time.Time
	by     affinity.Actor
	events []api.Event
}

func (d *Director) begin() *tx { return &tx{d: d, t: d.work.Clone(), now: d.o.Now()} }

// header is that of a record written now.
func (x *tx) header() affinity.Header {
	return affinity.Header{Stamp: x.d.clock.Next(x.now), Origin: x.d.o.Name, Format: affinity.Format}
}

func (x *tx) event(kind, object string, f func(*api.Event)) {
	e := api.Event{Time: x.now, Kind: kind, Object: object, By: x.by.Name}
	if f != nil {
		f(&e)
	}
	x.events = append(x.events, e)
}

// do applies one change or refuses it.
func (x *tx) do(op affinity.Op) affinity.Result {
	x.by = op.Asks()
	switch op := op.(type) {
	case affinity.PutTunnel:
		return x.putTunnel(op)
	case affinity.DeleteTunnel:
		return x.deleteTunnel(op)
	case affinity.PutService:
		return x.putService(op.Service)
	case affinity.DeleteService:
		return x.deleteService(op.Name)
	case affinity.PutTenant:
		return x.putTenant(op.Tenant)
	case affinity.DeleteTenant:
		return x.deleteTenant(op.Name)
	case affinity.PutRealServer:
		return x.putRealServer(op.RealServer)
	case affinity.DeleteRealServer:
		return x.deleteRealServer(op)
	case affinity.SetAdmin:
		return x.setAdmin(op)
	case affinity.Repin:
		return x.repin(op)
	case affinity.SetFreeze:
		return x.setFreeze(op)
	}
	panic(fmt.Sprintf("unknown change %T", op))
}

func refused(r *affinity.Refusal) affinity.Result { return affinity.Result{Err: r} }

func (x *tx) putTunnel(op affinity.PutTunnel) affinity.Result {
	next := *op.Tunnel
	old, exists := x.t.Tunnel(next.ID)
	if op.Unless != nil && exists && old.Header.Stamp != *op.Unless {
		return affinity.Result{Group: old.GroupID()} // newer: left alone
	}
	next.Owner = op.By.Name
	if exists {
		next.Owner, next.Created = old.Owner, old.Created
	}
	next.GenClosed = false
	warnings, r := x.t.CheckTunnel(&next, op.By, x.d.local.reserved, op.Transient)
	if r == nil {
		r = x.room(&next, exists)
	}
	if r != nil {
		return refused(r)
	}
	if next.Generation == 0 && exists {
		next.Generation = old.Generation
	}
	if exists && affinity.SameIntent(old, &next) {
		return x.answer(&next, affinity.Result{Warnings: warnings})
	}
	if r := x.checkTenants(old, &next); r != nil {
		return refused(r)
	}
	next.Header = x.header()
	if !exists {
		next.Created = next.Header.Stamp
	}
	before := len(x.events)
	x.change(old, &next)
	if len(x.events) == before {
		x.event("tunnel-put", next.ID, nil)
	}
	res := x.answer(&next, affinity.Result{Changed: true, Created: !exists, Warnings: warnings})
	if res.Pin.Primary == 0 {
		res.Warnings = append(res.Warnings, "unplaced: "+res.Pin.Note)
	}
	return res
}

// room refuses a tunnel that the data plane has no room for.
func (x *tx) room(next *affinity.Tunnel, exists bool) *affinity.Refusal {
	limit := x.d.o.MaxTunnels
	if exists || limit == 0 || x.t.Len() < limit {
		return nil
	}
	return affinity.Refuse(affinity.Full, "tunnel "+next.ID, affinity.Fault{Field: "id", Value: next.ID,
		Problem: fmt.Sprintf("the table holds %d tunnels, its limit", limit), Remedy: "raise limits.max_tunnels and restart the director, or delete tunnels"})
}

func (x *tx) answer(tun *affinity.Tunnel, r affinity.Result) affinity.Result {
	r.Group = tun.GroupID()
	r.Pin, _ = x.t.PinOf(tun)
	if x.t.Split(tun) {
		r.Warnings = append(r.Warnings, "split: the tunnel is up elsewhere than its group and keeps its real server until it is down or repinned")
	}
	return r
}

// change puts next in the place of old, which is nil for a new one, and sees to its placement.
func (x *tx) change(old, next *affinity.Tunnel) {
	if old == nil || old.GroupID() == next.GroupID() {
		x.t.PutTunnel(next)
		x.ensurePlaced(next)
		return
	}
	pin, had := x.t.PinOf(old)
	x.t.PutTunnel(next)
	x.leaveGroup(old)
	switch theirs, placed := x.t.Pin(next.GroupID()); {
	case !had || pin.Primary == 0:
	case next.Group == "": // leaves a group and keeps its real server
		pin.Group = next.GroupID()
		x.pin(pin)
	case !placed: // the first of its group brings its placement along
		pin.Group = next.GroupID()
		x.pin(pin)
		x.t.DropPin(affinity.GroupID(next.ID))
	case x.t.Serving(theirs) != x.t.Serving(pin) && x.d.up(x.t, next): // split
		pin.Group = affinity.GroupID(next.ID)
		x.pin(pin)
	default:
		x.t.DropPin(affinity.GroupID(next.ID))
	}
	x.ensurePlaced(next)
}

// leaveGroup forgets the placement of a group that has no tunnel any more.
func (x *tx) leaveGroup(old *affinity.Tunnel) {
	if old.Group != "" && len(x.t.GroupTunnels(old.GroupID())) == 0 {
		x.t.DropPin(old.GroupID())
	}
}

func (x *tx) deleteTunnel(op affinity.DeleteTunnel) affinity.Result {
	old, exists := x.t.Tunnel(op.ID)
	if op.Unless != nil && exists && old.Header.Stamp != *op.Unless {
		return affinity.Result{}
	}
	if r := x.t.CheckDelete(op.ID, op.Generation, op.By); r != nil {
		return refused(r)
	}
	if !exists {
		return affinity.Result{}
	}
	tomb := *old
	tomb.Header = x.header()
	tomb.Header.Deleted = true
	tomb.Generation, tomb.GenClosed = max(old.Generation, op.Generation), op.Generation != 0
	x.t.DeleteTunnel(&tomb)
	x.event("tunnel-deleted", op.ID, nil)
	x.d.sweep.roomAppeared = true
	return affinity.Result{Changed: true, Group: old.GroupID()}
}

// equal tells whether two readings of the host are alike.
func (l local) equal(o local) bool {
	return slices.Equal(l.own, o.own) && slices.Equal(l.reserved, o.reserved)
}
