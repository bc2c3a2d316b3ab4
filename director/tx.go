package director

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"tunneldirector/affinity"
	"tunneldirector/affinity/place"
	"tunneldirector/director/api"
)

// A tx is the next table while it is being built.
type tx struct {
	d      *Director
	t      *affinity.Table
	now    time.Time
	by     affinity.Actor
	events []api.Event
	moves  []move

	assigns   bool           // placements and lives are this director's to write
	forgotten affinity.Stamp // tombstones before it are not taken
	defers    bool           // what follows from merged records waits
	lives     bool           // incarnations were merged

	looked map[string]bool // tunnels of which what is stale was released
	strays []stray

	// The last view for a tunnel alone, and of which service; nil when real servers or services have changed.
	cached    *place.View
	cachedFor string
}

func (d *Director) begin() *tx {
	d.watchWall()
	d.beginTurn() // the process may have been stopped while the loop waited for what it does now
	return &tx{d: d, t: d.work.Clone(), now: d.o.Now(), assigns: d.assigns}
}

// header is that of a record written now in the place of another version, if there is one.
func (x *tx) header(k affinity.Kind, key string) affinity.Header {
	old, _ := x.t.Version(k, key)
	return affinity.Header{Stamp: x.d.clock.Next(x.now, old.Stamp), Origin: x.d.o.Name, Format: affinity.Format}
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
	switch op.(type) {
	case affinity.PutTunnel, affinity.DeleteTunnel, affinity.Repin:
	default:
		x.cached = nil
	}
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

// try answers changes, those again that are refused while others get through, and leaves all as it was.
func (x *tx) try(ops []affinity.Op) []affinity.Result {
	saved, events, turn := x.t.Save(), len(x.events), x.d.turn
	out, todo := make([]affinity.Result, len(ops)), make([]int, len(ops))
	for i := range todo {
		todo[i] = i
	}
	for before := len(todo) + 1; len(todo) > 0 && len(todo) < before; {
		before = len(todo)
		todo = slices.DeleteFunc(todo, func(i int) bool {
			out[i] = x.do(ops[i])
			return out[i].Err == nil
		})
	}
	x.t, x.events, x.d.turn, x.cached = saved, x.events[:events], turn, nil
	return out
}

func refused(r *affinity.Refusal) affinity.Result { return affinity.Result{Err: r} }

func (x *tx) putTunnel(op affinity.PutTunnel) affinity.Result {
	next := *op.Tunnel
	old, exists := x.t.Tunnel(next.ID)
	if op.Unless != nil && (exists && old.Header.Stamp != *op.Unless || !exists && *op.Unless != 0) {
		return affinity.Result{Group: next.GroupID()} // newer, or deleted since: left alone
	}
	next.Owner = op.By.Name
	if exists {
		next.Created, next.Roamed = old.Created, old.Roamed
		if !old.Learned() { // else it is announced now
			next.Owner = old.Owner
		}
	}
	next.GenClosed = false
	warnings, r := x.t.CheckTunnel(&next, op.By, x.d.local.reserved, op.Transient)
	if r == nil {
		r = x.room(old, &next)
	}
	if r != nil {
		return refused(r)
	}
	next.Generation = max(next.Generation, x.known(next.ID))
	if exists && affinity.SameIntent(old, &next) && !x.d.before(old.Header.Stamp) {
		return x.answer(&next, affinity.Result{Warnings: warnings})
	}
	next.Header = x.header(affinity.KindTunnel, next.ID)
	if !exists {
		next.Created = next.Header.Stamp
	}
	before, saved := len(x.events), (*affinity.Table)(nil)
	x.t.MakeWay(&next, func(other *affinity.Tunnel, deleted bool) {
		if saved == nil {
			saved = x.t.Save()
		}
		p, placed := x.t.PinOf(other)
		x.makeWay(&next, other, deleted)
		if _, has := x.t.Pin(next.GroupID()); deleted && placed && !has && next.Service == other.Service && p.Primary != 0 {
			p.Group, p.Note = next.GroupID(), "it was learned there"
			x.pin(p)
		}
	})
	if r := x.tryChange(old, &next); r != nil {
		if saved != nil {
			x.t, x.events, x.cached = saved, x.events[:before], nil
		}
		return refused(r)
	}
	if len(x.events) == before {
		x.event("tunnel-put", next.ID, nil)
	}
	if lost := x.t.Contested(&next); len(lost) > 0 {
		x.event("contested", next.ID, func(e *api.Event) { e.Why = strings.Join(lost, "; ") })
		warnings = append(warnings, "contested: "+strings.Join(lost, "; "))
	}
	res := x.answer(&next, affinity.Result{Changed: true, Created: !exists, Warnings: warnings})
	if res.Pin.Primary == 0 && (x.assigns || res.Pin.Note != "") {
		res.Warnings = append(res.Warnings, "unplaced: "+res.Pin.Note)
	}
	return res
}

// known is the highest generation of a tunnel, alive or deleted.
func (x *tx) known(id string) uint64 {
	if tun, ok := x.t.Tunnel(id); ok {
		return tun.Generation
	}
	if tomb, ok := x.t.Tombstone(id); ok {
		return tomb.Generation
	}
	return 0
}

// room refuses a tunnel that the data plane has no room for.
func (x *tx) room(old, next *affinity.Tunnel) *affinity.Refusal {
	endpoints, subnets := x.t.Keys()
	if old == nil {
		old = &affinity.Tunnel{}
	}
	s, _ := x.t.Service(next.Service)
	more := func(n, o, have, limit int, field, name string) *affinity.Refusal {
		if limit == 0 || n <= o || have+n-o <= limit {
			return nil
		}
		return affinity.Refuse(affinity.Full, "tunnel "+next.ID, affinity.Fault{Field: field, Value: fmt.Sprint(n),
			Problem: fmt.Sprintf("the data plane's table holds %d of %d", have, limit), Remedy: "raise limits." + name + " and restart the director, or delete tunnels"})
	}
	if r := more(2*len(next.Claimed())*len(s.VIPs), 2*len(old.Claimed())*len(s.VIPs), endpoints, x.d.o.MaxEndpoints, "endpoints", "max_pins"); r != nil {
		return r
	}
	return more(len(next.Subnets), len(old.Subnets), subnets, x.d.o.MaxSubnets, "subnets", "max_subnets")
}

func (x *tx) answer(tun *affinity.Tunnel, r affinity.Result) affinity.Result {
	r.Group = tun.GroupID()
	r.Pin, _ = x.t.PinOf(tun)
	if x.t.Split(tun) {
		r.Warnings = append(r.Warnings, "split: the tunnel is or may be up elsewhere than its group and keeps its real server until it is down or repinned")
	}
	return r
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
		return x.deleteUnknown(op)
	}
	tomb := *old
	tomb.Header = x.header(affinity.KindTunnel, op.ID)
	tomb.Generation, tomb.GenClosed = max(old.Generation, op.Generation), op.Generation != 0
	x.t.DeleteTunnel(&tomb)
	x.leave(old)
	x.event("tunnel-deleted", op.ID, nil)
	x.d.sweep.roomFreed = true
	return affinity.Result{Changed: true, Group: old.GroupID()}
}

// deleteUnknown remembers the generation at which a tunnel that is not there was deleted: a push of an older one may be on
// its way.
func (x *tx) deleteUnknown(op affinity.DeleteTunnel) affinity.Result {
	if op.Generation == 0 || op.Generation < x.known(op.ID) {
		return affinity.Result{}
	}
	tomb := &affinity.Tunnel{Header: x.header(affinity.KindTunnel, op.ID), ID: op.ID, Owner: op.By.Name, Generation: op.Generation, GenClosed: true}
	if faults := tomb.Faults(); slices.ContainsFunc(faults, func(f affinity.Fault) bool { return f.Field == "id" }) {
		return affinity.Result{}
	}
	x.t.DeleteTunnel(tomb)
	return affinity.Result{}
}

// equal tells whether two readings of the host are alike.
func (l local) equal(o local) bool {
	return slices.Equal(l.own, o.own) && slices.Equal(l.reserved, o.reserved)
}
