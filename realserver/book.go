package realserver

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"tunneldirector/director/agent"
	"tunneldirector/realserver/terminator"
)

const (
	// retold is how often the counters of a tunnel are told at most.
	retold = time.Minute
	// sameTime is how far two readings of one establishment may lie apart: software tells it in whole seconds ago.
	sameTime = 2 * time.Second
	// maxGone bounds the memory of tunnels that went down. A director that missed more is told all.
	maxGone = 20_000
)

// A book is what is established at one real server. Each change has a number, and peers are kept in the order of their last
// change, so that what happened since any number is the end of two lists.
type book struct {
	mu    sync.Mutex
	began time.Time // the first update
	seq   uint64    // of the last change; 0: nobody has looked yet
	floor uint64    // who knows less than this may have missed peers that were forgotten since
	round uint64    // of update, to find out what is not there any more
	peers map[string]*entry
	up    chain
	gone  chain // of tunnels that are down
}

// An entry is a peer. It is handed out as a copy. Its tunnel's subnets are not changed but replaced: copies share them.
type entry struct {
	tunnel agent.Tunnel
	down   bool
	pick   int32 // which of its last update's tunnels it is, if several have its name: the newest
	seq    uint64
	round  uint64        // of the update that found it last
	born   time.Time     // when it was first seen as it was established last; zero: it was when the agent came
	told   time.Duration // when the counters were told, by the book's age
	active time.Time     // when packets of the site were seen last; zero: never

	before, after *entry // in its chain
}

func newBook() *book { return &book{peers: map[string]*entry{}} }

// update makes tunnels the ones that are established, and tells whether that changed anything that is told. step is by how much
// the wall clock was set since the update before: times of establishment that moved with it are the same times.
func (b *book) update(now time.Time, step time.Duration, tunnels []agent.Tunnel) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	before := b.seq
	first := before == 0
	if first {
		b.began = now
	}
	b.round++
	for i := range tunnels {
		x := b.entryOf(tunnels[i].Peer)
		if x.round != b.round || tunnels[i].Since.After(tunnels[x.pick].Since) {
			x.round, x.pick = b.round, int32(i)
		}
	}
	for i := range tunnels {
		if x := b.peers[tunnels[i].Peer]; int(x.pick) == i {
			b.seen(now, step, &tunnels[i], x, first)
		}
	}
	for x := b.up.first; x != nil; {
		next := x.after
		if x.round != b.round {
			b.leave(x)
		}
		x = next
	}
	if first && b.seq == 0 {
		b.seq = 1 // that there is nothing is a fact, too
	}
	return b.seq != before
}

// entryOf is that of a peer that is up; a new one has no tunnel yet.
func (b *book) entryOf(peer string) *entry {
	x := b.peers[peer]
	if x != nil && !x.down {
		return x
	}
	if x != nil {
		b.gone.remove(x)
	}
	x = &entry{}
	b.peers[peer] = x
	b.up.push(x)
	return x
}

// seen takes in a tunnel as it is now.
func (b *book) seen(now time.Time, step time.Duration, t *agent.Tunnel, x *entry, first bool) {
	renamed := false
	if x.seq == 0 {
		was := b.calledBefore(t, step)
		if was == nil {
			b.begin(now, t, x, first)
			return
		}
		renamed = true
		x.tunnel, x.born, x.active = was.tunnel, was.born, was.active
		x.tunnel.Peer = t.Peer
	}
	old := &x.tunnel
	same := near(t.Since, old.Since)
	moved := !same && step != 0 && near(t.Since, old.Since.Add(step))
	if moved {
		x.told = -retold // it is told as counters are, soon
	}
	if t.Rx > old.Rx || t.Last.After(old.Last) && !moved || lately(now, t) {
		x.active = now
	}
	anew := !same && !moved
	identity := renamed || anew || t.Endpoint != old.Endpoint || t.Local != old.Local || !slices.Equal(t.Subnets, old.Subnets)
	counters := moved || t.Rx != old.Rx || t.Tx != old.Tx || !t.Last.Equal(old.Last)
	if !identity && !counters {
		return
	}
	peer, since, subnets := old.Peer, old.Since, old.Subnets
	x.tunnel = *t
	x.tunnel.Peer = peer // and not another copy of it
	if same {
		x.tunnel.Since = since
	}
	if x.tunnel.Subnets = subnets; !slices.Equal(t.Subnets, subnets) {
		x.tunnel.Subnets = slices.Clone(t.Subnets)
	}
	if anew {
		x.born, x.active = now, now
	}
	if age := now.Sub(b.began); identity || age-x.told >= retold {
		b.seq++
		x.seq, x.told = b.seq, age
		b.up.renew(x)
	}
}

// begin takes in a tunnel that was not there.
func (b *book) begin(now time.Time, t *agent.Tunnel, x *entry, first bool) {
	b.seq++
	x.tunnel, x.seq, x.told, x.born, x.active = clone(t), b.seq, now.Sub(b.began), now, now
	b.up.renew(x)
	if first { // they are not all told again in one moment
		x.told = -retold * time.Duration(b.seq-1) / time.Duration(b.up.n)
	}
	switch {
	case first:
		x.born = time.Time{}
	case !t.Since.IsZero() && now.Sub(t.Since) > fresh: // it was there, and the software did not say so
		x.born = t.Since
	}
	if first && !lately(now, t) {
		x.active = time.Time{}
	}
}

// calledBefore is the entry of a tunnel that had another name until now, nil if there is none: one that shares its name with others
// is called by where it is for as long as they are there.
func (b *book) calledBefore(t *agent.Tunnel, step time.Duration) *entry {
	for _, peer := range namesOf(agent.Inherited{Peer: t.Peer, Endpoint: t.Endpoint}) {
		x := b.peers[peer]
		if x == nil {
			continue
		}
		since := x.tunnel.Since
		if !x.down && x.round != b.round && x.tunnel.Endpoint == t.Endpoint && (near(t.Since, since) || near(t.Since, since.Add(step))) {
			return x
		}
	}
	return nil
}

// leave makes a tunnel one that is down.
func (b *book) leave(x *entry) {
	b.up.remove(x)
	b.seq++
	down := &entry{tunnel: agent.Tunnel{Peer: x.tunnel.Peer}, down: true, seq: b.seq}
	b.peers[x.tunnel.Peer] = down
	b.gone.push(down)
	for b.gone.n > maxGone {
		oldest := b.gone.first
		b.gone.remove(oldest)
		b.floor = oldest.seq
		delete(b.peers, oldest.tunnel.Peer)
	}
}

// empty makes all tunnels down; a book that nobody has looked for stays so.
func (b *book) empty(now time.Time) bool {
	b.mu.Lock()
	looked := b.seq > 0
	b.mu.Unlock()
	return looked && b.update(now, 0, nil)
}

// count is how many are established.
func (b *book) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.up.n
}

// find returns the established tunnel that an order means: by its peer's name, or else by where its packets come from.
func (b *book) find(t agent.Inherited) (entry, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if t.Peer != "" {
		for _, name := range namesOf(t) {
			if x := b.peers[name]; x != nil && !x.down && means(t, &x.tunnel) {
				return *x, true
			}
		}
		return entry{}, false
	}
	for x := b.up.last; x != nil; x = x.before {
		if means(t, &x.tunnel) {
			return *x, true
		}
	}
	return entry{}, false
}

// changed returns the tunnels that are up and changed after seq, and the number to ask with next.
func (b *book) changed(seq uint64) ([]entry, uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	x, n := b.up.since(seq)
	out := make([]entry, 0, n)
	for ; x != nil; x = x.after {
		out = append(out, *x)
	}
	return out, b.seq
}

// last is the number of the last change.
func (b *book) last() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.seq
}

// namesOf are what the peer of an order may be called here: one that shares its name with another is called by where it is, too, on
// that real server alone. A name may look as if it were so already.
func namesOf(t agent.Inherited) [4]string {
	name := terminator.SharedName(t.Peer)
	return [4]string{t.Peer, terminator.NameAt(t.Peer, t.Endpoint), terminator.NameAt(name, t.Endpoint), name}
}

// means tells whether a tunnel is the one of an order: by name where the order has one. Sites behind one address are told apart by
// ports, where both sides know them, and by subnets.
func means(t agent.Inherited, x *agent.Tunnel) bool {
	switch {
	case t.Peer == x.Peer:
		return true
	case t.Peer != "":
		return terminator.SameName(t.Peer, x.Peer) && terminator.IsAt(t.Endpoint, x.Endpoint)
	case !terminator.IsAt(t.Endpoint, x.Endpoint):
		return false
	case t.Local.IsValid() && x.Local.IsValid() && t.Local != x.Local:
		return false
	}
	return len(t.Subnets) == 0 || len(x.Subnets) == 0 || slices.ContainsFunc(t.Subnets, func(p netip.Prefix) bool {
		return slices.ContainsFunc(x.Subnets, p.Overlaps)
	})
}

// The two ways to tell that an established tunnel is more than what a site left behind.
const (
	fresh = 30 * time.Second // since it was established
	alive = 15 * time.Second // since its last packet
)

// lately tells whether the software says that the site sent a packet just now; both times are of this machine's clock.
func lately(now time.Time, t *agent.Tunnel) bool {
	return !t.Last.IsZero() && now.Round(0).Sub(t.Last).Abs() < alive
}

// lives tells whether a tunnel was up in truth at a moment: established not long before it, or not silent, or of software that tells
// nothing of packets.
func (x *entry) lives(at time.Time) bool {
	t := &x.tunnel
	return x.born.After(at.Add(-fresh)) || x.active.After(at.Add(-alive)) || t.Rx == 0 && t.Tx == 0 && t.Last.IsZero()
}

func near(a, b time.Time) bool { return a.Sub(b).Abs() <= sameTime }

// clone is a tunnel with subnets of its own: the list that it is from is the terminator's.
func clone(t *agent.Tunnel) agent.Tunnel {
	c := *t
	c.Subnets = slices.Clone(t.Subnets)
	return c
}
