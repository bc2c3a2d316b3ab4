package exec

import (
	"time"

	"tunneldirector/director/agent"
)

// history is what a program did not tell of tunnels that it told of.
type history map[string]life

type life struct {
	since, last time.Time
	rx          uint64
}

// complete fills in what is missing, and forgets what is not there any more.
func (h history) complete(now time.Time, tunnels []agent.Tunnel) {
	here := make(map[string]bool, len(tunnels))
	for i := range tunnels {
		t := &tunnels[i]
		here[t.Peer] = true
		l, known := h[t.Peer]
		switch {
		case !known || t.Rx < l.rx:
			l = life{since: now}
		case t.Rx > l.rx:
			l.last = now
		}
		l.rx = t.Rx
		h[t.Peer] = l
		if t.Since.IsZero() {
			t.Since = l.since
		}
		if t.Last.IsZero() {
			t.Last = l.last
		}
	}
	for peer := range h {
		if !here[peer] {
			delete(h, peer)
		}
	}
}
