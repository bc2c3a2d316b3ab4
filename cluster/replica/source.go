package replica

import (
	"context"
	"fmt"
	"slices"
	"time"

	"tunneldirector/affinity"
)

// keepEqual begins rounds when they are due.
func (l *link) keepEqual(ctx context.Context) error {
	for {
		l.r.mu.Lock()
		due, ok := l.r.due(l.p)
		changed := l.r.changed
		l.r.mu.Unlock()
		var timer <-chan time.Time
		if ok {
			wait := time.Until(due)
			if wait <= 0 {
				if err := l.round(ctx); err != nil {
					return err
				}
				continue
			}
			timer = time.After(wait)
		}
		select {
		case <-timer:
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// isDue tells whether a round is to begin now.
func (l *link) isDue() bool {
	l.r.mu.Lock()
	defer l.r.mu.Unlock()
	due, ok := l.r.due(l.p)
	return ok && time.Until(due) <= 0
}

// A turn is a round in progress, as this director sees it.
type turn struct {
	begun   time.Time
	gen     int
	covered uint64 // all that this director wrote up to this revision is in its digest
}

func (l *link) beginTurn() turn {
	l.r.mu.Lock()
	defer l.r.mu.Unlock()
	l.p.turns++
	l.p.calm.stir(time.Now())
	if l.source {
		l.p.rounds++
	}
	return turn{time.Now(), l.p.gen, l.r.last}
}

// endTurn draws the conclusions: after a complete round both directors have had all of each other's.
func (l *link) endTurn(t turn, complete bool) {
	r, p, now := l.r, l.p, time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	p.turns--
	p.rounded = now
	if complete {
		p.has(t.begun, now)
		p.levelAt(t.begun)
		if p.dialled.link != nil && p.gen == t.gen {
			p.hasOurs(t.covered)
		}
	}
	if !p.differs.IsZero() {
		p.differs = now
		if l.source {
			p.wait = min(2*p.wait, maxWait)
		}
	}
	p.settle()
	r.poke()
}

// round finds what differs, and moves it.
func (l *link) round(ctx context.Context) (err error) {
	if l.letsInFirst() {
		defer l.alone(ctx)()
		if !l.isDue() { // the peer has begun one meanwhile, or another director's has brought all
			return nil
		}
	}
	t := l.beginTurn()
	defer func() { l.endTurn(t, err == nil) }()
	digest := l.r.o.Local.Digest()
	_, records := digest.Root()
	w := window(l.p.rounds % windows) // only this goroutine changes it
	if err := l.write(ctx, groups{w, uint64(records), digest.GroupSums()}); err != nil {
		return err
	}
	first, err := expect[sums](ctx, l)
	if err != nil {
		return err
	}
	if !l.letsInFirst() { // there it is in
		defer l.alone(ctx)()
	}
	mine, theirs, both, err := l.compare(ctx, first, w)
	if err != nil {
		return err
	}
	if *theirs != (leafSet{}) {
		if err := l.write(ctx, lack{theirs}); err != nil {
			return err
		}
	}
	out := sender{l: l}
	table := l.r.o.Local.Table() // after the digest: what was counted there is here
	if *mine != (leafSet{}) {
		if err := out.addAll(ctx, table, mine); err != nil {
			return err
		}
	}
	for _, part := range parts(both, records) {
		if err := l.part(ctx, table, part, w, &out); err != nil {
			return err
		}
	}
	if err := out.flush(ctx); err != nil {
		return err
	}
	if err := l.settled(ctx); err != nil {
		return err
	}
	if err := l.write(ctx, done{}); err != nil {
		return err
	}
	_, err = expect[done](ctx, l)
	return err
}

// expect waits for the peer's next message of a round.
func expect[M message](ctx context.Context, l *link) (M, error) {
	var none M
	select {
	case m := <-l.rounds:
		want, ok := m.(M)
		if !ok {
			return none, fmt.Errorf("%s sent %v in place of %v", l.p.name, m.kind(), none.kind())
		}
		return want, nil
	case <-ctx.Done():
		return none, context.Cause(ctx)
	}
}

// compare goes down from the first sums of the sink, and finds the leaves that differ: those that the sink has nothing in, those
// that this table has nothing in, and others.
func (l *link) compare(ctx context.Context, m sums, w window) (mine, theirs *leafSet, both []uint32, err error) {
	mine, theirs = new(leafSet), new(leafSet)
	one := func(level int, node uint32, ours uint64, sum uint32) {
		switch {
		case ours == 0:
			theirs.addBelow(level, node)
		case sum == 0:
			mine.addBelow(level, node)
		default:
			both = append(both, node)
		}
	}
	for level := 1; ; level += 2 {
		both = nil
		if err := l.differing(ctx, m, level, w, one); err != nil {
			return nil, nil, nil, err
		}
		if level == leafLevel {
			return mine, theirs, both, nil
		}
		if err := l.sendSums(ctx, level+1, both, w); err != nil {
			return nil, nil, nil, err
		}
		if m, err = expect[sums](ctx, l); err != nil {
			return nil, nil, nil, err
		}
	}
}

// part compares the records of some leaves.
func (l *link) part(ctx context.Context, t *affinity.Table, part []uint32, w window, out *sender) error {
	list, at, err := items(ctx, t, leafSetOf(part))
	if err != nil {
		return err
	}
	if err := l.sendEntries(ctx, part, list, w); err != nil {
		return err
	}
	var wanted []spot
	for {
		m, err := expect[differ](ctx, l)
		if err != nil {
			return err
		}
		for _, theirs := range m.list {
			i, ok := at[theirs.at]
			if !ok {
				continue
			}
			if c, ok := t.Record(i.kind, i.key); ok && (theirs.header.Format == 0 || i.kind.Newer(c.Now, theirs.header)) {
				err = out.add(ctx, c)
			} else if ok && i.kind.Newer(theirs.header, c.Now) && !l.r.refuses(l.p, i.at) {
				wanted = append(wanted, i.at)
			}
			if err != nil {
				return err
			}
		}
		if m.last {
			break
		}
	}
	for spots := range slices.Chunk(wanted, perMessage/spotBytes) {
		if err := l.write(ctx, want{spots}); err != nil {
			return err
		}
	}
	return nil
}

// sendEntries tells the versions of the records in some leaves.
func (l *link) sendEntries(ctx context.Context, part []uint32, list []item, w window) error {
	byLeaf := map[uint32][]entry{}
	for _, i := range list {
		byLeaf[i.at.leaf()] = append(byLeaf[i.at.leaf()], entry{i.at.key(), w.version(i.hash)})
	}
	var m entries
	size := 0
	for _, leaf := range part {
		for rest := byLeaf[leaf]; ; {
			now := rest[:min(len(rest), perMessage/8)]
			rest = rest[len(now):]
			m.list = append(m.list, leafEntries{leaf, now})
			if size += 5 + 8*len(now); size >= perMessage {
				if err := l.write(ctx, m); err != nil {
					return err
				}
				m, size = entries{}, 0
			}
			if len(rest) == 0 {
				break
			}
		}
	}
	m.last = true
	return l.write(ctx, m)
}

// refuses tells whether a record was refused lately.
func (r *Replica) refuses(p *peer, at spot) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	until, ok := p.refused[at]
	if ok && time.Now().After(until) {
		delete(p.refused, at)
		ok = false
	}
	return ok
}
