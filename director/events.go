package director

import (
	"context"
	"sync"

	"tunneldirector/director/api"
)

// eventsKept is how many events can be asked for again.
const eventsKept = 16 << 10

// events is a ring of the last ones. A sequence number is the revision of its commit, counted back from its last event.
type events struct {
	mu    sync.Mutex
	ring  []api.Event   // of eventsKept, once it is full
	next  int           // where the next one goes
	first uint64        // sequence number after which all events are known
	last  uint64        // of the newest
	more  chan struct{} // closed at the next one
}

func newEvents() *events { return &events{more: make(chan struct{})} }

// start says which revision the table was loaded with: what was before is not known any more.
func (e *events) start(revision uint64) { e.first, e.last = revision, revision }

// add appends the events of a commit whose revision is the last one's number.
func (e *events) add(list []api.Event, revision uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i, event := range list {
		event.Seq = revision - uint64(len(list)-1-i)
		if len(e.ring) < eventsKept {
			e.ring = append(e.ring, event)
			continue
		}
		e.first = e.ring[e.next].Seq
		e.ring[e.next] = event
		e.next = (e.next + 1) % eventsKept
	}
	e.last = revision
	close(e.more)
	e.more = make(chan struct{})
}

// after returns the events after a sequence number, waiting for the first; api.ErrGone if some of them are not known.
func (e *events) after(ctx context.Context, since uint64) ([]api.Event, error) {
	for {
		e.mu.Lock()
		gone := since < e.first || since > e.last
		list := e.since(since)
		more := e.more
		e.mu.Unlock()
		switch {
		case gone:
			return nil, api.ErrGone
		case len(list) > 0:
			return list, nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// since copies the events after a sequence number, in order.
func (e *events) since(since uint64) []api.Event {
	n := len(e.ring)
	newer := 0
	for newer < n && e.ring[(e.next+n-1-newer)%n].Seq > since {
		newer++
	}
	var list []api.Event
	for i := n - newer; i < n; i++ {
		list = append(list, e.ring[(e.next+i)%n])
	}
	return list
}
