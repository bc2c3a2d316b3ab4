package beat

import (
	"math/bits"
	"net/netip"
	"slices"
	"time"

	"tunneldirector/cluster"
)

// samples of a clock's offset of which the median is taken.
const samples = 5

// window is how many beats the share of lost ones is counted over.
const window = 64

// A peer is another director, as the one goroutine that owns it knows it.
type peer struct {
	member  cluster.Member
	gone    time.Time // since when gossip does not name it; zero: it does
	beat    cluster.Beat
	first   uint64 // Seq of the first beat that was heard of this Start
	newest  int64  // the highest Start that was heard
	alive   bool
	since   time.Time
	heard   time.Time
	offsets []time.Duration
	paths   []path
}

// A path is one on which a peer's beats come; there is one for each socket of ours.
type path struct {
	addr  netip.AddrPort // invalid: the peer has none on it
	up    bool           // heard lately enough
	heard time.Time
	mark  mark
	seq   uint64 // the newest beat's
	seen  uint64 // bit i: the beat seq-i came
}

// A verdict is what becomes of a beat.
type verdict int

const (
	taken      verdict = iota
	replayed           // heard before on this path
	superseded         // of a process that was started before the one that is alive
	outdated           // of such a process, the later one being dead, by a clock that says it was long ago
)

// follows tells what is to become of a beat on a path, at a time by our wall clock; fresh: it proves that it was sent just now.
func (p *peer) follows(b cluster.Beat, path int, wall time.Time, fresh bool) verdict {
	switch {
	case b.Start > p.newest || p.heard.IsZero():
		return taken
	case b.Start == p.beat.Start && b.Seq > p.paths[path].seq:
		return taken
	case b.Start == p.beat.Start:
		return replayed
	case p.alive:
		return superseded
	case fresh:
		return taken
	case b.Wall.Sub(wall).Abs() > cluster.MaxOffset:
		return outdated
	}
	return taken // its clock was set back before it was started again
}

// take takes a beat over that follows, and tells whether it says anything new.
func (p *peer) take(b cluster.Beat, path int, wall time.Time, at mark, trusted bool) (news bool) {
	if b.Start != p.beat.Start {
		p.first, p.offsets, p.newest = b.Seq, nil, max(p.newest, b.Start)
		for i := range p.paths {
			p.paths[i].seq, p.paths[i].seen = 0, 0
		}
		news = true
	}
	w := &p.paths[path]
	if ahead := b.Seq - w.seq; ahead < window {
		w.seen = w.seen<<ahead | 1
	} else {
		w.seen = 1
	}
	news = news || !w.up
	w.seq, w.heard, w.mark, w.up = b.Seq, wall, at, true
	p.heard = wall
	if !p.alive { // nor was the path up
		p.alive, p.since = true, wall
	}
	if b.Start == p.beat.Start && b.Seq <= p.beat.Seq {
		return news // it came on another path before
	}
	if trusted {
		p.offsets = append(p.offsets, b.Wall.Sub(wall))
		p.offsets = p.offsets[max(0, len(p.offsets)-samples):]
	}
	news = news || differs(p.beat, b)
	p.beat = b
	return news
}

// differs tells whether a beat says something else than another one, the pulse itself and the table's progress not counted.
func differs(a, b cluster.Beat) bool {
	return a.Start != b.Start || a.Ready != b.Ready || a.Leaving != b.Leaving || a.Hung != b.Hung || a.Sick != b.Sick ||
		a.Assigns != b.Assigns || a.Probes != b.Probes || a.Many != b.Many || a.Full != b.Full || a.Assigner != b.Assigner ||
		!slices.Equal(a.Unreached, b.Unreached) || !slices.Equal(a.Holds, b.Holds)
}

// silent tells whether a path that was up has nothing to say any more.
func (p *peer) silent(l *listening, after time.Duration) bool {
	return slices.ContainsFunc(p.paths, func(w path) bool { return w.up && l.silent(w.mark, after) })
}

// judge takes down what is silent, and tells whether anything is.
func (p *peer) judge(l *listening, after time.Duration, wall time.Time) (news bool) {
	alive := false
	for i := range p.paths {
		w := &p.paths[i]
		if w.up && l.silent(w.mark, after) {
			w.up, news = false, true
		}
		alive = alive || w.up
	}
	if p.alive && !alive {
		p.alive, p.since = false, wall
	}
	return news
}

// lost is the share of the last beats that did not come on a path.
func (p *peer) lost(w path) float64 {
	if !w.up {
		return 1
	}
	behind := p.beat.Seq - w.seq
	if behind > 0 {
		behind-- // the newest came on another path a moment ago
	}
	n := min(p.beat.Seq-p.first+1, window)
	came := bits.OnesCount64(w.seen << behind & (1<<n - 1))
	return 1 - float64(min(uint64(came), n))/float64(n)
}

// offset is how far its clock is ahead of ours: the median of the last samples.
func (p *peer) offset() time.Duration {
	if len(p.offsets) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(p.offsets))
	return sorted[len(sorted)/2]
}

// snapshot is the peer as others see it.
func (p *peer) snapshot() cluster.Peer {
	out := cluster.Peer{Member: p.member, Beat: p.beat, Alive: p.alive, Since: p.since, Heard: p.heard, Offset: p.offset()}
	for _, w := range p.paths {
		if w.addr.IsValid() || !w.heard.IsZero() {
			out.Paths = append(out.Paths, cluster.Path{Addr: w.addr, Heard: w.heard, Lost: p.lost(w)})
		}
	}
	return out
}

// route takes over where a member takes heartbeats, over n sockets of ours.
func (p *peer) route(m cluster.Member, n int) {
	p.member = m
	if p.paths == nil {
		p.paths = make([]path, n)
	}
	for i := range p.paths {
		p.paths[i].addr = netip.AddrPort{}
		if i < len(m.Beats) {
			p.paths[i].addr = m.Beats[i]
		}
	}
}
