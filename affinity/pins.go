package affinity

import (
	"slices"
	"strings"
	"unique"

	"github.com/tidwall/btree"
)

// pinned is a Pin as it is kept in memory: without its key, and small.
type pinned struct {
	stamp, since    Stamp
	origin          unique.Handle[string] // director names stand in every record
	note            *string
	epoch           uint32
	primary, backup Index
	why             Why
}

func (p pinned) pin(g GroupID) Pin {
	out := Pin{Header: Header{Stamp: p.stamp, Origin: p.origin.Value(), Epoch: p.epoch, Format: Format},
		Group: g, Primary: p.primary, Backup: p.backup, Since: p.since, Why: p.why}
	if p.note != nil {
		out.Note = *p.note
	}
	return out
}

// Pin finds the placement of a group.
func (t *Table) Pin(g GroupID) (Pin, bool) {
	p, ok := t.pins.Get(g)
	if !ok {
		return Pin{Group: g}, false
	}
	return p.pin(g), true
}

// PinOf finds the placement that holds for a tunnel: its own, which a split tunnel has beside its group's, else its
// group's.
func (t *Table) PinOf(tun *Tunnel) (Pin, bool) {
	return t.Pin(t.placedBy(tun.ID, tun.GroupID()))
}

// placedBy is the group whose pin holds for a tunnel.
func (t *Table) placedBy(id string, g GroupID) GroupID {
	if g != GroupID(id) {
		if _, own := t.pins.Get(GroupID(id)); own {
			return GroupID(id)
		}
	}
	return g
}

// Split tells whether a tunnel is pinned apart from its group.
func (t *Table) Split(tun *Tunnel) bool {
	return tun.Group != "" && t.placedBy(tun.ID, tun.GroupID()) != tun.GroupID()
}

func (t *Table) groupID(id string) GroupID {
	if t.groupOf.Len() > 0 {
		if g, ok := t.groupOf.Get(id); ok {
			return g
		}
	}
	return GroupID(id)
}

// SetPin stores a placement and moves the loads of the tunnels that it holds for.
func (t *Table) SetPin(p Pin) {
	p.Header.Format = Format
	packed, err := p.Encode()
	t.record(KindPin, string(p.Group), p.Header, packed, err)
	t.placePin(p)
}

// placePin puts a placement, or its tombstone, where it belongs.
func (t *Table) placePin(p Pin) {
	delete(t.lifted, p.Group)
	t.unpinned.Delete(p.Group)
	t.changePin(p.Group, func() {
		if p.Header.Deleted {
			t.pins.Delete(p.Group)
			t.unpinned.Set(p.Group, p.Header)
		} else {
			t.insertPin(p)
		}
	})
}

// DropPin deletes a placement, one that Lift took off among them, and leaves a tombstone with header h, whose epoch it fills in.
func (t *Table) DropPin(g GroupID, h Header) {
	old, ok := t.Version(KindPin, string(g))
	if !ok || old.Deleted {
		return
	}
	h.Deleted, h.Epoch, h.Format = true, old.Epoch+1, Format
	p := Pin{Header: h, Group: g}
	packed, err := p.Encode()
	t.record(KindPin, string(g), h, packed, err)
	t.placePin(p)
}

// PinEpoch is the highest epoch that a placement had, deleted ones among them; 0: never had any.
func (t *Table) PinEpoch(g GroupID) uint32 {
	h, _ := t.Version(KindPin, string(g))
	return h.Epoch
}

// Lift takes a placement off without noting a change, so that loads are as if the group were not placed. SetPin, DropPin or
// Unlift has to follow before the table is cloned.
func (t *Table) Lift(g GroupID) (Pin, bool) {
	p, ok := t.Pin(g)
	if ok {
		if t.lifted == nil {
			t.lifted = map[GroupID]Header{}
		}
		t.lifted[g] = p.Header
		t.changePin(g, func() { t.pins.Delete(g) })
	}
	return p, ok
}

// Unlift puts back what Lift took.
func (t *Table) Unlift(p Pin) {
	delete(t.lifted, p.Group)
	t.changePin(p.Group, func() { t.insertPin(p) })
}

func (t *Table) insertPin(p Pin) {
	in := pinned{p.Header.Stamp, p.Since, unique.Make(p.Header.Origin), nil, p.Header.Epoch, p.Primary, p.Backup, p.Why}
	if p.Note != "" {
		in.note = &p.Note
	}
	t.pins.Set(t.keptGroup(p.Group), in)
}

// changePin runs change with the loads of the group's tunnels taken away before and added again after it.
func (t *Table) changePin(g GroupID, change func()) {
	tunnels := t.GroupTunnels(g)
	for _, tun := range tunnels {
		t.loads.addTunnel(t, tun, -1)
	}
	change()
	for _, tun := range tunnels {
		t.loads.addTunnel(t, tun, 1)
		t.eachEndpointClaim(tun.ID, tun, t.touchEndpoint)
		t.eachSubnetClaim(tun.ID, tun, t.touchSubnet)
	}
}

// keptGroup is g in memory that is kept anyway.
func (t *Table) keptGroup(g GroupID) GroupID {
	kept := GroupID(strings.Clone(string(g)))
	if _, explicit := g.Explicit(); !explicit {
		t.tunnels.Ascend(string(g), func(id, _ string) bool {
			if id == string(g) {
				kept = GroupID(id)
			}
			return false
		})
	}
	return kept
}

// GroupTunnels are the tunnels of a group; of a tunnel's own id, that tunnel.
func (t *Table) GroupTunnels(g GroupID) []*Tunnel {
	if _, explicit := g.Explicit(); !explicit {
		if tun, ok := t.Tunnel(string(g)); ok {
			return []*Tunnel{tun}
		}
		return nil
	}
	var out []*Tunnel
	t.members.Ascend(member{group: g}, func(m member) bool {
		if m.group != g {
			return false
		}
		tun, _ := t.Tunnel(m.id)
		out = append(out, tun)
		return true
	})
	return out
}

// PlacedBy are the tunnels that a group's pin holds for: all of the group but the split ones.
func (t *Table) PlacedBy(g GroupID) []*Tunnel {
	return slices.DeleteFunc(t.GroupTunnels(g), func(tun *Tunnel) bool { return t.placedBy(tun.ID, tun.GroupID()) != g })
}

// Pins calls f for each pin whose group is after the given one, in order, until it returns false.
func (t *Table) Pins(after GroupID, f func(Pin) bool) {
	t.pins.Ascend(after, func(g GroupID, p pinned) bool {
		if g == after {
			return true
		}
		return f(p.pin(g))
	})
}

// loads are sums over tunnels by where they are pinned. Rows are shared between clones until written.
type loads struct {
	primary  []Load                  // by index
	pairs    btree.Map[uint32, Load] // primary<<16 | backup
	services []Load                  // by service number
	unplaced uint32                  // tunnels without a primary
	alone    uint32                  // tunnels with a primary and no backup
}

func (l *loads) clone() loads {
	return loads{append([]Load(nil), l.primary...), *l.pairs.Copy(), append([]Load(nil), l.services...), l.unplaced, l.alone}
}

func (t *Tunnel) load() Load {
	if t.Bandwidth == 0 {
		return Load{Tunnels: 1, Unknown: 1}
	}
	return Load{Tunnels: 1, Bandwidth: t.Bandwidth}
}

// addTunnel adds a tunnel (sign 1) where it is pinned now, or takes it away (sign -1).
func (l *loads) addTunnel(t *Table, tun *Tunnel, sign int) {
	d := tun.load()
	if s, ok := t.services[tun.Service]; ok {
		l.services = addAt(l.services, int(s.Num), d, sign)
	}
	p, _ := t.pins.Get(t.placedBy(tun.ID, tun.GroupID()))
	one := uint32(sign) // wraps as it should
	if p.primary == 0 {
		l.unplaced += one
		return
	}
	if p.backup == 0 {
		l.alone += one
	}
	l.primary = addAt(l.primary, int(p.primary), d, sign)
	key := uint32(p.primary)<<16 | uint32(p.backup)
	pair, _ := l.pairs.Get(key)
	if pair = pair.plus(d, sign); pair == (Load{}) {
		l.pairs.Delete(key)
	} else {
		l.pairs.Set(key, pair)
	}
}

func (l Load) plus(d Load, sign int) Load {
	if sign < 0 {
		return l.Sub(d)
	}
	return l.Add(d)
}

func addAt(s []Load, i int, d Load, sign int) []Load {
	if i >= len(s) {
		s = append(s, make([]Load, i+1-len(s))...)
	}
	s[i] = s[i].plus(d, sign)
	return s
}

// Load is the sum over the tunnels whose primary is i.
func (t *Table) Load(i Index) Load {
	if int(i) < len(t.loads.primary) {
		return t.loads.primary[i]
	}
	return Load{}
}

// PairLoad is the sum over the tunnels whose primary is p and backup is b (0: those without a backup).
func (t *Table) PairLoad(p, b Index) Load {
	l, _ := t.loads.pairs.Get(uint32(p)<<16 | uint32(b))
	return l
}

// Pairs calls f for each pair that tunnels are pinned to.
func (t *Table) Pairs(f func(p, b Index, l Load)) {
	t.loads.pairs.Scan(func(k uint32, l Load) bool {
		f(Index(k>>16), Index(k), l)
		return true
	})
}

// ServiceLoad is the sum over a service's tunnels.
func (t *Table) ServiceLoad(num uint16) Load {
	if int(num) < len(t.loads.services) {
		return t.loads.services[num]
	}
	return Load{}
}

// Unplaced and Alone count tunnels without a primary, and those that have one but no backup.
func (t *Table) Unplaced() uint32 { return t.loads.unplaced }

// Alone counts the tunnels that have a primary but no backup.
func (t *Table) Alone() uint32 { return t.loads.alone }

// AliveAt tells whether the incarnation that has an index is alive.
func (t *Table) AliveAt(i Index) bool {
	l, ok := t.lives[i]
	return ok && l.Alive
}

// Serving is where the packets of a pin go: to its primary, if that is alive, else to its backup, if that is; else 0.
func (t *Table) Serving(p Pin) Index {
	switch {
	case t.AliveAt(p.Primary):
		return p.Primary
	case t.AliveAt(p.Backup):
		return p.Backup
	}
	return 0
}

// Orphaned tells whether a group that was placed has neither a live primary nor a live backup.
func (t *Table) Orphaned(p Pin) bool {
	return p.Primary != 0 && !t.AliveAt(p.Primary) && !t.AliveAt(p.Backup)
}

// NeedsMending tells whether a group is unplaced, or its primary or its backup dead or missing.
func (t *Table) NeedsMending(p Pin) bool { return !t.AliveAt(p.Primary) || !t.AliveAt(p.Backup) }
