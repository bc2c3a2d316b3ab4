package replica

import (
	"context"
	"errors"
	"slices"
	"time"

	"tunneldirector/affinity"
)

// feed sends the queue.
func (l *link) feed(ctx context.Context) error {
	for {
		var m delta
		err := l.r.until(ctx, func() bool {
			if len(l.p.queue) == 0 || len(l.pending) >= inFlight || l.p.dialled.link != l {
				return false
			}
			at := l.p.queue[0].at
			records, revision := l.p.take()
			m = l.reserve(records, sent{len(records), true, revision, at})
			return true
		})
		if err != nil {
			return nil
		}
		if err := l.write(ctx, m); err != nil {
			return err
		}
	}
}

// reserve gives a delta its number. The mutex is held.
func (l *link) reserve(records []affinity.Change, s sent) delta {
	l.next++
	l.pending[l.next] = s
	return delta{l.next, records}
}

// sendRecords sends records of a round, as soon as the peer may be sent more.
func (l *link) sendRecords(ctx context.Context, records []affinity.Change) error {
	var m delta
	err := l.r.until(ctx, func() bool {
		if len(l.pending) >= inFlight {
			return false
		}
		m = l.reserve(records, sent{records: len(records), at: time.Now()})
		return true
	})
	if err != nil {
		return err
	}
	return l.write(ctx, m)
}

// acknowledged notes that the peer has a delta on disk and in its data plane.
func (l *link) acknowledged(seq uint64) error {
	l.r.mu.Lock()
	defer l.r.mu.Unlock()
	s, ok := l.pending[seq]
	if !ok {
		return errors.New("an acknowledgement of what was not sent")
	}
	delete(l.pending, seq)
	if !s.own {
		l.r.getOn(time.Now())
	}
	if s.own && l.p.dialled.link == l {
		l.p.acked = max(l.p.acked, s.revision)
	}
	l.r.poke()
	return nil
}

// settled waits until all that was sent so far in rounds is acknowledged.
func (l *link) settled(ctx context.Context) error {
	var upTo uint64
	return l.r.until(ctx, func() bool {
		if upTo == 0 {
			upTo = l.next
		}
		for seq, s := range l.pending {
			if !s.own && seq <= upTo {
				return false
			}
		}
		return true
	})
}

// few is how many records of a round are held back until all are known, so that what others refer to comes first, and tunnels
// come with their pins.
const few = 5000

// order is that of affinity.Table.Records.
var order = []affinity.Kind{affinity.KindFreeze, affinity.KindTenant, affinity.KindService, affinity.KindRealServer, affinity.KindLife, affinity.KindTunnel, affinity.KindPin}

// A sender gathers the records of a round into deltas of the right size.
type sender struct {
	l       *link
	held    []affinity.Change
	many    bool // too many to be held back
	records []affinity.Change
	size    int
}

func (s *sender) add(ctx context.Context, c affinity.Change) error {
	if s.many {
		return s.append(ctx, c)
	}
	s.held = append(s.held, c)
	if len(s.held) < few {
		return nil
	}
	s.many = true
	return s.release(ctx)
}

// release sends what is held back.
func (s *sender) release(ctx context.Context) error {
	held := s.held
	s.held = nil
	slices.SortStableFunc(held, func(a, b affinity.Change) int { return slices.Index(order, a.Kind) - slices.Index(order, b.Kind) })
	for _, c := range held {
		if err := s.append(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// append adds a record to the next delta.
func (s *sender) append(ctx context.Context, c affinity.Change) error {
	s.records = append(s.records, affinity.Change{Kind: c.Kind, Key: c.Key, Value: c.Value})
	s.size += wireSize(&c)
	if len(s.records) >= maxRecords || s.size >= maxBytes {
		return s.send(ctx)
	}
	return nil
}

// flush sends all that was not sent yet.
func (s *sender) flush(ctx context.Context) error {
	if err := s.release(ctx); err != nil {
		return err
	}
	return s.send(ctx)
}

func (s *sender) send(ctx context.Context) error {
	if len(s.records) == 0 {
		return nil
	}
	records := s.records
	s.records, s.size = nil, 0
	return s.l.sendRecords(ctx, records)
}

// Await waits until n peers have all up to a revision, for n < 0 all connected ones whose stores take writes, or ctx ends; it gives
// the live peers that have all that this director wrote up to it, on disk and in their data planes; sorted.
func (r *Replica) Await(ctx context.Context, revision uint64, n int) []string {
	var have []string
	_ = r.until(ctx, func() bool { // what is there when ctx ends is the answer
		var late int
		have, late = r.acked(revision)
		return len(have) >= n && n >= 0 || late == 0 && n < 0
	})
	return have
}

// acked are the live peers that have all up to a revision, sorted, and how many live, connected ones could have it and have not. The mutex
// is held.
func (r *Replica) acked(revision uint64) (have []string, late int) {
	for _, name := range sortedNames(r.peers) {
		p := r.peers[name]
		if p.dialled.link == nil || !p.alive {
			continue
		}
		// A revision that came of others' records is not among ours: then it is enough that nothing of ours is missing.
		if p.synced && (p.acked >= revision || p.acked >= r.last) {
			have = append(have, name)
		} else if !p.beat.Full {
			late++
		}
	}
	return have, late
}

// Synced tells whether this director has had, since it started, all that a live peer held: of one that was ready then, or of
// every live one. Without live peers it is neither.
func (r *Replica) Synced() (withReady, withAll bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	live := 0
	withAll = true
	for _, p := range r.peers {
		if p.alive {
			live++
			withReady = withReady || p.hadReady
			withAll = withAll && p.had
		}
	}
	return withReady, withAll && live > 0
}
