package affinity

import (
	"maps"
	"slices"
)

// Version is the header of a record that the table has, tombstones among them.
func (t *Table) Version(k Kind, key string) (Header, bool) {
	switch k {
	case KindService:
		if s, ok := t.services[key]; ok {
			return s.Header, true
		}
	case KindTenant:
		if n, ok := t.tenants[key]; ok {
			return n.Header, true
		}
	case KindRealServer:
		if r, ok := t.servers[key]; ok {
			return r.Header, true
		}
	case KindLife:
		i, ok := indexOfKey(key)
		if l, alive := t.lives[i]; ok && alive {
			return l.Header, true
		}
		if l, dropped := t.gone[i]; ok && dropped {
			return l.Header, true
		}
		return Header{}, false
	case KindFreeze:
		return t.freeze.Header, t.freeze.Header.Format != 0
	case KindTunnel:
		if t.hot != nil && t.hot.ID == key {
			return t.hot.Header, true
		}
		packed, ok := t.tunnels.Get(key)
		if !ok {
			packed, ok = t.tombs.Get(key)
		}
		if !ok {
			return Header{}, false
		}
		return unpackHeader(packed), true
	case KindPin:
		return t.pinVersion(GroupID(key))
	}
	b, ok := t.buried[recordKey{k, key}]
	return b.header, ok
}

func (t *Table) pinVersion(g GroupID) (Header, bool) {
	if h, ok := t.lifted[g]; ok {
		return h, true
	}
	if p, ok := t.Pin(g); ok {
		return p.Header, true
	}
	return t.unpinned.Get(g)
}

// Record is a record as it is sent to another director.
func (t *Table) Record(k Kind, key string) (Change, bool) {
	h, ok := t.Version(k, key)
	if !ok {
		return Change{}, false
	}
	c := Change{Kind: k, Key: key, Tombstone: h.Deleted, Now: h}
	c.Value = t.encoded(k, key, h)
	return c, c.Value != nil
}

// encoded is a record's bytes. What is kept as bytes is given as it is.
func (t *Table) encoded(k Kind, key string, h Header) []byte {
	if k == KindTunnel {
		tree := &t.tunnels
		if h.Deleted {
			tree = &t.tombs
		}
		packed, _ := tree.Get(key)
		return []byte(packed)
	}
	if b, ok := t.buried[recordKey{k, key}]; ok {
		return b.packed
	}
	var rec interface{ Encode() ([]byte, error) }
	switch k {
	case KindService:
		rec = t.services[key]
	case KindTenant:
		rec = t.tenants[key]
	case KindRealServer:
		rec = t.servers[key]
	case KindLife:
		i, _ := indexOfKey(key)
		if l, ok := t.lives[i]; ok {
			rec = l
		} else {
			rec = t.gone[i]
		}
	case KindFreeze:
		rec = &t.freeze
	case KindPin:
		p, ok := t.Pin(GroupID(key))
		if !ok {
			p.Header = h
		}
		rec = &p
	}
	packed, err := rec.Encode()
	if err != nil {
		return nil
	}
	return packed
}

// Records calls f for every record, tombstones among them, until it returns false: what others refer to first.
func (t *Table) Records(f func(k Kind, key string) bool) {
	more := true
	one := func(k Kind, key string) bool {
		more = more && f(k, key)
		return more
	}
	if t.freeze.Header.Format != 0 {
		one(KindFreeze, FreezeKey)
	}
	for _, key := range slices.Sorted(maps.Keys(t.tenants)) {
		one(KindTenant, key)
	}
	for _, key := range slices.Sorted(maps.Keys(t.services)) {
		one(KindService, key)
	}
	for _, key := range slices.Sorted(maps.Keys(t.servers)) {
		one(KindRealServer, key)
	}
	for b := range t.buried {
		one(b.kind, b.key)
	}
	for _, lives := range []map[Index]*Life{t.lives, t.gone} {
		for _, i := range slices.Sorted(maps.Keys(lives)) {
			one(KindLife, LifeKey(i))
		}
	}
	if more {
		t.tunnels.Scan(func(id, _ string) bool { return one(KindTunnel, id) })
	}
	if more {
		t.tombs.Scan(func(id, _ string) bool { return one(KindTunnel, id) })
	}
	if more {
		t.pins.Scan(func(g GroupID, _ pinned) bool { return one(KindPin, string(g)) })
	}
	if more {
		t.unpinned.Scan(func(g GroupID, _ Header) bool { return one(KindPin, string(g)) })
	}
}

func indexOfKey(key string) (Index, bool) {
	if len(key) != 2 {
		return 0, false
	}
	return Index(key[0])<<8 | Index(key[1]), true
}

// ForgetTombstones drops from memory the tombstones that are older than a stamp, and gives them as changes without a value;
// on disk they end by themselves.
func (t *Table) ForgetTombstones(before Stamp) []Change {
	var out []Change
	old := func(k Kind, key string, h Header) bool {
		if h.Stamp < before {
			out = append(out, Change{Kind: k, Key: key, Was: h})
		}
		return h.Stamp < before
	}
	t.tombs.Scan(func(id, packed string) bool {
		old(KindTunnel, id, unpackHeader(packed))
		return true
	})
	t.unpinned.Scan(func(g GroupID, h Header) bool {
		old(KindPin, string(g), h)
		return true
	})
	for _, c := range out {
		if c.Kind == KindTunnel {
			t.tombs.Delete(c.Key)
		} else {
			t.unpinned.Delete(GroupID(c.Key))
		}
	}
	for key, b := range t.buried {
		if old(key.kind, key.key, b.header) {
			delete(t.buried, key)
		}
	}
	for i, l := range t.gone {
		if old(KindLife, LifeKey(i), l.Header) {
			delete(t.gone, i)
		}
	}
	return out
}
