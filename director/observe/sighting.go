package observe

import (
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
	Before netip.AddrPort // where it was before Endpoint; invalid: nowhere else
	Heard  time.Time      // when the agent last told of it, by this director's clock
	Gone   time.Time      // when it was told to have ended; zero: it has not
}

// remember is how long a tunnel that ended is kept: longer than it takes to notice a death, to decide, and to establish it
// elsewhere.
const remember = 15 * time.Minute

// matches tells whether s is of an endpoint at a VIP. An endpoint with a port is not told apart where the sighting has none.
func (s *Sighting) matches(vips []netip.Addr, e affinity.Endpoint) bool {
	if s.Endpoint.Addr() != e.Addr() || e.Port() != 0 && s.Endpoint.Port() != 0 && e.Port() != s.Endpoint.Port() {
		return false
	}
	return !s.Local.IsValid() || slices.Contains(vips, s.Local)
}

// Sightings are those of any of these endpoints at these VIPs, the newest establishment first; with gone, those too that are
// only remembered.
func (b *Book) Sightings(vips []netip.Addr, endpoints []affinity.Endpoint, gone bool) []Sighting {
	b.mu.RLock()
	defer b.mu.RUnlock()
	var out []Sighting
	for i, e := range endpoints {
		if slices.ContainsFunc(endpoints[:i], func(o affinity.Endpoint) bool { return o.Addr() == e.Addr() && (o.Port() == 0 || o == e) }) {
			continue
		}
		for _, s := range b.byAddr[e.Addr()] {
			if (gone || s.Gone.IsZero()) && s.matches(vips, e) {
				out = append(out, *s)
			}
		}
	}
	slices.SortStableFunc(out, newest)
	return out
}

// newest puts what is established before what has ended, and then the newer one first.
func newest(a, b Sighting) int {
	if a.Gone.IsZero() != b.Gone.IsZero() {
		if a.Gone.IsZero() {
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
			if x.Gone.IsZero() && !f(*x) {
				return
			}
		}
	}
}

// see notes an established tunnel of a server. It tells whether its endpoint is news.
func (b *Book) see(s *server, t agent.Tunnel, now time.Time) (news bool) {
	t.Endpoint = netip.AddrPortFrom(t.Endpoint.Addr().Unmap(), t.Endpoint.Port())
	t.Local = t.Local.Unmap()
	x, known := s.peers[t.Peer]
	if !known {
		x = &Sighting{RealServer: s.name}
		s.peers[t.Peer] = x
		s.established++
	} else if !x.Gone.IsZero() {
		s.established++
	}
	news = !known || !x.Gone.IsZero() || x.Endpoint != t.Endpoint
	if known && x.Endpoint.Addr() != t.Endpoint.Addr() {
		b.unindex(x)
		known = false
	}
	if x.Endpoint.IsValid() && x.Endpoint != t.Endpoint {
		x.Before = x.Endpoint
	}
	x.Tunnel, x.Heard, x.Gone = t, now, time.Time{}
	if !known {
		b.byAddr[t.Endpoint.Addr()] = append(b.byAddr[t.Endpoint.Addr()], x)
	}
	return news
}

// lose notes that a tunnel is not established any more.
func (s *server) lose(peer string, now time.Time) {
	if x, ok := s.peers[peer]; ok && x.Gone.IsZero() {
		x.Gone = now
		s.established--
	}
}

func (b *Book) unindex(x *Sighting) {
	a := x.Endpoint.Addr()
	list := slices.DeleteFunc(b.byAddr[a], func(o *Sighting) bool { return o == x })
	if len(list) == 0 {
		delete(b.byAddr, a)
	} else {
		b.byAddr[a] = list
	}
}

// forget drops what has been gone for long.
func (b *Book) forget(now time.Time) {
	for _, s := range b.servers {
		for peer, x := range s.peers {
			if !x.Gone.IsZero() && now.Sub(x.Gone) > remember {
				b.unindex(x)
				delete(s.peers, peer)
			}
		}
	}
}
