package ipvs

import (
	"net/netip"
	"slices"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
)

// A label marks destinations under dr and tunnel, where the kernel makes nothing of their port. Even ones are of pins for
// any source port; the odd one that follows is of pins by port, because the kernel takes an entry that names a port for the one that does not, if both
// go to the same destination (ip_vs_proc_conn).
type label uint16

// ringLabel is of the destinations that unknown endpoints are spread over. It is always the same: mh spreads by destinations' addresses and
// ports, and a start must not spread anew.
const ringLabel label = 1

// of is the label of pins by port, or for any.
func (l label) of(exact bool) label {
	if exact {
		return l + 1
	}
	return l
}

// next is the following label that is not in use; 0 and 1 are never used.
func (l label) next(used func(label) bool) label {
	for range 1 << 15 {
		if l += 2; l < 2 {
			l = 2
		}
		if !used(l) {
			break
		}
	}
	return l
}

// A dest is a destination of an IPVS service: what ipvsadm calls a real server.
type dest struct {
	addr   netip.AddrPort // the port is a label, but under masq
	method affinity.Method
}

// servers are what is known of incarnations.
type servers map[affinity.Index]plane.RealServer

// live is the incarnation that packets of p go to now, if any.
func (s servers) live(p pair) (plane.RealServer, bool) {
	for _, i := range []affinity.Index{p.primary, p.backup} {
		if rs := s[i]; rs.Alive {
			return rs, true
		}
	}
	return plane.RealServer{}, false
}

// address is rs's one of a family, if it has one.
func address(rs plane.RealServer, v6 bool) (netip.Addr, bool) {
	i := slices.IndexFunc(rs.Addrs, func(a netip.Addr) bool { return a.Is6() == v6 })
	if i < 0 {
		return netip.Addr{}, false
	}
	return rs.Addrs[i], true
}

// destOf is where entries of a kind under a service go now. What is dropped, or has nobody of the service's family to go to, goes to
// number 0 of the book.
func (p *Plane) destOf(k kind, service netip.AddrPort, l label) dest {
	v6 := service.Addr().Is6()
	port := uint16(l.of(k.exact))
	nowhere := dest{netip.AddrPortFrom(p.book.addr(0, v6), port), affinity.DR}
	if k.target.Drop != plane.None {
		return nowhere
	}
	rs, ok := p.servers.live(pairOf(k.target))
	if !ok || rs.Method == affinity.DR {
		n, _ := p.book.number(pairOf(k.target)) // 0 if they are used up: point says so
		return dest{netip.AddrPortFrom(p.book.addr(n, v6), port), affinity.DR}
	}
	a, ok := address(rs, v6)
	if !ok {
		return nowhere
	}
	if rs.Method == affinity.Masq {
		if !k.exact { // the first packet would make it an entry for its own port, which nobody could find again
			return nowhere
		}
		port = service.Port()
	}
	return dest{netip.AddrPortFrom(a, port), rs.Method}
}
