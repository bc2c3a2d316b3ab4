package affinity

import "time"

// A Clock makes stamps that never go back, whatever the wall clock does. It is owned by one goroutine.
type Clock struct{ last Stamp }

// Next is a stamp above all given out and all observed, and at wall time now if that is not behind them.
func (c *Clock) Next(now time.Time) Stamp {
	c.last = max(c.last+1, NewStamp(now, 0))
	return c.last
}

// Observe makes later stamps higher than s.
func (c *Clock) Observe(s Stamp) { c.last = max(c.last, s) }

// Ahead is by how much the highest stamp is ahead of now: the wall clock was set back, or a peer's is fast.
func (c *Clock) Ahead(now time.Time) time.Duration { return max(0, c.last.Time().Sub(now)) }

// Last is the highest stamp given out or observed.
func (c *Clock) Last() Stamp { return c.last }
