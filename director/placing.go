package director

import (
	"cmp"
	"context"
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
		if pin.Backup != 0 && !x.serves(pin.Backup, tun) {
			x.backup(pin.Group, pin.Primary, affinity.WhyBackup)
		}
		return
	}
	if !had {
		pin.Group = tun.GroupID()
	}
	x.place(pin.Group, affinity.WhyPlaced)
}

// serves tells whether the real server at an index terminates a tunnel's service.
func (x *tx) serves(i affinity.Index, tun *affinity.Tunnel) bool {
	rs, _, ok := x.t.RealServerAt(i)
	return ok && (rs == nil || slices.Contains(rs.Services, tun.Service))
}

// place chooses primary and backup of a group anew. If there is no room the group is unplaced, and its pin says why.
func (x *tx) place(g affinity.GroupID, why affinity.Why) {
	x.replan(g, func(tunnels []*affinity.Tunnel, v place.View, d place.Demand, old affinity.Pin) (affinity.Pin, bool) {
		if i := x.whereUp(tunnels, v, d); i != 0 && (old.Primary == 0 || x.t.Orphaned(old)) {
			next := affinity.Pin{Group: g, Primary: i, Why: why}
			next.Backup, next.Note = place.ChooseBackup(v, d, i)
			next.Note = strings.TrimPrefix(next.Note+"; it is established there", "; ")
			return next, true
		}
		if i := x.whereItWas(old, v, d); i != 0 {
			next := affinity.Pin{Group: g, Primary: i, Why: why}
			next.Backup, next.Note = place.ChooseBackup(v, d, i)
			next.Note = strings.TrimPrefix(next.Note+"; its real server is back", "; ")
			return next, true
		}
		choice, err := place.Choose(v, d)
		if err != nil {
			next := affinity.Pin{Group: g, Why: affinity.WhyUnplaced, Note: x.whyNot(tunnels[0].Service, v, err)}
			return next, old.Primary != 0 || old.Note != next.Note
		}
		x.d.turn++
		return affinity.Pin{Group: g, Primary: choice.Primary, Backup: choice.Backup, Why: why, Note: strings.Join(choice.Notes, "; ")}, true
	})
}

// whereUp is where agents see a group's tunnels established already, if it may be placed there; else 0.
func (x *tx) whereUp(tunnels []*affinity.Tunnel, v place.View, d place.Demand) affinity.Index {
	for _, tun := range tunnels {
		for _, s := range x.d.sightings(x.t, tun, false) {
			i := slices.IndexFunc(v.Servers, func(o place.Server) bool {
				return o.Name == s.RealServer && o.Alive && (o.Open || x.now.Sub(s.Last) <= upWindow) // packets prove it
			})
			if i >= 0 && x.d.fresh(s) && !slices.Contains(d.Exclude, v.Servers[i].Index) && !slices.Contains(d.Apart, v.Servers[i].Index) {
				return v.Servers[i].Index
			}
		}
	}
	return 0
}

// whereItWas is the new incarnation of an orphan's real server, if it is back and has room: after a partition, in which each side
// called the other's dead, it may never have been gone; else 0.
func (x *tx) whereItWas(old affinity.Pin, v place.View, d place.Demand) affinity.Index {
	if !x.t.Orphaned(old) {
		return 0
	}
	name := x.t.NameAt(old.Primary)
	for _, s := range v.Servers {
		full := s.Capacity > 0 && s.Load.Tunnels+d.Load.Tunnels > s.Capacity
		if s.Name == name && s.Alive && s.Open && !full && !slices.Contains(d.Exclude, s.Index) && !slices.Contains(d.Apart, s.Index) {
			return s.Index
		}
	}
	return 0
}

// backup makes primary the group's primary, and chooses the backup anew.
func (x *tx) backup(g affinity.GroupID, primary affinity.Index, why affinity.Why) {
	x.replan(g, func(_ []*affinity.Tunnel, v place.View, d place.Demand, old affinity.Pin) (affinity.Pin, bool) {
		next := affinity.Pin{Group: g, Primary: primary, Why: why}
		next.Backup, next.Note = place.ChooseBackup(v, d, primary)
		return next, next.Primary != old.Primary || next.Backup != old.Backup || next.Note != old.Note
	})
}

// whyNot says why a group has no place. Real servers that were never alive are not in the view.
func (x *tx) whyNot(service string, v place.View, err error) string {
	if len(v.Servers) > 0 {
		return err.Error()
	}
	var fresh []string
	for _, rs := range x.t.RealServers() {
		if _, born := x.t.LifeOf(rs.Name); !born && slices.Contains(rs.Services, service) {
			fresh = append(fresh, rs.Name)
		}
	}
	if len(fresh) == 0 {
		return "no real server serves " + service
	}
	return "no real server of " + service + " was alive yet: " + strings.Join(fresh, ", ")
}

// replan lets choose find a group's placement as if it had none yet, and writes it if that says so.
func (x *tx) replan(g affinity.GroupID, choose func([]*affinity.Tunnel, place.View, place.Demand, affinity.Pin) (affinity.Pin, bool)) {
	tunnels := x.t.PlacedBy(g)
	if len(tunnels) == 0 || !x.assigns {
		return
	}
	old, had := x.t.Lift(g)
	next, change := choose(tunnels, x.view(tunnels), x.demand(tunnels), old)
	switch {
	case change || !had:
		x.write(old, had, next)
	default:
		x.t.Unlift(old)
	}
}

// pin writes a placement as it is given.
func (x *tx) pin(p affinity.Pin) {
	if !x.assigns {
		return
	}
	old, had := x.t.Pin(p.Group)
	x.write(old, had, p)
}

// maxNote is how long a pin's note may be, in bytes.
const maxNote = 400

// write stores a placement in the place of another, and tells of it.
func (x *tx) write(old affinity.Pin, had bool, p affinity.Pin) {
	p.Header = x.header(affinity.KindPin, string(p.Group))
	p.Header.Epoch = x.t.PinEpoch(p.Group) + 1
	switch {
	case had && old.Primary == p.Primary:
		p.Since = old.Since
	case had || p.Since == 0: // a pin that a tunnel takes along keeps its time
		p.Since = p.Header.Stamp
	}
	if len(p.Note) > maxNote {
		p.Note = strings.ToValidUTF8(p.Note[:maxNote], "") + "..."
	}
	x.t.SetPin(p)
	if had && p.Primary != 0 && old.Primary != p.Primary {
		x.moves = append(x.moves, move{group: p.Group, from: old.Primary, to: p.Primary})
	}
	x.event(pinKind(old, p), groupName(p.Group), func(e *api.Event) {
		e.From, e.To, e.Backup, e.Why = x.t.NameAt(old.Primary), x.t.NameAt(p.Primary), x.t.NameAt(p.Backup), p.Why.String()
		if p.Note != "" {
			e.Why += ": " + p.Note
		}
	})
}

// pinKind is the kind of event that a placement is in the place of another; the zero pin stands for none.
func pinKind(old, p affinity.Pin) string {
	switch {
	case p.Primary == 0:
		return "unplaced"
	case old.Primary != 0 && old.Primary != p.Primary:
		return "moved"
	}
	return "placed"
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
	v := place.View{Pair: func(p, b affinity.Index) affinity.Load { return x.t.PairLoad(p, b) }, Mean: 1, Turn: x.d.turn}
	if s, ok := x.t.Service(tunnels[0].Service); ok {
		v.Mean, v.Policy = x.t.ServiceLoad(s.Num).Mean(), s.Policy
	}
	if len(tunnels) == 1 && x.cached != nil && x.cachedFor == tunnels[0].Service {
		x.cached.Mean, x.cached.Policy, x.cached.Turn = v.Mean, v.Policy, v.Turn
		refresh(x.t, x.cached.Servers)
		refresh(x.t, x.cached.Others)
		return *x.cached
	}
	all := servers(x.t, x.d.shut)
	serves := func(s place.Server) bool {
		rs, ok := x.t.RealServer(s.Name)
		return ok && !slices.ContainsFunc(tunnels, func(tun *affinity.Tunnel) bool { return !slices.Contains(rs.Services, tun.Service) })
	}
	for _, s := range all {
		if serves(s) {
			v.Servers = append(v.Servers, s)
		} else {
			v.Others = append(v.Others, s)
		}
	}
	if len(tunnels) == 1 {
		kept := v
		x.cached, x.cachedFor = &kept, tunnels[0].Service
	}
	return v
}

// refresh brings the loads of a view up to date.
func refresh(t *affinity.Table, list []place.Server) {
	for i := range list {
		list[i].Load = t.Load(list[i].Index)
	}
}

// servers are all real servers as placement sees them: each one's current incarnation, and dead ones that tunnels are still
// pinned to.
func servers(t *affinity.Table, shut map[string]bool) []place.Server {
	var out []place.Server
	for _, l := range t.Lives() {
		current, _ := t.LifeOf(l.RealServer)
		s := place.Server{Index: l.Index, Name: l.RealServer, Host: l.RealServer, Alive: l.Alive, Load: t.Load(l.Index)}
		if rs, ok := t.RealServer(l.RealServer); ok {
			s.Host, s.Zone, s.Weight, s.Capacity = rs.Host, rs.Zone, rs.Weight, rs.Capacity
			s.Open = l.Alive && current == l && rs.Admin == affinity.Active && rs.Weight > 0 && !shut[rs.Name]
			if shut[rs.Name] && rs.Admin == affinity.Active {
				s.Shut = "shut by its agent or its probes"
			}
		}
		if current == l || s.Load.Tunnels > 0 {
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b place.Server) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Index, b.Index))
	})
	return out
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
				d.Aside = append(d.Aside, p.Backup)
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

// joinSplit lets tunnels that are pinned apart from their group join it when they are down.
func (d *Director) joinSplit(ctx context.Context) {
	if !d.assigns || d.work.Freeze().On {
		return
	}
	var down []affinity.GroupID
	d.work.EachSplit(func(id string) bool {
		if tun, ok := d.work.Tunnel(id); ok && !d.mayBeUp(d.work, tun) {
			down = append(down, affinity.GroupID(id))
		}
		return len(down) < sweepMend
	})
	if len(down) == 0 {
		return
	}
	tx := d.begin()
	for _, g := range down {
		tx.dropPin(g)
		tun, _ := tx.t.Tunnel(string(g))
		tx.ensurePlaced(tun)
	}
	if err := d.commit(ctx, tx); err != nil {
		d.o.Log.Warn("let split tunnels join their groups", "error", err)
	}
}
