package affinity

import "fmt"

// Restore puts a stored record back, without noting a change. Records come in the order of their kinds' bytes, lives
// and tenants and services before tunnels: 'l' 'n' 'p' 'r' 's' 't'.
func (t *Table) Restore(k Kind, key string, value []byte) (Header, error) {
	switch k {
	case KindService:
		return restore(value, DecodeService, func(s *Service) Header { return s.Header }, t.insertService)
	case KindTenant:
		return restore(value, DecodeTenant, func(n *Tenant) Header { return n.Header }, func(n *Tenant) { t.tenants[n.Name] = n })
	case KindRealServer:
		return restore(value, DecodeRealServer, func(r *RealServer) Header { return r.Header }, func(r *RealServer) { t.servers[r.Name] = r })
	case KindLife:
		return restore(value, DecodeLife, func(l *Life) Header { return l.Header }, t.insertLife)
	case KindFreeze:
		return restore(value, DecodeFreeze, func(f *Freeze) Header { return f.Header }, func(f *Freeze) { t.freeze = *f })
	case KindPin:
		return restore(value, DecodePin, func(p *Pin) Header { return p.Header }, func(p *Pin) { t.insertPin(*p) })
	case KindTunnel:
		tun, err := DecodeTunnel(value)
		if err != nil {
			return Header{}, err
		}
		if tun.Header.Deleted {
			t.tombs.Set(tun.ID, string(value))
		} else {
			t.insert(tun.ID, tun, string(value))
			t.dirty = Dirty{}
		}
		return tun.Header, nil
	}
	return Header{}, fmt.Errorf("record %q: %s is not known to this version", key, k)
}

func restore[T any](value []byte, decode func([]byte) (*T, error), header func(*T) Header, insert func(*T)) (Header, error) {
	rec, err := decode(value)
	if err != nil {
		return Header{}, err
	}
	h := header(rec)
	if !h.Deleted {
		insert(rec)
	}
	return h, nil
}
