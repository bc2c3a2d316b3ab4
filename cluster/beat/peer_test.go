package beat

import (
	"math"
	"testing"
	"time"

	"tunneldirector/cluster"
)

var wall = time.Unix(1_700_000_000, 0)

// heardOf is a peer of two paths that has said these on the first.
func heardOf(beats ...cluster.Beat) *peer {
	p := &peer{paths: make([]path, 2)}
	for _, b := range beats {
		p.take(b, 0, wall, mark{}, true)
	}
	return p
}

func TestFollows(t *testing.T) {
	for _, tt := range []struct {
		name string
		dead bool
		beat cluster.Beat
		path int
		want verdict

		fresh bool
	}{
		{"the next", false, cluster.Beat{Start: 100, Seq: 6}, 0, taken, false},
		{"after a gap", false, cluster.Beat{Start: 100, Seq: 600}, 0, taken, false},
		{"the same", false, cluster.Beat{Start: 100, Seq: 5}, 0, replayed, false},
		{"the same on the other path", false, cluster.Beat{Start: 100, Seq: 5}, 1, taken, false},
		{"an old one", false, cluster.Beat{Start: 100, Seq: 4}, 0, replayed, false},
		{"an old one of a dead director", true, cluster.Beat{Start: 100, Seq: 5}, 0, replayed, false},
		{"a dead one comes back", true, cluster.Beat{Start: 100, Seq: 6}, 0, taken, false},
		{"started again", false, cluster.Beat{Start: 101, Seq: 1}, 0, taken, false},
		{"started before", false, cluster.Beat{Start: 99, Seq: 1000, Wall: wall}, 0, superseded, false},
		{"started again after its clock was set back", true, cluster.Beat{Start: 99, Seq: 1, Wall: wall.Add(-30 * time.Second)}, 0, taken, false},
		{"recorded long ago, its director dead", true, cluster.Beat{Start: 99, Seq: 1, Wall: wall.Add(-2 * time.Minute)}, 0, outdated, false},
		{"started again after its clock was set far back", true, cluster.Beat{Start: 99, Seq: 1, Wall: wall.Add(-2 * time.Minute)}, 0, taken, true},
		{"the same, and its former self is alive", false, cluster.Beat{Start: 99, Seq: 1, Wall: wall.Add(-2 * time.Minute)}, 0, superseded, true},
	} {
		p := heardOf(cluster.Beat{Start: 100, Seq: 5, Wall: wall})
		p.alive = !tt.dead
		if got := p.follows(tt.beat, tt.path, wall, tt.fresh); got != tt.want {
			t.Errorf("%s: verdict %d, want %d", tt.name, got, tt.want)
		}
	}
	never := &peer{paths: make([]path, 1)}
	if got := never.follows(cluster.Beat{Start: -1, Seq: 0}, 0, wall, false); got != taken {
		t.Errorf("the first beat of all: verdict %d", got)
	}
}

func TestLost(t *testing.T) {
	p := heardOf()
	for seq := uint64(1000); seq < 1200; seq++ {
		p.take(cluster.Beat{Start: 1, Seq: seq}, 0, wall, mark{}, true)
		if seq%4 == 0 {
			p.take(cluster.Beat{Start: 1, Seq: seq}, 1, wall, mark{}, true)
		}
	}
	if a, b := p.lost(p.paths[0]), p.lost(p.paths[1]); a != 0 || math.Abs(b-0.75) > 0.02 {
		t.Errorf("lost %v on the whole path and %v on one that loses three of four", a, b)
	}
	for range 64 {
		for i := range p.paths {
			p.take(cluster.Beat{Start: 1, Seq: p.beat.Seq + 1 - uint64(i)}, i, wall, mark{}, true)
		}
	}
	p.take(cluster.Beat{Start: 1, Seq: p.beat.Seq + 1}, 0, wall, mark{}, true)
	if a, b := p.lost(p.paths[0]), p.lost(p.paths[1]); a != 0 || b != 0 {
		t.Errorf("lost %v and %v, when the newest is a moment later on one path", a, b)
	}
	p.take(cluster.Beat{Start: 1, Seq: 5000}, 0, wall, mark{}, true)
	if a, b := p.lost(p.paths[0]), p.lost(p.paths[1]); a != 63./64 || b != 1 {
		t.Errorf("lost %v and %v after a gap", a, b)
	}
	p.take(cluster.Beat{Start: 2, Seq: 1}, 0, wall, mark{}, true)
	if a := p.lost(p.paths[0]); a != 0 {
		t.Errorf("lost %v after a restart", a)
	}
}

func TestOffsetIsTheMedianOfTheLast(t *testing.T) {
	p := heardOf()
	for i, ms := range []int{900, 900, 900, 50, 60, -3000, 55, 40} {
		p.take(cluster.Beat{Start: 1, Seq: uint64(i + 1), Wall: wall.Add(time.Duration(ms) * time.Millisecond)}, 0, wall, mark{}, true)
	}
	if got := p.offset(); got != 50*time.Millisecond {
		t.Errorf("offset %v", got)
	}
	p.take(cluster.Beat{Start: 1, Seq: 50, Wall: wall.Add(-time.Hour)}, 0, wall, mark{}, false)
	if got := p.offset(); got != 50*time.Millisecond || p.offsets[4] != 40*time.Millisecond {
		t.Errorf("what waited in the socket counts: %v", p.offsets)
	}
	p.take(cluster.Beat{Start: 2, Seq: 1, Wall: wall.Add(time.Hour)}, 0, wall, mark{}, true)
	if got := p.offset(); got != time.Hour {
		t.Errorf("offset %v after a restart, with its clock set", got)
	}
}

func TestTakeTellsNews(t *testing.T) {
	p := heardOf(cluster.Beat{Start: 1, Seq: 1, Ready: true})
	for i, tt := range []struct {
		name string
		beat cluster.Beat
		path int
		want bool
	}{
		{"the pulse", cluster.Beat{Ready: true, ReadyFor: time.Hour, Revision: 7, Root: 8, Wall: wall}, 0, false},
		{"another path", cluster.Beat{Ready: true}, 1, true},
		{"both paths", cluster.Beat{Ready: true}, 0, false},
		{"leaving", cluster.Beat{Ready: true, Leaving: true}, 0, true},
		{"sick", cluster.Beat{Ready: true, Sick: true}, 0, true},
		{"hung", cluster.Beat{Ready: true, Hung: true}, 0, true},
		{"assigns", cluster.Beat{Ready: true, Assigns: true}, 0, true},
		{"holds", cluster.Beat{Ready: true, Assigns: true, Holds: hashes(1)}, 0, true},
		{"unreached", cluster.Beat{Ready: true, Assigns: true, Holds: hashes(1), Unreached: hashes(2)}, 0, true},
		{"all that again", cluster.Beat{Ready: true, Assigns: true, Holds: hashes(1), Unreached: hashes(2)}, 1, false},
		{"another start", cluster.Beat{Start: 2, Ready: true, Assigns: true, Holds: hashes(1), Unreached: hashes(2)}, 0, true},
	} {
		tt.beat.Start, tt.beat.Seq = max(tt.beat.Start, p.beat.Start), uint64(i+2)
		if got := p.take(tt.beat, tt.path, wall, mark{}, true); got != tt.want {
			t.Errorf("%s: news %t, want %t", tt.name, got, tt.want)
		}
	}
}

func TestListening(t *testing.T) {
	const after = 600 * time.Millisecond
	ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
	turns := func(n, each int) (list []int) {
		for range n {
			list = append(list, each)
		}
		return list
	}
	for _, tt := range []struct {
		name   string
		before []int // turns, milliseconds each, after the last beat
		silent bool
	}{
		{"in time, not yet", turns(11, 50), false},
		{"in time", turns(12, 50), true},
		{"a little late, all of it counts", turns(6, 100), true},
		{"stopped for an hour", []int{50, 3_600_000}, false},
		{"stopped for an hour, and a full interval of listening", append([]int{50, 3_600_000}, 50, 50), false},
		{"nearly silent, then stopped", append(turns(11, 50), 5000), false},
		{"nearly silent, then stopped, then half an interval", append(turns(11, 50), 5000, 50), false},
		{"nearly silent, then stopped, then an interval", append(turns(11, 50), 5000, 50, 50), true},
		{"stopped again and again", append(turns(11, 50), 5000, 50, 5000, 50, 5000, 50), false},
		{"starved for good", turns(20, 300), false},
		{"starved for good, and long", turns(21, 300), true},
	} {
		start := time.Now()
		l := &listening{period: ms(50), slack: ms(100), settle: ms(100), last: start}
		since, at := l.at(start), start
		for _, d := range tt.before {
			at = at.Add(ms(d))
			l.turn(at)
		}
		if got := l.silent(since, after); got != tt.silent {
			t.Errorf("%s: silent %t, want %t", tt.name, got, tt.silent)
		}
	}
	l := &listening{period: ms(50), slack: ms(100), settle: ms(100), last: wall}
	if !l.trusted(wall.Add(ms(50))) || l.trusted(wall.Add(ms(2000))) {
		t.Error("before a turn: clocks are compared when this director listens in time")
	}
	l.turn(wall.Add(ms(2000)))
	if l.trusted(wall.Add(ms(2001))) {
		t.Error("clocks are compared right after a late turn")
	}
	l.turn(wall.Add(ms(2050)))
	l.turn(wall.Add(ms(2100)))
	if !l.trusted(wall.Add(ms(2101))) {
		t.Error("clocks are not compared after an interval of listening")
	}
}
