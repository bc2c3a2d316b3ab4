package director

import (
	"fmt"
	"net/netip"
	"slices"

	"tunneldirector/affinity"
	"tunneldirector/director/api"
)

// Services, tenants and real servers: put and deleted by operators.

func (x *tx) putService(s *affinity.Service) affinity.Result {
	next := *s
	old, exists := x.t.Service(s.Name)
	if r := x.t.CheckService(&next, x.d.local.own); r != nil {
		return refused(r)
	}
	if exists {
		next.Header, next.Num = old.Header, old.Num
		if same(old, &next) {
			return affinity.Result{}
		}
	} else {
		next.Num = x.t.FreeServiceNumber()
	}
	next.Header = x.header(affinity.KindService, next.Name)
	if r := x.able("service", next.Name, func() { x.t.PutService(&next) }); r != nil {
		return refused(r)
	}
	x.event("service", next.Name, func(e *api.Event) { e.Why = "put" })
	if x.d.o.Agents != nil && next.Learn && (!exists || !old.Learn) {
		x.d.o.Agents.Again("")
	}
	return affinity.Result{Changed: true, Created: !exists}
}

// same tells whether two records encode alike.
func same(a, b interface{ Encode() ([]byte, error) }) bool {
	x, err1 := a.Encode()
	y, err2 := b.Encode()
	return err1 == nil && err2 == nil && string(x) == string(y)
}

func (x *tx) deleteService(name string) affinity.Result {
	if r := x.t.CheckDeleteService(name); r != nil {
		return refused(r)
	}
	s, _ := x.t.Service(name)
	tomb := *s
	tomb.Header = x.header(affinity.KindService, name)
	x.t.DeleteService(&tomb)
	x.event("service", name, func(e *api.Event) { e.Why = "deleted" })
	return affinity.Result{Changed: true}
}

func (x *tx) putTenant(n *affinity.Tenant) affinity.Result {
	next := *n
	old, exists := x.t.Tenant(n.Name)
	if r := x.t.CheckTenant(&next, x.d.local.reserved); r != nil {
		return refused(r)
	}
	switch {
	case exists:
		next.Header, next.Num = old.Header, old.Num
		if same(old, &next) {
			return affinity.Result{}
		}
	case next.Name != "":
		next.Num = x.t.FreeTenantNumber()
	}
	next.Header = x.header(affinity.KindTenant, next.Name)
	if r := x.able("tenant", next.Name, func() { x.t.PutTenant(&next) }); r != nil {
		return refused(r)
	}
	return affinity.Result{Changed: true, Created: !exists}
}

func (x *tx) deleteTenant(name string) affinity.Result {
	if r := x.t.CheckDeleteTenant(name); r != nil {
		return refused(r)
	}
	n, _ := x.t.Tenant(name)
	tomb := *n
	tomb.Header = x.header(affinity.KindTenant, name)
	x.t.DeleteTenant(&tomb)
	return affinity.Result{Changed: true}
}

func (x *tx) putRealServer(rs *affinity.RealServer) affinity.Result {
	next := *rs
	if next.Host == "" {
		next.Host = next.Name
	}
	next.Addrs = slices.Clone(next.Addrs)
	slices.SortFunc(next.Addrs, netip.Addr.Compare)
	old, exists := x.t.RealServer(rs.Name)
	if r := x.t.CheckRealServer(&next, x.d.local.reserved); r != nil {
		return refused(r)
	}
	if exists {
		next.Header, next.Admin, next.Drain = old.Header, old.Admin, old.Drain // SetAdmin alone changes that
		if same(old, &next) {
			return affinity.Result{}
		}
	}
	next.Header = x.header(affinity.KindRealServer, next.Name)
	if r := x.able("realserver", next.Name, func() { x.t.PutRealServer(&next) }); r != nil {
		return refused(r)
	}
	if exists && lostAddress(old, &next) {
		x.retire(next.Name, "its address was changed")
	}
	x.event("real-server", next.Name, func(e *api.Event) { e.Why = "put" })
	x.bearUnprobed(next.Name)
	x.d.sweep.roomAppeared = true
	return affinity.Result{Changed: true, Created: !exists}
}

// lostAddress tells whether a real server is not where it was any more.
func lostAddress(old, next *affinity.RealServer) bool {
	return slices.ContainsFunc(old.Addrs, func(a netip.Addr) bool { return !slices.Contains(next.Addrs, a) })
}

func (x *tx) setAdmin(op affinity.SetAdmin) affinity.Result {
	old, ok := x.t.RealServer(op.Name)
	if !ok {
		return refused(noRealServer(op.Name))
	}
	if old.Admin == op.Admin && sameDrain(old.Drain, op.Drain) {
		return affinity.Result{}
	}
	next := *old
	next.Admin, next.Drain = op.Admin, nil
	if op.Admin == affinity.Drained {
		plan, r := x.startDrain(old, op.Drain)
		if r != nil {
			return refused(r)
		}
		next.Drain = plan
	}
	next.Header = x.header(affinity.KindRealServer, next.Name)
	if r := x.able("realserver", next.Name, func() { x.t.PutRealServer(&next) }); r != nil {
		return refused(r)
	}
	x.event("real-server", op.Name, func(e *api.Event) { e.Why = op.Admin.String() })
	x.d.sweep.roomAppeared = true
	return affinity.Result{Changed: true}
}

// sameDrain tells whether two drains ask for the same.
func sameDrain(a, b *affinity.Drain) bool {
	return a == nil && b == nil || a != nil && b != nil && a.Milli == b.Milli && a.By == b.By
}

func noRealServer(name string) *affinity.Refusal {
	return affinity.Refuse(affinity.NotFound, "real server "+name, affinity.Fault{Field: "name", Value: name,
		Problem: "is not a real server", Remedy: "director realserver list"})
}

// deleteRealServer removes one that no pin names, or by force: then it is dead at once, and its groups are placed anew.
func (x *tx) deleteRealServer(op affinity.DeleteRealServer) affinity.Result {
	rs, ok := x.t.RealServer(op.Name)
	if !ok {
		return refused(noRealServer(op.Name))
	}
	primaries, backups := x.pinned(op.Name)
	if primaries > 0 && !op.Force {
		return refused(affinity.Refuse(affinity.Conflict, "real server "+op.Name, affinity.Fault{Field: "name", Value: op.Name,
			Problem: fmt.Sprintf("%d tunnels are pinned to it", primaries), Remedy: "drain and rebalance it first; --force moves them all at once"}))
	}
	x.retire(op.Name, "removed by "+op.By.Name)
	tomb := *rs
	tomb.Header = x.header(affinity.KindRealServer, op.Name)
	x.t.DeleteRealServer(&tomb)
	x.event("real-server", op.Name, func(e *api.Event) {
		e.Why = fmt.Sprintf("removed; %d tunnels move, %d get another backup", primaries, backups)
	})
	return affinity.Result{Changed: true}
}

// pinned counts the tunnels whose primary or backup is any incarnation of a real server.
func (x *tx) pinned(name string) (primaries, backups uint32) {
	x.t.Pairs(func(p, b affinity.Index, l affinity.Load) {
		if x.t.NameAt(p) == name {
			primaries += l.Tunnels
		}
		if x.t.NameAt(b) == name {
			backups += l.Tunnels
		}
	})
	return primaries, backups
}

func (x *tx) setFreeze(op affinity.SetFreeze) affinity.Result {
	if x.t.Freeze().On == op.On {
		return affinity.Result{}
	}
	x.t.SetFreeze(affinity.Freeze{Header: x.header(affinity.KindFreeze, affinity.FreezeKey), On: op.On, By: op.By.Name})
	x.event("freeze", x.d.o.Name, func(e *api.Event) {
		if e.Why = "automatic moves are allowed again"; op.On {
			e.Why = "automatic moves are stopped"
		}
	})
	x.d.sweep.roomAppeared = true
	return affinity.Result{Changed: true}
}
