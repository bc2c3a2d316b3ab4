package affinity

import (
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
	t.record(KindService, s.Name, packed, err)
	old := t.services[s.Name]
	relay := old != nil && !slices.Equal(old.VIPs, s.VIPs)
	t.relay(relay, func(tun *Tunnel) bool { return tun.Service == s.Name }, func() { t.insertService(s) })
	t.dirty.Config = true
}

func (t *Table) insertService(s *Service) {
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

// DeleteService leaves a tombstone on disk.
func (t *Table) DeleteService(s *Service) {
	packed, err := s.Encode()
	t.bury(KindService, s.Name, packed, err)
	delete(t.services, s.Name)
	t.dirty.Config = true
}

// PutTenant stores a tenant.
func (t *Table) PutTenant(n *Tenant) {
	packed, err := n.Encode()
	t.record(KindTenant, n.Name, packed, err)
	t.tenants[n.Name] = n
	t.dirty.Config = true
}

// DeleteTenant leaves a tombstone on disk.
func (t *Table) DeleteTenant(n *Tenant) {
	packed, err := n.Encode()
	t.bury(KindTenant, n.Name, packed, err)
	delete(t.tenants, n.Name)
	t.dirty.Config = true
}

// PutRealServer stores a real server's intent. Its life is not touched.
func (t *Table) PutRealServer(r *RealServer) {
	packed, err := r.Encode()
	t.record(KindRealServer, r.Name, packed, err)
	t.servers[r.Name] = r
	t.dirty.Config = true
}

// DeleteRealServer leaves a tombstone on disk. Its lives go when no pin names them: see DropLife.
func (t *Table) DeleteRealServer(r *RealServer) {
	packed, err := r.Encode()
	t.bury(KindRealServer, r.Name, packed, err)
	delete(t.servers, r.Name)
	t.dirty.Config = true
}

// SetLife stores an incarnation's state. The highest incarnation of a real server is its current one.
func (t *Table) SetLife(l *Life) {
	packed, err := l.Encode()
	t.record(KindLife, lifeKey(l.Index), packed, err)
	t.insertLife(l)
	t.dirty.Config = true
}

func (t *Table) insertLife(l *Life) {
	t.lives[l.Index] = l
	if cur, ok := t.lives[t.current[l.RealServer]]; !ok || cur.Incarnation <= l.Incarnation {
		t.current[l.RealServer] = l.Index
	}
}

// DropLife forgets an incarnation, so that its index can be given out again. No pin may name it.
func (t *Table) DropLife(i Index) {
	l := t.lives[i]
	t.record(KindLife, lifeKey(i), nil, nil)
	delete(t.lives, i)
	if t.current[l.RealServer] == i {
		delete(t.current, l.RealServer)
	}
	t.dirty.Config = true
}

// FreeIndex is the lowest index that no incarnation has; false if all are taken.
func (t *Table) FreeIndex() (Index, bool) {
	for i := Index(1); i <= MaxIndex; i++ {
		if _, taken := t.lives[i]; !taken {
			return i, true
		}
	}
	return 0, false
}

func lifeKey(i Index) string { return string([]byte{byte(i >> 8), byte(i)}) }

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
