package lab

import "time"

// An Echo is one echo request and what became of it.
type Echo struct {
	Sent     time.Time
	Received time.Time // zero: lost
}

// Lost tells whether no answer came.
func (e Echo) Lost() bool { return e.Received.IsZero() }

// RTT is the round-trip time, 0 if lost.
func (e Echo) RTT() time.Duration {
	if e.Lost() {
		return 0
	}
	return e.Received.Sub(e.Sent)
}

// CountLost is how many of the requests nobody answered.
func CountLost(echoes []Echo) int {
	n := 0
	for _, e := range echoes {
		if e.Lost() {
			n++
		}
	}
	return n
}

// Restored is how long after an event the first answer came to a request sent after it; false: none came.
func Restored(echoes []Echo, event time.Time) (time.Duration, bool) {
	var first time.Time
	for _, e := range echoes {
		if e.Sent.Before(event) || e.Lost() {
			continue
		}
		if first.IsZero() || e.Received.Before(first) {
			first = e.Received
		}
	}
	return first.Sub(event), !first.IsZero()
}

// Outage is the longest time in which all that was sent was lost: from the first such request to the last, and until the next one
// was due. Where nobody sent, because the sender had no time to run, nothing was cut off.
func Outage(echoes []Echo, interval time.Duration) time.Duration {
	var first time.Time
	var longest time.Duration
	for _, e := range echoes {
		if !e.Lost() {
			first = time.Time{}
			continue
		}
		if first.IsZero() {
			first = e.Sent
		}
		longest = max(longest, e.Sent.Sub(first)+interval)
	}
	return longest
}

// LongestGap is the longest time between two answers that followed each other, in the order of the requests.
func LongestGap(echoes []Echo) time.Duration {
	var last time.Time
	var longest time.Duration
	for _, e := range echoes {
		if e.Lost() {
			continue
		}
		if !last.IsZero() {
			longest = max(longest, e.Received.Sub(last))
		}
		last = e.Received
	}
	return longest
}
