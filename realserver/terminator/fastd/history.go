package fastd

import "time"

// history is what is known of peers that have a tunnel.
type history map[string]life

// A life is one tunnel.
type life struct {
	since time.Time
	last  time.Time // when bytes were seen to grow
	rx    uint64
}

// wobble is what the start of a tunnel, told as its age, may differ by from one look to the next without being another's.
const wobble = 2 * time.Second

// look takes note of what fastd says now.
func (h history) look(now time.Time, peers map[string]peer) {
	for key, p := range peers {
		if p.Connection == nil {
			continue
		}
		since := now.Add(-time.Duration(p.Connection.Established) * time.Millisecond)
		rx := p.Connection.Statistics.Rx.Bytes
		l, known := h[key]
		switch {
		case !known || since.Sub(l.since).Abs() > wobble || rx < l.rx:
			l = life{since: since, last: since}
		case rx > l.rx:
			l.last = now
		}
		l.rx = rx
		h[key] = l
	}
	for key := range h {
		if peers[key].Connection == nil {
			delete(h, key)
		}
	}
}
