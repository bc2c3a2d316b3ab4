package replica

import (
	"context"
	"time"
)

// A director takes part in one round at a time, as source or as sink: after a partition, or at a first start, several others have
// what it lacks, or lack what it has, and what one round has brought does not differ in the next. Of the two that a round is
// between, the one with the lower name lets it in first: so directors that wait for one another never do so in a circle.

// alone waits until no other round is in progress here, but for one that has moved nothing for 10 s, and for a minute at most. It
// returns what lets the next one in.
func (l *link) alone(ctx context.Context) (next func()) {
	begun := time.Now()
	for {
		l.r.mu.Lock()
		until := begun.Add(bearFor)
		if on := l.r.moved.Add(bearFor); on.After(until) {
			until = on
		}
		l.r.mu.Unlock()
		if last := begun.Add(bearAtMost); last.Before(until) {
			until = last
		}
		wait := time.Until(until)
		if wait <= 0 {
			return func() {}
		}
		select {
		case l.r.comparing <- struct{}{}:
			return func() { <-l.r.comparing }
		case <-time.After(wait):
		case <-ctx.Done():
			return func() {}
		}
	}
}

// letsInFirst tells whether a round with the peer is let in here before it is there.
func (l *link) letsInFirst() bool { return l.r.o.Self < l.p.name }

// getOn notes that a round has moved records. Whoever waits for its turn is nearer to it. The mutex is held.
func (r *Replica) getOn(now time.Time) {
	r.moved = now
	for _, p := range r.peers {
		if p.dialled.link != nil || p.accepted.link != nil {
			p.calm.moved = now
		}
	}
}
