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
	ring  []api.Event
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
	for i := range list {
		list[i].Seq = revision - uint64(len(list)-1-i)
	}
	e.ring = append(e.ring, list...)
	if over := len(e.ring) - eventsKept; over > eventsKept/4 {
		e.first = e.ring[over-1].Seq
		e.ring = append([]api.Event(nil), e.ring[over:]...)
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
		i := len(e.ring)
		for i > 0 && e.ring[i-1].Seq > since {
			i--
		}
		list := append([]api.Event(nil), e.ring[i:]...)
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
