package observe

import (
	"cmp"
	"container/list"
	"net/netip"
	"slices"
	"time"

	"tunneldirector/affinity"
	"tunneldirector/director/agent"
)

// A Sighting is a tunnel that was established at a real server.
type Sighting struct {
	RealServer string
	agent.Tunnel
	Before netip.AddrPort // where it was before Endpoint, as it was news then; invalid: nowhere else
	Heard  time.Time      // when it was still true by its agent's word, by this director's clock
	Gone   time.Time      // when it was told to have ended; zero: it has not
}

// A record is a sighting as a Book holds it. Its Heard is when the agent told of it.
type record struct {
	Sighting
	of    *server
	round uint64         // of the whole report that listed it last
	gone  *list.Element  // of of.gone; nil: it has not ended
	news  *list.Element  // of the Book's news; nil: it is none
	from  netip.AddrPort // where it was when it was news last; invalid: it has not moved since
}

// sighting is what others may see: an agent tells of changes only, so each word of it confirms all that it told before.
func (x *record) sighting() Sighting {
	s := x.Sighting
	if at := x.of.confirmed(); x.gone == nil && at.After(s.Heard) {
		s.Heard = at
	}
	return s
}

// remember is how long a tunnel that ended is kept: longer than it takes to notice a death, to decide, and to establish it
// elsewhere.
const remember = 15 * time.Minute

// Sightings are those of any of these endpoints at these VIPs, the newest establishment first; with gone, those too that are
// only remembered. An endpoint with a port is not told apart where the sighting has none.
//
// Of what one real server has at one address and port it looks at atEach, and at atAll of an address and port, or of an address if
// that is asked for: no site has as many, and an agent that tells of more than that costs no more, nor does it hide what others see.
func (b *Book) Sightings(vips []netip.Addr, endpoints []affinity.Endpoint, gone bool) []Sighting {
	b.mu.RLock()
	defer b.mu.RUnlock()
	var few [8]*record
	found := few[:0]
	for i, e := range endpoints {
		switch {
		case slices.Contains(endpoints[:i], e) || e.Port() != 0 && slices.Contains(endpoints, netip.AddrPortFrom(e.Addr(), 0)):
			continue // the same again
		case e.Port() == 0:
			found = some(found, b.byAddr[e.Addr()])
			continue
		case !slices.ContainsFunc(endpoints[:i], func(o affinity.Endpoint) bool { return o.Addr() == e.Addr() }):
			found = some(found, b.at(e.Addr(), 0))
		}
		found = some(found, b.at(e.Addr(), e.Port()))
	}
	found = slices.DeleteFunc(found, func(x *record) bool {
		return !gone && x.gone != nil || x.Local.IsValid() && !slices.Contains(vips, x.Local)
	})
	slices.SortStableFunc(found, newest)
	var out []Sighting
	for _, x := range found {
		out = append(out, x.sighting())
	}
	return out
}

const atEach, atAll = 32, 256

// some appends those of a list in order that are looked at.
func some(to, list []*record) []*record {
	for left := atAll; len(list) > 0 && left > 0; {
		x := list[0]
		n, _ := slices.BinarySearchFunc(list, x, func(y, x *record) int {
			if y.of == x.of && y.Endpoint.Port() == x.Endpoint.Port() {
				return -1
			}
			return 1
		})
		take := min(n, atEach, left)
		to, list, left = append(to, list[:take]...), list[n:], left-take
	}
	return to
}

// newest puts what is established before what has ended, and then the newer one first.
func newest(a, b *record) int {
	if (a.gone == nil) != (b.gone == nil) {
		if a.gone == nil {
			return -1
		}
		return 1
	}
	return b.Since.Compare(a.Since)
}

// Each calls f for every established tunnel of a real server, until it returns false; f must not call the Book. "" is all.
func (b *Book) Each(realServer string, f func(Sighting) bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	for name, s := range b.servers {
		if realServer != "" && name != realServer {
			continue
		}
		for _, x := range s.peers {
			if x.gone == nil && !f(x.sighting()) {
				return
			}
		}
	}
}

// inOrder is how the sightings at an address are kept: by port, and so that each has one place.
func inOrder(a, b *record) int {
	return cmp.Or(cmp.Compare(a.Endpoint.Port(), b.Endpoint.Port()), cmp.Compare(a.RealServer, b.RealServer), cmp.Compare(a.Peer, b.Peer))
}

func (b *Book) index(x *record) {
	a := x.Endpoint.Addr()
	list := b.byAddr[a]
	i, _ := slices.BinarySearchFunc(list, x, inOrder)
	b.byAddr[a] = slices.Insert(list, i, x)
}

func (b *Book) unindex(x *record) {
	a := x.Endpoint.Addr()
	list := b.byAddr[a]
	if len(list) == 1 {
		delete(b.byAddr, a)
		return
	}
	i, _ := slices.BinarySearchFunc(list, x, inOrder)
	b.byAddr[a] = slices.Delete(list, i, i+1)
}

// at are the sightings at an outer address and port; port 0: those that have none.
func (b *Book) at(addr netip.Addr, port uint16) []*record {
	list := b.byAddr[addr]
	from, _ := slices.BinarySearchFunc(list, port, func(x *record, p uint16) int { return cmp.Compare(x.Endpoint.Port(), p) })
	n, _ := slices.BinarySearchFunc(list[from:], port, func(x *record, p uint16) int {
		if x.Endpoint.Port() == p {
			return -1
		}
		return 1
	})
	return list[from : from+n]
}
