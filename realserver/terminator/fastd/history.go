package fastd

import "time"

// history is what is known of peers that have a tunnel. Peers are looked at between begin and end.
type history struct {
	lives map[string]*life // by key
	round uint64
}

// A life is one tunnel.
type life struct {
	key   string
	since time.Time
	last  time.Time // when bytes were seen to grow
	rx    uint64
	round uint64 // that it was seen in last
}

// wobble is what the start of a tunnel, told as its age, may differ by from one look to the next without being another's.
const wobble = 2 * time.Second

func (h *history) begin() { h.round++ }

// look takes note of what fastd says of a peer now; nil: it has no tunnel.
func (h *history) look(now time.Time, key []byte, p *peer) *life {
	if !p.Connected {
		return nil
	}
	since := now.Add(-time.Duration(p.Connection.Established) * time.Millisecond)
	rx := p.Connection.Rx
	l := h.lives[string(key)]
	switch {
	case l == nil:
		l = &life{key: string(key), since: since, last: since}
		h.lives[l.key] = l
	case since.Sub(l.since).Abs() > wobble || rx < l.rx:
		l.since, l.last = since, since
	case rx > l.rx:
		l.last = now
	}
	l.rx, l.round = rx, h.round
	return l
}

// end forgets who was not seen since begin.
func (h *history) end() {
	for key, l := range h.lives {
		if l.round != h.round {
			delete(h.lives, key)
		}
	}
}
