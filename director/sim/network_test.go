package sim

import (
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"
)

// A way is one direction between two hosts on one path.
type way struct {
	from, to string
	path     int
}

// A link is how a way is.
type link struct {
	r      *rand.Rand // the way's own, so that what happens on others changes nothing here
	cut    bool
	cuts   int     // how often it was cut
	loss   float64 // share of datagrams; of what is in a stream it makes delays
	twice  float64 // share of datagrams that come twice
	delay  time.Duration
	jitter time.Duration // datagrams overtake each other by as much
}

// A place is the host and the path that an address belongs to.
type place struct {
	host string
	path int
}

// A network carries datagrams and streams between hosts. Its methods may be called from any goroutine.
type network struct {
	seed uint64

	mu     sync.Mutex
	places map[netip.Addr]place
	links  map[way]*link
	boxes  map[netip.AddrPort]*datagrams
	doors  map[netip.AddrPort]*door
	pipes  map[*pipe]bool
}

func newNetwork(seed uint64) *network {
	return &network{seed: seed, places: map[netip.Addr]place{}, links: map[way]*link{}, boxes: map[netip.AddrPort]*datagrams{},
		doors: map[netip.AddrPort]*door{}, pipes: map[*pipe]bool{}}
}

// attach gives a host an address for each path.
func (n *network) attach(host string, addrs ...netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for path, a := range addrs {
		n.places[a] = place{host, path}
	}
}

// link is how a way is. The caller holds mu.
func (n *network) link(w way) *link {
	l, ok := n.links[w]
	if !ok {
		h := n.seed
		for _, c := range w.from + ">" + w.to {
			h = h*1099511628211 + uint64(c)
		}
		l = &link{r: rand.New(rand.NewPCG(h, uint64(w.path))), delay: 200 * time.Microsecond, jitter: 100 * time.Microsecond}
		n.links[w] = l
	}
	return l
}

// set changes a way.
func (n *network) set(w way, change func(*link)) {
	n.mu.Lock()
	l := n.link(w)
	was := l.cut
	change(l)
	is := l.cut
	if is && !was {
		l.cuts++
	}
	cuts := l.cuts
	touched := n.pipesOf(w)
	n.mu.Unlock()
	switch {
	case is && !was:
		time.AfterFunc(patience, func() { n.giveUp(w, cuts) })
	case was && !is:
		for _, p := range touched {
			p.resume()
		}
	}
}

// pipesOf are the streams that go a way, or whose acknowledgements do. The caller holds mu.
func (n *network) pipesOf(w way) (list []*pipe) {
	for p := range n.pipes {
		if p.way == w || p.way == w.back() {
			list = append(list, p)
		}
	}
	return list
}

func (w way) back() way { return way{w.to, w.from, w.path} }

// patience is how long a stream waits for acknowledgements before it breaks.
const patience = 15 * time.Second

// giveUp breaks the streams that wait for a way that has been cut since.
func (n *network) giveUp(w way, cuts int) {
	n.mu.Lock()
	l := n.link(w)
	still := l.cut && l.cuts == cuts
	touched := n.pipesOf(w)
	n.mu.Unlock()
	if !still {
		return
	}
	for _, p := range touched {
		p.giveUp()
	}
}

// up tells whether a way is open.
func (n *network) up(w way) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return !n.link(w).cut
}

// travel is how long something takes on a way that is open; each loss makes a stream wait for a retransmission.
func (n *network) travel(w way, resent bool) time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.link(w)
	d := l.delay + l.some()
	for wait := 200 * time.Millisecond; resent && l.r.Float64() < l.loss && wait < 2*time.Second; wait *= 2 {
		d += wait
	}
	return d
}

// some is a part of the jitter.
func (l *link) some() time.Duration { return time.Duration(l.r.Int64N(int64(l.jitter) + 1)) }

// arrivals says when copies of a datagram arrive; none: it is lost.
func (n *network) arrivals(w way) (after []time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.link(w)
	if l.cut || l.r.Float64() < l.loss {
		return nil
	}
	after = append(after, l.delay+l.some())
	if l.r.Float64() < l.twice {
		after = append(after, l.delay+2*l.some())
	}
	return after
}
