package replica

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"tunneldirector/affinity"
)

// A link is one connection. Fields without a word on them are set once, before it runs.
type link struct {
	r      *Replica
	p      *peer
	stream *stream
	source bool  // this director dialled
	told   hello // what this director said of itself; for talk alone

	hellos chan hello   // one
	deltas chan delta   // to be merged
	rounds chan message // of rounds, to be answered
	asked  chan struct{}
	gone   chan struct{}   // closed when it is no more
	work   *errgroup.Group // set by run before anything is read
	// What Ask wants to be sent.
	questions chan question

	// The mutex of the Replica guards these.
	heard   time.Time
	next    uint64 // seq of the next delta
	pending map[uint64]sent
	answers map[uint64]chan answer
	end     error // why it is to end
	ended   chan struct{}
}

// A sent is a delta that is not acknowledged.
type sent struct {
	records  int
	own      bool // of the queue
	revision uint64
	at       time.Time
}

const (
	inFlight    = 8   // deltas that are not acknowledged
	inRound     = 256 // messages of a round that are not answered
	maxMerge    = 2 * maxRecords
	inQuestions = 64 // questions that are not answered
)

func newLink(r *Replica, p *peer, conn net.Conn, source bool) *link {
	return &link{r: r, p: p, source: source, stream: newStream(conn, &p.count), hellos: make(chan hello, 1),
		deltas: make(chan delta, inFlight), rounds: make(chan message, inRound), asked: make(chan struct{}, inQuestions),
		pending: map[uint64]sent{}, answers: map[uint64]chan answer{}, ended: make(chan struct{}),
		gone: make(chan struct{}), questions: make(chan question, inQuestions)}
}

// run serves the connection until it ends, and closes it.
func (l *link) run(ctx context.Context) error {
	work, ctx := errgroup.WithContext(ctx)
	l.work = work
	work.Go(func() error {
		defer l.stream.conn.Close()
		select {
		case <-ctx.Done():
			return nil
		case <-l.r.retired:
			return errOldCopy
		case <-l.ended:
			return l.end
		}
	})
	work.Go(func() error { return l.read(ctx) })
	work.Go(func() error { return l.talk(ctx) })
	err := work.Wait()
	l.leave()
	return err
}

// talk begins what is done on the connection, when both have said who they are.
func (l *link) talk(ctx context.Context) error {
	l.told = l.r.greeting()
	if err := l.stream.write(l.told); err != nil {
		return fmt.Errorf("greet %s: %w", l.p.name, err)
	}
	var h hello
	select {
	case h = <-l.hellos:
	case <-ctx.Done():
		return nil
	}
	if err := l.enter(h); err != nil {
		l.refuse(ctx, err)
		return err
	}
	l.work.Go(func() error { return l.merge(ctx) })
	l.work.Go(func() error { return l.ping(ctx) })
	l.work.Go(func() error { return l.ask(ctx) })
	if !l.source {
		return l.serveRounds(ctx)
	}
	l.work.Go(func() error { return l.feed(ctx) })
	return l.keepEqual(ctx)
}

// enter makes the link the one of its peer.
func (l *link) enter(h hello) error {
	if err := l.r.judge(l.p.name, h); err != nil {
		return err
	}
	r, p, now := l.r, l.p, time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	w := &p.accepted
	if l.source {
		w = &p.dialled
	}
	if old := w.link; old != nil {
		if p.hello.Instance != h.Instance && now.Sub(old.heard) < silence/2 {
			return &refusal{why: fmt.Sprintf("another director called %s is connected: give one another name", p.name)}
		}
		old.stop(errors.New("its director has connected anew"))
	}
	// All that the peer had is here as well if that was so a moment ago.
	had := h.Root == l.told.Root && h.Records == l.told.Records
	root, records := r.o.Local.Digest().Root()
	same := root == h.Root && uint64(records) == h.Records
	had = had || same
	w.link, w.up, l.heard, p.hello = l, now, now, h
	p.connect(w, had, now)
	if had {
		p.has(now, now)
	}
	if l.source {
		p.begin(now)
		if same {
			p.hasOurs(r.last)
		}
	}
	r.poke()
	r.o.Log.Info("connected to director", "peer", p.name, "dialled", l.source, "same_table", same)
	return nil
}

// stop ends the link. The mutex is held.
func (l *link) stop(why error) {
	if l.end == nil {
		l.end = why
		close(l.ended)
	}
}

// refuse tells the peer why it is not spoken with, and lets it close.
func (l *link) refuse(ctx context.Context, err error) {
	var no *refusal
	if errors.As(err, &no) {
		why := strings.ToValidUTF8(no.why[:min(len(no.why), maxOrigin)], "")
		if l.stream.write(refused{Why: why, OldCopy: no.store != "", Store: no.store, Boot: no.boot}) == nil {
			linger(ctx)
		}
	}
}

// linger gives the reader time to end: what the peer said last tells more than a write that failed, or closes in order.
func linger(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(time.Second):
	}
}

// leave takes the link off its peer.
func (l *link) leave() {
	r, p := l.r, l.p
	r.mu.Lock()
	defer r.mu.Unlock()
	close(l.gone)
	p.stalled = nil
	if p.accepted.link == l {
		p.accepted.link = nil
		p.disconnect(&p.accepted, time.Now())
	}
	if p.dialled.link == l {
		p.dialled.link = nil
		p.disconnect(&p.dialled, time.Now())
		p.begin(time.Now())
	}
	r.poke()
}

// read takes what comes apart. It waits for nothing else.
func (l *link) read(ctx context.Context) error {
	for first := true; ; first = false {
		m, err := l.stream.read()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read from %s: %w", l.p.name, err)
		}
		if err := l.take(ctx, m, first); err != nil {
			return fmt.Errorf("from %s: %w", l.p.name, err)
		}
	}
}

// errMore says that a peer sends more than it may before it is answered.
var errMore = errors.New("it sends more than was asked for")

func (l *link) take(ctx context.Context, m message, first bool) error {
	switch m := m.(type) {
	case refused:
		// It is believed when both have said who they are, of what only one that knew this store can say.
		if o := l.r.o; m.OldCopy && !first && m.Store == o.StoreID && m.Boot > o.Boot {
			l.r.retire(l.p.name)
			return errOldCopy
		}
		return fmt.Errorf("it refuses: %s", m.Why)
	case hello:
		if !first {
			return errors.New("a second hello")
		}
		return offer(l.hellos, m)
	}
	if first {
		return fmt.Errorf("%v before hello", m.kind())
	}
	l.r.mu.Lock()
	l.heard = time.Now()
	l.r.mu.Unlock()
	switch m := m.(type) {
	case ping:
		return nil
	case delta:
		return offer(l.deltas, m)
	case ack:
		return l.acknowledged(m.seq)
	case question:
		if err := offer(l.asked, struct{}{}); err != nil {
			return err
		}
		l.work.Go(func() error { return l.answer(ctx, m) })
		return nil
	case answer:
		return l.answered(m)
	}
	return offer(l.rounds, m)
}

// offer puts v into a channel that has room if the peer does what it may.
func offer[T any](to chan T, v T) error {
	select {
	case to <- v:
		return nil
	default:
		return errMore
	}
}

func (l *link) ping(ctx context.Context) error {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := l.write(ctx, ping{}); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// write sends a message. Once ctx has ended that is no error any more.
func (l *link) write(ctx context.Context, m message) error {
	if err := l.stream.write(m); err != nil {
		if linger(ctx); ctx.Err() == nil {
			return fmt.Errorf("send %v to %s: %w", m.kind(), l.p.name, err)
		}
	}
	return context.Cause(ctx)
}

// merge has the local table take the peer's records over.
func (l *link) merge(ctx context.Context) error {
	for {
		var d delta
		select {
		case d = <-l.deltas:
		case <-ctx.Done():
			return nil
		}
		seqs, records := l.gather(d)
		if err := l.mergeAll(ctx, records); err != nil {
			return nil // ctx has ended
		}
		for _, seq := range seqs {
			if err := l.write(ctx, ack{seq}); err != nil {
				return err
			}
		}
	}
}

// gather puts deltas that wait already together: a commit of many records costs little more than one of few.
func (l *link) gather(first delta) (seqs []uint64, records []affinity.Change) {
	seqs, records = []uint64{first.seq}, first.records
	for len(records) < maxMerge {
		select {
		case d := <-l.deltas:
			seqs, records = append(seqs, d.seq), append(records, d.records...)
		default:
			return seqs, records
		}
	}
	return seqs, records
}

const (
	firstRetry = time.Second // of a Merge that failed
	maxRetry   = 10 * time.Second
)

// mergeAll tries until the records are in, or ctx ends.
func (l *link) mergeAll(ctx context.Context, records []affinity.Change) error {
	for pause := firstRetry; ; pause = min(2*pause, maxRetry) {
		err := l.r.o.Local.Merge(ctx, l.p.name, records)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		bad, whole := recordErrors(err)
		l.r.merged(l.p, bad, whole)
		if whole == nil {
			return nil
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// merged notes how a Merge went.
func (r *Replica) merged(p *peer, bad []*RecordError, whole error) {
	now := time.Now()
	r.mu.Lock()
	stalls := whole != nil && p.stalled == nil
	p.stalled = whole
	switch {
	case whole != nil:
	case p.turns > 0:
		r.getOn(now)
	default: // what it has just written, which brings nobody nearer to a round
		p.calm.moved = now
	}
	if len(p.refused) > maxKept {
		clear(p.refused)
	}
	for _, e := range bad {
		p.refused[spotOf(affinity.KeyHash(e.Kind, e.Key))] = now.Add(refusedIs)
		p.nRefused++
		p.refusals = append(p.refusals[max(0, len(p.refusals)-maxRefusals+1):], Refusal{e.Kind, e.Key, e.Err.Error()})
	}
	r.mu.Unlock()
	if stalls {
		r.o.Log.Warn("records of another director cannot be taken over now", "peer", p.name, "err", whole)
	}
	if len(bad) > 0 {
		r.o.Log.Warn("records of another director are refused", "peer", p.name, "records", len(bad), "first", bad[0])
	}
}
