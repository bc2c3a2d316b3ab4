package replica

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"tunneldirector/affinity"
)

// A PeerStatus is how replication with another director goes.
type PeerStatus struct {
	Name     string
	Dialled  Way // the connection that carries ours to it
	Accepted Way // the connection that carries its to us
	Problem  string
	// Synced: it has all of ours but for what Lag counts. Otherwise a round is to come, or in progress.
	Synced  bool
	Lag     int           // records of ours that it has not acknowledged
	LagFor  time.Duration // how long the oldest of them has waited
	Dropped bool          // too many waited; they are found by a round
	// Have of about Of records of it are here while Syncing.
	Syncing  bool
	Have, Of int
	Equal    bool      // the digests are
	Since    time.Time // of Equal; zero: not known
	Rounds   int       // that this director has begun
	Protocol uint8     // 0: never connected
	Record   uint8     // the format that it writes
	Store    string
	Boot     uint64
	Refusals []Refusal // of its records, here, the last ones
	Refused  int       // how many in all
	// Bytes by kind of message, since this director started.
	Sent, Received map[string]int64
}

// A Way is one of the two connections of a pair.
type Way struct {
	Connected bool
	Since     time.Time
	Err       string // why the last one ended or was not made; "" while Connected
	ErrAt     time.Time
}

// A Refusal is a record that was not taken over.
type Refusal struct {
	Kind affinity.Kind
	Key  string
	Why  string
}

const maxRefusals = 16 // kept for Status

// Status is how replication with each peer goes, by name.
func (r *Replica) Status() []PeerStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	now, wall := time.Now(), r.o.Now()
	at := func(t time.Time) time.Time { // the wall clock may have been set meanwhile
		if t.IsZero() {
			return t
		}
		return wall.Add(t.Sub(now))
	}
	_, records := r.o.Local.Digest().Root()
	out := make([]PeerStatus, 0, len(r.peers))
	for _, name := range sortedNames(r.peers) {
		p := r.peers[name]
		s := PeerStatus{
			Name: name, Dialled: p.dialled.status(at), Accepted: p.accepted.status(at), Problem: r.problem(p),
			Synced: p.synced, Dropped: p.dropped, Syncing: p.turns > 0, Have: records, Of: int(p.hello.Records), Equal: !p.equal.IsZero(),
			Rounds: p.rounds, Record: p.hello.Record, Store: p.hello.Store, Boot: p.hello.Boot,
			Refusals: slices.Clone(p.refusals), Refused: p.nRefused, Sent: map[string]int64{}, Received: map[string]int64{},
		}
		s.Since = at(p.equal)
		if !s.Equal {
			s.Since = at(p.differs)
		}
		if p.hello.Max > 0 {
			s.Protocol = min(maxProtocol, p.hello.Max)
		}
		s.Lag, s.LagFor = p.lag(now)
		for k := range kinds {
			if n := p.count.sent[k].Load(); n > 0 {
				s.Sent[k.String()] = n
			}
			if n := p.count.received[k].Load(); n > 0 {
				s.Received[k.String()] = n
			}
		}
		out = append(out, s)
	}
	return out
}

func (w *way) status(at func(time.Time) time.Time) Way {
	if w.link != nil {
		return Way{Connected: true, Since: at(w.up)}
	}
	out := Way{ErrAt: at(w.errAt)}
	if w.err != nil {
		out.Err = w.err.Error()
	}
	return out
}

// Problems are what an operator should know of replication, in sentences.
func (r *Replica) Problems() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.old {
		return []string{errOldCopy.Error()}
	}
	var out []string
	for _, name := range sortedNames(r.peers) {
		p := r.peers[name]
		if why := r.problem(p); why != "" {
			out = append(out, fmt.Sprintf("director %s: %s", name, why))
		}
		for _, w := range []*way{&p.dialled, &p.accepted} {
			if p.alive && w.link == nil && w.err != nil {
				out = append(out, fmt.Sprintf("director %s is alive, but not connected: %v", name, w.err))
			}
		}
	}
	return out
}

// problem says in a sentence what an operator should know. The mutex is held.
func (r *Replica) problem(p *peer) string {
	now := time.Now()
	maps.DeleteFunc(p.refused, func(_ spot, until time.Time) bool { return now.After(until) })
	switch {
	case r.old:
		return errOldCopy.Error()
	case p.stalled != nil:
		return fmt.Sprintf("its records cannot be taken over now: %v", p.stalled)
	case len(p.refused) > 0 && len(p.refusals) > 0:
		last := p.refusals[len(p.refusals)-1]
		return fmt.Sprintf("%d of its records were refused, the last one %v %q: %s", len(p.refused), last.Kind, last.Key, last.Why)
	}
	return ""
}

// lag is how many of our records the peer has not acknowledged, and how long the oldest has waited. The mutex is held.
func (p *peer) lag(now time.Time) (records int, oldest time.Duration) {
	records = p.queued
	if len(p.queue) > 0 {
		oldest = now.Sub(p.queue[0].at)
	}
	if l := p.dialled.link; l != nil {
		for _, s := range l.pending {
			if s.own {
				records += s.records
				oldest = max(oldest, now.Sub(s.at))
			}
		}
	}
	return records, oldest
}
