package replica

import "time"

// A calm is whether anything that a peer had before now may still come by a round. The mutex of the Replica guards it.
//
//	          it becomes alive, a connection ends, one is made with other tables, a round begins
//	settled ────────────────────────────────────────────────────────────────────────────────────▶ apart
//	   ▲                                                                                            │
//	   └── both said the same root when they connected, or a round is done, or beats say so ◀───────┘
type calm struct {
	since time.Time // when the peer became alive
	apart time.Time // zero: settled
	moved time.Time // when it last looked as if it would be settled soon
	left  time.Time // when its last connection ended
}

// How long a peer that is apart counts.
const (
	bearFor    = 10 * time.Second // without any progress
	bearAtMost = time.Minute      // with some, again and again
)

// stir notes that something may come by a round.
func (c *calm) stir(now time.Time) {
	if c.apart.IsZero() {
		c.apart = now
	}
}

// counts tells whether the peer is apart, and not for so long that nobody should wait for it.
func (c *calm) counts(now time.Time) bool {
	return !c.apart.IsZero() && now.Sub(c.apart) < bearAtMost && (now.Sub(c.apart) < bearFor || now.Sub(c.moved) < bearFor)
}

// revive notes that the peer has become alive: what it had meanwhile is not here. The mutex is held.
func (p *peer) revive(now time.Time) {
	p.calm.since, p.calm.apart = now, now
	p.dialled.level, p.accepted.level = false, false
	if p.dialled.link != nil && !p.differs.IsZero() {
		p.differs = now.Add(-p.wait) // the connection has outlived the silence: nothing else begins a round soon
	}
}

// connect notes that a connection was made, and whether all that the peer had then is here. The mutex is held.
func (p *peer) connect(w *way, same bool, now time.Time) {
	c := &p.calm
	other := p.dialled.link != nil && w != &p.dialled || p.accepted.link != nil && w != &p.accepted
	if !other && now.Sub(c.left) >= bearFor {
		c.apart = now // it counts again; one that breaks again and again does not
	}
	c.stir(now)
	c.moved, w.level = now, same
	p.settle()
}

// disconnect notes that a connection has ended. The mutex is held.
func (p *peer) disconnect(w *way, now time.Time) {
	w.level, p.calm.left = false, now
	p.calm.stir(now)
}

// levelAt notes that all that the peer had at a time is here. The mutex is held.
func (p *peer) levelAt(at time.Time) {
	if at.Before(p.calm.since) {
		return
	}
	for _, w := range []*way{&p.dialled, &p.accepted} {
		w.level = w.level || w.link != nil && !at.Before(w.up)
	}
	p.settle()
}

// settle finds out whether the peer is apart no more: what it writes comes on the connection that it made.
func (p *peer) settle() {
	if p.turns == 0 && p.accepted.level && (p.dialled.level || p.dialled.link == nil) {
		p.calm.apart = time.Time{}
	}
}

// Settled tells whether nothing that live peers had before now can still come by a round: with each a round was completed, or
// the tables were equal, since it became alive and its connections were made, and none is in progress. A peer that this does not
// come about with for 10 s does not count. Without live peers it is true.
func (r *Replica) Settled() bool {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.peers {
		if (p.alive || p.turns > 0) && p.calm.counts(now) {
			return false
		}
	}
	return true
}
