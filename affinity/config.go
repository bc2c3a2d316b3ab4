package affinity

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Service, Tenant and RealServer find a record by name.
func (t *Table) Service(name string) (*Service, bool) { s, ok := t.services[name]; return s, ok }

// Tenant finds a tenant by name.
func (t *Table) Tenant(name string) (*Tenant, bool) { n, ok := t.tenants[name]; return n, ok }

// RealServer finds a real server by name.
func (t *Table) RealServer(name string) (*RealServer, bool) { r, ok := t.servers[name]; return r, ok }

// Services are all, in name order. Nobody may write to what they point at.
func (t *Table) Services() []*Service { return sorted(t.services) }

// Tenants are all, in name order.
func (t *Table) Tenants() []*Tenant { return sorted(t.tenants) }

// RealServers are all, in name order.
func (t *Table) RealServers() []*RealServer { return sorted(t.servers) }

// Life finds the incarnation that has an index.
func (t *Table) Life(i Index) (*Life, bool) { l, ok := t.lives[i]; return l, ok }

// LifeOf is a real server's current incarnation. A real server that was never seen alive has none.
func (t *Table) LifeOf(name string) (*Life, bool) {
	i, ok := t.current[name]
	if !ok {
		return nil, false
	}
	return t.lives[i], true
}

// Lives are all incarnations that are current or that pins may name, in index order.
func (t *Table) Lives() []*Life {
	out := make([]*Life, 0, len(t.lives))
	for _, i := range slices.Sorted(maps.Keys(t.lives)) {
		out = append(out, t.lives[i])
	}
	return out
}

// RealServerAt finds the incarnation that has an index, and its real server. The real server is nil if it was removed.
func (t *Table) RealServerAt(i Index) (*RealServer, *Life, bool) {
	l, ok := t.lives[i]
	if !ok {
		return nil, nil, false
	}
	return t.servers[l.RealServer], l, true
}

// NameAt is the name of the real server that has an index; "" for none.
func (t *Table) NameAt(i Index) string {
	if l, ok := t.lives[i]; ok {
		return l.RealServer
	}
	return ""
}

// PutService stores a service; where its VIPs change, its tunnels lay their claims anew.
func (t *Table) PutService(s *Service) {
	packed, err := s.Encode()
	t.record(KindService, s.Name, s.Header, packed, err)
	t.placeService(s)
}

// placeService puts a service, or its tombstone, where it belongs; its tunnels lay their claims anew where that matters.
func (t *Table) placeService(s *Service) {
	t.dirty.Config = true
	old := t.services[s.Name]
	relay := t.homeless > 0 && old == nil || old != nil && (s.Header.Deleted || old.Num != s.Num || !slices.Equal(old.VIPs, s.VIPs))
	t.relay(relay, func(tun *Tunnel) bool { return tun.Service == s.Name }, func() {
		if delete(t.buried, recordKey{KindService, s.Name}); !s.Header.Deleted {
			t.insertService(s)
			return
		}
		delete(t.services, s.Name)
		t.entomb(KindService, s.Name, s.Header, s)
	})
}

// entomb keeps a tombstone.
func (t *Table) entomb(k Kind, key string, h Header, rec interface{ Encode() ([]byte, error) }) {
	packed, err := rec.Encode()
	if err != nil { // it was encoded or decoded before
		panic(fmt.Sprintf("encode %s %s: %v", k, key, err))
	}
	t.buried[recordKey{k, key}] = tomb{h, packed}
}

// insertService keeps a service under its number, or, if another has that, under a free one: services that were made on two
// sides of a partition may have the same. Numbers matter within one director alone.
func (t *Table) insertService(s *Service) {
	for _, o := range t.services {
		if (o.Num == s.Num || s.Num == 0) && o.Name != s.Name {
			renumbered := *s
			delete(t.services, s.Name)
			renumbered.Num = t.FreeServiceNumber()
			s = &renumbered
			break
		}
	}
	t.services[s.Name] = s
	for _, v := range s.VIPs {
		if _, ok := t.vips[v]; !ok {
			t.vips[v] = uint16(len(t.vips) + 1)
		}
	}
}

// relay runs change, and, if needed, has the tunnels that which names give up their claims before and lay them after it.
func (t *Table) relay(needed bool, which func(*Tunnel) bool, change func()) {
	var moved []*Tunnel
	if needed {
		t.Tunnels("", func(tun *Tunnel) bool {
			if which(tun) {
				moved = append(moved, tun)
			}
			return true
		})
	}
	for _, tun := range moved {
		t.forget(tun.ID)
	}
	change()
	for _, tun := range moved {
		packed, _ := t.tunnels.Get(tun.ID)
		t.insert(strings.Clone(tun.ID), tun, packed)
	}
}

// DeleteService leaves a tombstone.
func (t *Table) DeleteService(s *Service) {
	tomb := *s
	tomb.Header.Deleted = true
	t.PutService(&tomb)
}

// PutTenant stores a tenant.
func (t *Table) PutTenant(n *Tenant) {
	packed, err := n.Encode()
	t.record(KindTenant, n.Name, n.Header, packed, err)
	t.placeTenant(n)
}

// placeTenant puts a tenant, or its tombstone, where it belongs, as placeService does.
func (t *Table) placeTenant(n *Tenant) {
	t.dirty.Config = true
	old := t.tenants[n.Name]
	relay := t.homeless > 0 && old == nil || old != nil && (n.Header.Deleted || old.Num != n.Num)
	t.relay(relay, func(tun *Tunnel) bool { return tun.Tenant == n.Name }, func() {
		if delete(t.buried, recordKey{KindTenant, n.Name}); !n.Header.Deleted {
			t.insertTenant(n)
			return
		}
		delete(t.tenants, n.Name)
		t.entomb(KindTenant, n.Name, n.Header, n)
	})
}

// insertTenant keeps a tenant under its number, or under a free one, as insertService does.
func (t *Table) insertTenant(n *Tenant) {
	for _, o := range t.tenants {
		if o.Num == n.Num && o.Name != n.Name && n.Name != "" {
			renumbered := *n
			delete(t.tenants, n.Name)
			renumbered.Num = t.FreeTenantNumber()
			n = &renumbered
			break
		}
	}
	t.tenants[n.Name] = n
}

// DeleteTenant leaves a tombstone.
func (t *Table) DeleteTenant(n *Tenant) {
	tomb := *n
	tomb.Header.Deleted = true
	t.PutTenant(&tomb)
}

// PutRealServer stores a real server's intent. Its life is not touched.
func (t *Table) PutRealServer(r *RealServer) {
	packed, err := r.Encode()
	t.record(KindRealServer, r.Name, r.Header, packed, err)
	t.placeRealServer(r)
}

func (t *Table) placeRealServer(r *RealServer) {
	t.dirty.Config = true
	if delete(t.buried, recordKey{KindRealServer, r.Name}); !r.Header.Deleted {
		t.servers[r.Name] = r
		return
	}
	delete(t.servers, r.Name)
	t.entomb(KindRealServer, r.Name, r.Header, r)
}

// DeleteRealServer leaves a tombstone. Its lives go when no pin names them: see DropLife.
func (t *Table) DeleteRealServer(r *RealServer) {
	tomb := *r
	tomb.Header.Deleted = true
	t.PutRealServer(&tomb)
}

// SetLife stores an incarnation's state. The highest incarnation of a real server is its current one.
func (t *Table) SetLife(l *Life) {
	packed, err := l.Encode()
	t.record(KindLife, LifeKey(l.Index), l.Header, packed, err)
	t.placeLife(l)
}

// placeLife puts an incarnation, or its tombstone, where it belongs.
func (t *Table) placeLife(l *Life) {
	t.dirty.Config = true
	old, had := t.lives[l.Index]
	delete(t.gone, l.Index)
	if l.Header.Deleted {
		delete(t.lives, l.Index)
		t.gone[l.Index] = l
	} else {
		t.lives[l.Index] = l
	}
	t.findCurrent(l.RealServer)
	if had && old.RealServer != l.RealServer {
		t.findCurrent(old.RealServer)
	}
}

// findCurrent finds a real server's current incarnation: the highest, and of two that were born on two sides of a partition the
// one that lives, then the one of the lower index.
func (t *Table) findCurrent(name string) {
	delete(t.current, name)
	for i, l := range t.lives {
		if l.RealServer != name {
			continue
		}
		cur, ok := t.lives[t.current[name]]
		if !ok || l.Incarnation > cur.Incarnation || l.Incarnation == cur.Incarnation && (l.Alive && !cur.Alive || l.Alive == cur.Alive && i < cur.Index) {
			t.current[name] = i
		}
	}
}

// DropLife forgets an incarnation, so that its index can be given out again. No pin may name it. It leaves a tombstone with
// header h, whose epoch it fills in.
func (t *Table) DropLife(i Index, h Header) {
	l := *t.lives[i]
	h.Deleted, h.Epoch = true, l.Header.Epoch+1
	l.Header = h
	t.SetLife(&l)
}

// LifeEpoch is the highest epoch that the record of an index had; 0: never had any.
func (t *Table) LifeEpoch(i Index) uint32 {
	h, _ := t.Version(KindLife, LifeKey(i))
	return h.Epoch
}

// FreeIndex is an index that no incarnation has, out of every stride-th from first on: one that never had one, else the one
// that has been free for longest; false if all are taken. Directors give out different ones, so that two of them that cannot
// talk never give out the same.
func (t *Table) FreeIndex(first, stride int) (Index, bool) {
	best, found := Index(0), false
	for i := first; i <= int(MaxIndex); i += stride {
		if _, taken := t.lives[Index(i)]; taken || i == 0 {
			continue
		}
		old, used := t.gone[Index(i)]
		if !used {
			return Index(i), true
		}
		if !found || old.Header.Stamp < t.gone[best].Header.Stamp {
			best, found = Index(i), true
		}
	}
	return best, found
}

// LifeKey is the key of the life that has an index.
func LifeKey(i Index) string { return string([]byte{byte(i >> 8), byte(i)}) }

// FreeServiceNumber is the lowest number that no service has.
func (t *Table) FreeServiceNumber() uint16 {
	taken := make(map[uint16]bool, len(t.services))
	for _, s := range t.services {
		taken[s.Num] = true
	}
	return lowestFree(taken)
}

// FreeTenantNumber is the lowest number that no tenant has; 0 is the default tenant's.
func (t *Table) FreeTenantNumber() uint16 {
	taken := make(map[uint16]bool, len(t.tenants))
	for _, n := range t.tenants {
		taken[n.Num] = true
	}
	return lowestFree(taken)
}

func lowestFree(taken map[uint16]bool) uint16 {
	n := uint16(1)
	for taken[n] {
		n++
	}
	return n
}
