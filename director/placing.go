package director

import (
	"slices"
	"strings"

	"tunneldirector/affinity"
	"tunneldirector/affinity/place"
	"tunneldirector/director/api"
)

// ensurePlaced places the group of a tunnel if it has no pin, or one that does not do any more.
func (x *tx) ensurePlaced(tun *affinity.Tunnel) {
	pin, had := x.t.PinOf(tun)
	if had && pin.Primary != 0 && x.serves(pin.Primary, tun) {
		return
	}
	why := affinity.WhyPlaced
	if !had {
		pin.Group = tun.GroupID()
	}
	x.place(pin.Group, why)
}

// serves tells whether the real server at an index terminates a tunnel's service.
func (x *tx) serves(i affinity.Index, tun *affinity.Tunnel) bool {
	rs, _, ok := x.t.RealServerAt(i)
	return ok && (rs == nil || slices.Contains(rs.Services, tun.Service))
}

// place chooses primary and backup of a group anew. If there is no room the group is unplaced, and its pin says why.
func (x *tx) place(g affinity.GroupID, why affinity.Why) {
	tunnels := x.t.GroupTunnels(g)
	if len(tunnels) == 0 {
		return
	}
	view := x.view(tunnels)
	choice, err := place.Choose(view, x.demand(tunnels))
	pin, _ := x.t.Pin(g)
	if err != nil {
		if pin.Primary == 0 && pin.Note == err.Error() {
			return
		}
		x.pin(affinity.Pin{Group: g, Why: affinity.WhyUnplaced, Note: err.Error()})
		return
	}
	x.d.turn++
	x.pin(affinity.Pin{Group: g, Primary: choice.Primary, Backup: choice.Backup, Why: why, Note: strings.Join(choice.Notes, "; ")})
}

// backup chooses only the backup anew.
func (x *tx) backup(pin affinity.Pin, why affinity.Why) {
	tunnels := x.t.GroupTunnels(pin.Group)
	if len(tunnels) == 0 {
		return
	}
	b, note := place.ChooseBackup(x.view(tunnels), x.demand(tunnels), pin.Primary)
	if b == pin.Backup && note == pin.Note && why == affinity.WhyBackup {
		return
	}
	pin.Backup, pin.Note, pin.Why = b, note, why
	x.pin(pin)
}

// pin writes a placement and tells of it.
func (x *tx) pin(p affinity.Pin) {
	old, had := x.t.Pin(p.Group)
	p.Header = x.header()
	p.Header.Epoch = old.Header.Epoch + 1
	p.Since = old.Since
	if !had || old.Primary != p.Primary {
		p.Since = p.Header.Stamp
	}
	x.t.SetPin(p)
	kind := "placed"
	switch {
	case p.Primary == 0:
		kind = "unplaced"
	case had && old.Primary != 0 && old.Primary != p.Primary:
		kind = "moved"
	}
	x.event(kind, groupName(p.Group), func(e *api.Event) {
		e.From, e.To, e.Backup, e.Why = x.t.NameAt(old.Primary), x.t.NameAt(p.Primary), x.t.NameAt(p.Backup), p.Why.String()
		if p.Note != "" {
			e.Why += ": " + p.Note
		}
	})
}

// groupName is a group as people write it.
func groupName(g affinity.GroupID) string {
	if name, explicit := g.Explicit(); explicit {
		return name
	}
	return string(g)
}

// view is what placement may choose from: the real servers that serve all services of the tunnels.
func (x *tx) view(tunnels []*affinity.Tunnel) place.View {
	v := place.View{Pair: x.t.PairLoad, Mean: 1, Turn: x.d.turn}
	if s, ok := x.t.Service(tunnels[0].Service); ok {
		v.Mean, v.Policy = x.t.ServiceLoad(s.Num).Mean(), s.Policy
	}
	for _, rs := range x.t.RealServers() {
		life, ok := x.t.LifeOf(rs.Name)
		if !ok || slices.ContainsFunc(tunnels, func(tun *affinity.Tunnel) bool { return !slices.Contains(rs.Services, tun.Service) }) {
			continue
		}
		v.Servers = append(v.Servers, place.Server{Index: life.Index, Name: rs.Name, Host: rs.Host, Zone: rs.Zone,
			Weight: rs.Weight, Capacity: rs.Capacity, Alive: life.Alive,
			Open: life.Alive && rs.Admin == affinity.Active && rs.Weight > 0, Load: x.t.Load(life.Index)})
	}
	return v
}

func (x *tx) demand(tunnels []*affinity.Tunnel) place.Demand {
	var d place.Demand
	for _, tun := range tunnels {
		d.Load.Tunnels++
		d.Load.Bandwidth += tun.Bandwidth
		if tun.Bandwidth == 0 {
			d.Load.Unknown++
		}
	}
	x.t.Apart(tunnels, func(g affinity.GroupID) {
		if p, ok := x.t.Pin(g); ok && p.Primary != 0 {
			d.Apart = append(d.Apart, p.Primary)
			if p.Backup != 0 {
				d.Apart = append(d.Apart, p.Backup)
			}
		}
	})
	if x.t.Tenanted() {
		d.Exclude = x.overlapped(tunnels)
	}
	return d
}

// overlapped are the real servers that tunnels of other tenants with overlapping subnets are pinned to, and that cannot
// tell the tenants apart.
func (x *tx) overlapped(tunnels []*affinity.Tunnel) []affinity.Index {
	var out []affinity.Index
	add := func(i affinity.Index, mine, theirs string) {
		rs, _, ok := x.t.RealServerAt(i)
		if !ok || rs == nil || slices.Contains(out, i) || rs.VLANs[mine] != 0 && rs.VLANs[theirs] != 0 && rs.VLANs[mine] != rs.VLANs[theirs] {
			return
		}
		out = append(out, i)
	}
	for _, tun := range tunnels {
		tenant, ok := x.t.Tenant(tun.Tenant)
		if !ok {
			continue
		}
		for _, p := range tun.Subnets {
			x.t.Overlapping(tenant.Num, p, func(id string) bool {
				other, _ := x.t.Tunnel(id)
				pin, _ := x.t.PinOf(other)
				add(pin.Primary, tun.Tenant, other.Tenant)
				add(pin.Backup, tun.Tenant, other.Tenant)
				return len(out) < len(x.t.RealServers())
			})
		}
	}
	return out
}

// checkTenants sees to it that a tunnel's new subnets do not meet another tenant's on the real server where it is: it is
// moved if it may be, else the change is refused.
func (x *tx) checkTenants(old, next *affinity.Tunnel) *affinity.Refusal {
	if old == nil || !x.t.Tenanted() || slices.Equal(old.Subnets, next.Subnets) && old.Tenant == next.Tenant {
		return nil
	}
	pin, _ := x.t.PinOf(old)
	meets := x.overlapped([]*affinity.Tunnel{next})
	if pin.Primary == 0 || !slices.Contains(meets, pin.Primary) && !slices.Contains(meets, pin.Backup) {
		return nil
	}
	if slices.Contains(meets, pin.Primary) && x.d.up(x.t, old) {
		return affinity.Refuse(affinity.Conflict, "tunnel "+next.ID, affinity.Fault{Field: "subnets", Value: next.Subnets[0].String(),
			Problem: "overlaps another tenant's subnet on real server " + x.t.NameAt(pin.Primary) + ", and the tunnel is up there",
			Remedy:  "repin the tunnel first, or give the real server a VLAN for each tenant"})
	}
	x.t.DropPin(pin.Group) // ensurePlaced finds another
	return nil
}

func (x *tx) repin(op affinity.Repin) affinity.Result {
	object := "group " + groupName(op.Group)
	tunnels := x.t.GroupTunnels(op.Group)
	if len(tunnels) == 0 {
		return refused(affinity.Refuse(affinity.NotFound, object, affinity.Fault{Field: "group", Value: groupName(op.Group),
			Problem: "is neither a group nor a tunnel", Remedy: "director tunnel list"}))
	}
	if tunnels[0].Group != "" { // the group moves, and split tunnels join it
		op.Group = tunnels[0].GroupID()
		tunnels = x.t.GroupTunnels(op.Group)
		for _, tun := range tunnels {
			x.t.DropPin(affinity.GroupID(tun.ID))
		}
	}
	if op.Idle && slices.ContainsFunc(tunnels, func(tun *affinity.Tunnel) bool { return x.d.up(x.t, tun) }) {
		return affinity.Result{Group: op.Group, Warnings: []string{"up: left alone"}}
	}
	view, demand := x.view(tunnels), x.demand(tunnels)
	if op.To != "" {
		view.Servers = slices.DeleteFunc(view.Servers, func(s place.Server) bool { return s.Name != op.To })
		if len(view.Servers) == 0 {
			return refused(affinity.Refuse(affinity.NotFound, object, affinity.Fault{Field: "to", Value: op.To,
				Problem: "is not a live real server of service " + tunnels[0].Service, Remedy: "director realserver list"}))
		}
	}
	before, _ := x.t.Pin(op.Group)
	demand.Load = x.without(demand.Load, before, &view)
	choice, err := place.Choose(view, demand)
	if err != nil {
		return refused(affinity.Refuse(affinity.Conflict, object, affinity.Fault{Field: "to", Value: op.To, Problem: err.Error(), Remedy: "choose another real server, undrain it or raise its capacity"}))
	}
	if choice.Primary == before.Primary {
		return affinity.Result{Group: op.Group, Pin: before}
	}
	x.pin(affinity.Pin{Group: op.Group, Primary: choice.Primary, Why: op.Why})
	pin, _ := x.t.Pin(op.Group)
	x.backup(pin, op.Why)
	return x.answer(tunnels[0], affinity.Result{Changed: true})
}

// without takes the group's own load off the real server where it is, so that it does not count twice.
func (x *tx) without(load affinity.Load, pin affinity.Pin, v *place.View) affinity.Load {
	for i := range v.Servers {
		if v.Servers[i].Index == pin.Primary {
			v.Servers[i].Load = v.Servers[i].Load.Sub(load)
		}
	}
	return load
}
