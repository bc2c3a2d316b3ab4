package affinity

import (
	"fmt"
)

// Restore puts a stored record back, without noting a change, and tells its version.
func (t *Table) Restore(k Kind, key string, value []byte) (Header, error) {
	rec, err := decodeRecord(k, key, value)
	if err != nil {
		return Header{}, err
	}
	rec.place(t)
	t.dirty = Dirty{}
	return rec.header, nil
}

// Merge takes another director's version of a record, if it comes after the one that is here, and notes the change. A tombstone
// from before forgotten has served its time, and is not taken.
func (t *Table) Merge(k Kind, key string, value []byte, forgotten Stamp) (newer bool, err error) {
	rec, err := decodeRecord(k, key, value)
	if err != nil {
		return false, err
	}
	was, known := t.Version(k, key)
	served := rec.header.Deleted && rec.header.Stamp < forgotten && (!known || was.Stamp > rec.header.Stamp)
	if served || known && !k.Newer(rec.header, was) {
		return false, nil
	}
	t.record(k, key, rec.header, value, nil)
	rec.place(t)
	return true, nil
}

// A decoded is a record that was read, and how it gets where it belongs.
type decoded struct {
	header Header
	place  func(*Table)
}

// decodeRecord reads a record of any kind, and refuses one that stands under another key than its own.
func decodeRecord(k Kind, key string, value []byte) (decoded, error) {
	switch k {
	case KindService:
		return decodeAs(k, key, value, DecodeService, func(s *Service) (Header, string) { return s.Header, s.Name }, (*Table).placeService)
	case KindTenant:
		return decodeAs(k, key, value, DecodeTenant, func(n *Tenant) (Header, string) { return n.Header, n.Name }, (*Table).placeTenant)
	case KindRealServer:
		return decodeAs(k, key, value, DecodeRealServer, func(r *RealServer) (Header, string) { return r.Header, r.Name }, (*Table).placeRealServer)
	case KindLife:
		return decodeAs(k, key, value, DecodeLife, func(l *Life) (Header, string) { return l.Header, LifeKey(l.Index) }, (*Table).placeLife)
	case KindFreeze:
		return decodeAs(k, key, value, DecodeFreeze, func(f *Freeze) (Header, string) { return f.Header, FreezeKey }, func(t *Table, f *Freeze) { t.freeze = *f })
	case KindPin:
		return decodeAs(k, key, value, DecodePin, func(p *Pin) (Header, string) { return p.Header, string(p.Group) }, func(t *Table, p *Pin) { t.placePin(*p) })
	case KindTunnel:
		return decodeAs(k, key, value, DecodeTunnel, func(tun *Tunnel) (Header, string) { return tun.Header, tun.ID }, func(t *Table, tun *Tunnel) { t.placeTunnel(tun, string(value)) })
	}
	return decoded{}, fmt.Errorf("record %q: %s is not known to this version: %w", key, k, ErrNewerFormat)
}

func decodeAs[T any](k Kind, key string, value []byte, decode func([]byte) (*T, error), name func(*T) (Header, string), place func(*Table, *T)) (decoded, error) {
	rec, err := decode(value)
	if err != nil {
		return decoded{}, err
	}
	h, own := name(rec)
	if own != key || k == KindLife && key == LifeKey(0) {
		return decoded{}, fmt.Errorf("%s %q stands under the key %q", k, own, key)
	}
	return decoded{h, func(t *Table) { place(t, rec) }}, nil
}

// placeTunnel puts a tunnel, or its tombstone, where it belongs.
func (t *Table) placeTunnel(tun *Tunnel, packed string) {
	id := t.forget(tun.ID)
	if tun.Header.Deleted {
		t.tunnels.Delete(id)
		t.tombs.Set(id, packed)
		return
	}
	t.tombs.Delete(id)
	t.insert(id, tun, packed)
	t.hot = tun
}
