package main

import (
	"slices"
	"time"

	"tunneldirector/cluster"
)

// clearly is how much longer another director has to have been ready than this one, if both are, for this one to give way: so
// that of two which were apart never both do.
const clearly = time.Minute

// An absence is for how long no other director was there.
type absence struct {
	seen time.Time     // when another one was last alive; zero: never
	with bool          // one is alive
	gap  time.Duration // before that, and no director that it counts against has been ready since
}

// look tells, once, how long this director was away when it finds a ready one whose table counts more: others may have forgotten
// deletions meanwhile that this one does not know of.
func (a *absence) look(v cluster.View, now time.Time) (away time.Duration) {
	now = now.Round(0) // a machine that was suspended was away, too
	if !slices.ContainsFunc(v.Peers, func(p cluster.Peer) bool { return p.Alive }) {
		a.with = false
		return 0
	}
	if !a.with && !a.seen.IsZero() {
		a.gap = max(a.gap, now.Sub(a.seen))
	}
	a.with, a.seen = true, now
	ready := false
	for _, p := range v.Peers {
		if !p.Alive || !p.Beat.Ready {
			continue
		}
		ready = true
		if !v.Beat.Ready || p.Beat.ReadyFor-v.Beat.ReadyFor >= clearly {
			away = a.gap
		}
	}
	if ready {
		a.gap = 0
	}
	return away
}
