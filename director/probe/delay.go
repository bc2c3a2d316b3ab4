package probe

import (
	"slices"
	"time"
)

const (
	delayRounds = 15              // whose median counts
	idleMinutes = 10              // whose lowest round-trip time is the idle one
	slowAfter   = 2 * time.Second // over the limit
	fastAfter   = 5 * time.Second // under it
	delayStale  = 3 * time.Second // without an answer of its kind, another kind is measured
	leastDelay  = 20 * time.Millisecond
	timesIdle   = 8
)

// A delay tells by round-trip times whether a real server is slow: saturated, it may lose nothing yet. Round-trip times of
// one kind of question are compared, as an agent takes longer to answer than a kernel.
//
//	            median of delayRounds over max(timesIdle x idle, idle + leastDelay), for slowAfter
//	not slow ───────────────────────────────────────────────────────────────────────────────────▶ slow
//	         ◀─────────────────────────────────────────────────────────────────────────────────── under it, for fastAfter
//
// A way that is longer from now on is the new idle one after idleMinutes.
type delay struct {
	kind   kind
	at     time.Time // last answer; zero: none
	recent [delayRounds]time.Duration
	n      int
	lows   [idleMinutes]time.Duration // of each minute; 0: no answer. The first is the current one
	minute time.Time                  // it began
	slow   bool
	other  time.Time // the median is on the other side since; zero: it is not
}

// add takes a round-trip time.
func (d *delay) add(k kind, rtt time.Duration, now time.Time) {
	switch {
	case d.at.IsZero() || k != d.kind && now.Sub(d.at) >= delayStale:
		*d = delay{kind: k, minute: now}
	case k != d.kind:
		return
	}
	d.at = now
	d.recent[d.n%delayRounds] = rtt
	d.n++
	for ; now.Sub(d.minute) >= time.Minute; d.minute = d.minute.Add(time.Minute) {
		copy(d.lows[1:], d.lows[:])
		d.lows[0] = 0
	}
	if d.lows[0] == 0 || rtt < d.lows[0] {
		d.lows[0] = rtt
	}
	if d.n < delayRounds {
		return
	}
	d.judge(now)
}

func (d *delay) judge(now time.Time) {
	sorted := d.recent
	slices.Sort(sorted[:])
	idle := d.idle()
	switch wait := map[bool]time.Duration{false: slowAfter, true: fastAfter}[d.slow]; {
	case (sorted[delayRounds/2] > max(timesIdle*idle, idle+leastDelay)) == d.slow:
		d.other = time.Time{}
	case d.other.IsZero():
		d.other = now
	case now.Sub(d.other) >= wait:
		d.slow, d.other = !d.slow, time.Time{}
	}
}

// idle is the lowest of the last idleMinutes.
func (d *delay) idle() (lowest time.Duration) {
	for _, l := range d.lows {
		if l > 0 && (lowest == 0 || l < lowest) {
			lowest = l
		}
	}
	return lowest
}

// time measures a round: by the agent if it answered, else by what answered last.
func (t *target) time(r result, now time.Time) {
	slowest := time.Duration(0) // of the agent's answers, at all VIPs
	for _, q := range t.questions {
		if q.word != nil {
			slowest = max(slowest, q.word.rtt)
		}
	}
	switch {
	case slowest > 0:
		t.delay.add(askAgent, slowest, now)
	case r.outcome == answered && r.rtt > 0:
		t.delay.add(r.question.kind, r.rtt, now)
	}
}
