package journal

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"tunneldirector/director/api"
)

// A rate is how many events of a kind are kept one by one.
type rate struct {
	burst  float64
	second float64
}

// What a push makes is many; all else is worth its place up to the death of a large real server.
var (
	pushes = rate{burst: 100, second: 10}
	others = rate{burst: 10_000, second: 20}
)

const (
	maxSums  = 500 // of one second: then by kind alone
	maxKinds = 100 // more are one
)

// A sieve lets events pass up to their kind's rate, and adds up the others.
type sieve struct {
	kinds map[string]*bucket
	sums  map[sumKey]*sum
	began time.Time // of the sums; zero: there are none
}

type bucket struct {
	rate   rate
	bulk   bool
	tokens float64
	at     time.Time
}

// A sum stands for events, the last of which was of last at until.
type sum struct {
	api.Recorded
	last  string
	until time.Time
}

// A sumKey is what events have in common that are added up.
type sumKey struct{ kind, by, from, to, why string }

func newSieve() sieve {
	return sieve{kinds: map[string]*bucket{}, sums: map[sumKey]*sum{}}
}

// passes tells whether an event is kept by itself. If not, it was added up.
func (s *sieve) passes(e *api.Event, now time.Time) bool {
	b := s.bucket(e.Kind, now)
	if b.tokens < b.rate.burst {
		if passed := now.Sub(b.at).Seconds(); passed > 0 {
			b.tokens = min(b.rate.burst, b.tokens+passed*b.rate.second)
		}
	}
	b.at = now
	if b.tokens >= 1 {
		b.tokens--
		return true
	}
	b.tokens = 0 // as long as more come than the rate: no single ones in between
	s.add(e, b.bulk, now)
	return false
}

func (s *sieve) bucket(kind string, now time.Time) *bucket {
	b, ok := s.kinds[kind]
	switch {
	case ok:
		return b
	case len(s.kinds) >= maxKinds && kind != "":
		return s.bucket("", now)
	}
	b = &bucket{rate: others, at: now}
	switch kind {
	case "tunnel-put", "tunnel-deleted", "placed":
		b.rate, b.bulk = pushes, true
	}
	b.tokens = b.rate.burst
	s.kinds[kind] = b
	return b
}

func (s *sieve) add(e *api.Event, bulk bool, now time.Time) {
	key := sumKey{kind: e.Kind, by: e.By}
	if !bulk {
		key.from, key.to, key.why = e.From, e.To, cause(e.Why)
	}
	x, ok := s.sums[key]
	if !ok && len(s.sums) >= maxSums {
		key = sumKey{kind: e.Kind}
		x, ok = s.sums[key]
	}
	if !ok {
		x = &sum{Recorded: api.Recorded{Time: e.Time, Kind: key.kind, By: key.by, From: key.from, To: key.to, Why: key.why, First: clip(e.Object, maxName)}}
		s.sums[key] = x
		if s.began.IsZero() {
			s.began = now
		}
	}
	x.Count, x.last, x.until = x.Count+1, e.Object, e.Time
}

// take ends the sums, the earliest first.
func (s *sieve) take() []api.Recorded {
	out := make([]api.Recorded, 0, len(s.sums))
	for _, x := range s.sums {
		x.Last, x.Until = clip(x.last, maxName), &x.until
		out = append(out, x.Recorded)
	}
	slices.SortFunc(out, func(a, b api.Recorded) int {
		return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.By, b.By), cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To), cmp.Compare(a.Why, b.Why))
	})
	clear(s.sums)
	s.began = time.Time{}
	return out
}

// cause is what a reason begins with: the details that follow differ from event to event.
func cause(why string) string {
	word, _, _ := strings.Cut(why, ":")
	return clip(word, maxName)
}

const (
	maxName = 300  // bytes of a name
	maxWhy  = 1000 // bytes of a reason
)

// clip shortens what is too long to be kept.
func clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}
