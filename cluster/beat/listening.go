package beat

import "time"

// maxLate is after how many late turns in a row of silence a peer is judged all the same: a machine that is starved for good
// would otherwise never see a death.
const maxLate = 20

// A listening counts the time during which this director could have heard its peers. It stands still while the process or
// the machine did not run: a turn that comes late counts as if it had come in time, and opens a full interval in which nothing
// is judged, so that peers can be heard first.
type listening struct {
	period  time.Duration // of turns
	slack   time.Duration // a turn after more than that is late
	settle  time.Duration // to listen for after a late turn
	last    time.Time     // turn
	total   time.Duration
	settled time.Duration // the total from which on silence is judged again
	late    int           // late turns so far
}

// turn counts what has passed since the last one, and tells whether it is late.
func (l *listening) turn(now time.Time) bool {
	passed := now.Sub(l.last)
	l.last = now
	if passed <= l.slack {
		l.total += passed
		return false
	}
	l.total += l.period
	l.settled = l.total + l.settle
	l.late++
	return true
}

// A mark is a moment of listening.
type mark struct {
	total time.Duration
	late  int
}

// at is the moment now.
func (l *listening) at(now time.Time) mark {
	return mark{l.total + max(0, min(now.Sub(l.last), l.period)), l.late}
}

// trusted tells whether offsets of clocks can be measured: what comes right after a late turn has waited in the socket.
func (l *listening) trusted(now time.Time) bool {
	return l.total >= l.settled && now.Sub(l.last) <= l.slack
}

// silent tells whether nothing came since a moment for as long as it takes.
func (l *listening) silent(since mark, after time.Duration) bool {
	return l.total-since.total >= after && (l.total >= l.settled || l.late-since.late > maxLate)
}
