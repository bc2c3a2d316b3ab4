package replica

import (
	"context"
	"fmt"

	"tunneldirector/affinity"
)

// serveRounds answers the rounds of the source.
func (l *link) serveRounds(ctx context.Context) error {
	for {
		select {
		case m := <-l.rounds:
			begin, ok := m.(groups)
			if !ok {
				return fmt.Errorf("%s sent %v outside of a round", l.p.name, m.kind())
			}
			if err := l.serve(ctx, begin); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// serve answers one round.
func (l *link) serve(ctx context.Context, begin groups) (err error) {
	t := l.beginTurn()
	defer func() { l.endTurn(t, err == nil) }()
	defer l.alone(ctx)()
	l.r.mu.Lock()
	l.p.hello.Records = begin.records
	l.r.mu.Unlock()
	if err := l.descend(ctx, begin); err != nil {
		return err
	}
	var part versions
	var here map[spot]item // of the last part
	out := sender{l: l}
	for {
		var m message
		select {
		case m = <-l.rounds:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		switch m := m.(type) {
		case lack:
			err = out.addAll(ctx, l.r.o.Local.Table(), m.leaves)
		case entries:
			if err = part.add(m); err == nil && m.last {
				here, err = l.answerPart(ctx, part, begin.window, &out)
				part = versions{}
			}
		case want:
			err = out.addWanted(ctx, m.spots, here)
		case done:
			if err := out.flush(ctx); err != nil {
				return err
			}
			if err := l.settled(ctx); err != nil {
				return err
			}
			return l.write(ctx, done{})
		default:
			err = fmt.Errorf("%s sent %v within a round", l.p.name, m.kind())
		}
		if err != nil {
			return err
		}
	}
}

// descend tells the source where sums differ, down to the leaves.
func (l *link) descend(ctx context.Context, begin groups) error {
	var nodes []uint32
	for g, sum := range l.r.o.Local.Digest().GroupSums() {
		if sum != begin.sums[g] {
			nodes = append(nodes, uint32(g))
		}
	}
	for level := 1; ; level += 2 {
		if err := l.sendSums(ctx, level, nodes, begin.window); err != nil || level == leafLevel {
			return err
		}
		m, err := expect[sums](ctx, l)
		if err != nil {
			return err
		}
		nodes = nil
		err = l.differing(ctx, m, level+1, begin.window, func(_ int, node uint32, _ uint64, _ uint32) { nodes = append(nodes, node) })
		if err != nil {
			return err
		}
	}
}

// answerPart says what is here in place of the source's versions, and sends what the source has not. It returns what is here.
func (l *link) answerPart(ctx context.Context, part versions, w window, records *sender) (map[spot]item, error) {
	if part.leaves == nil {
		part.leaves = new(leafSet)
	}
	t := l.r.o.Local.Table()
	list, here, err := items(ctx, t, part.leaves)
	if err != nil {
		return nil, err
	}
	out := teller{l: l}
	var missing []item
	for _, i := range list {
		theirs, there := part.at[i.at]
		switch {
		case !there, theirs != w.version(i.hash) && l.r.refuses(l.p, i.at): // what is refused is not asked for again
			missing = append(missing, i)
		case theirs != w.version(i.hash):
			h, _ := t.Version(i.kind, i.key)
			if err := out.tell(ctx, headed{i.at, h}); err != nil {
				return nil, err
			}
		}
	}
	for at := range part.at {
		if _, ok := here[at]; !ok && !l.r.refuses(l.p, at) {
			if err := out.tell(ctx, headed{at: at}); err != nil {
				return nil, err
			}
		}
	}
	out.m.last = true
	if err := l.write(ctx, out.m); err != nil {
		return nil, err
	}
	return here, records.addItems(ctx, t, missing)
}

// A teller gathers what is here into messages of the right size.
type teller struct {
	l       *link
	m       differ
	origins map[string]bool
}

func (t *teller) tell(ctx context.Context, h headed) error {
	if t.origins == nil {
		t.origins = map[string]bool{}
	}
	t.origins[h.header.Origin] = true
	t.m.list = append(t.m.list, h)
	if len(t.m.list) < perMessage/32 && len(t.origins) < maxOrigins {
		return nil
	}
	m := t.m
	t.m, t.origins = differ{}, nil
	return t.l.write(ctx, m)
}

func (s *sender) addWanted(ctx context.Context, spots []spot, here map[spot]item) error {
	var list []item
	for _, at := range spots {
		if i, ok := here[at]; ok {
			list = append(list, i)
		}
	}
	return s.addItems(ctx, s.l.r.o.Local.Table(), list)
}

// addItems adds records as they are now.
func (s *sender) addItems(ctx context.Context, t *affinity.Table, list []item) error {
	for _, i := range list {
		if c, ok := t.Record(i.kind, i.key); ok {
			if err := s.add(ctx, c); err != nil {
				return err
			}
		}
	}
	return nil
}
