package affinity

import "time"

// A Clock makes stamps that never go back, whatever the wall clock does. It is owned by one goroutine.
type Clock struct {
	last Stamp
	// Logical: the wall clock is not to be believed; stamps only count on.
	Logical bool
}

// MaxAhead is how far another's stamp may be ahead of the wall clock to be followed. What is further is taken for a clock gone wild.
const MaxAhead = time.Minute

// Next is a stamp above all given out and all observed, and above over, and at wall time now if that is not behind them. A
// record that is replaced gives its own stamp as over, so that the new version wins even if the old one's clock was wild;
// such a stamp is not gone on from.
func (c *Clock) Next(now time.Time, over Stamp) Stamp {
	next := c.last + 1
	if wall := NewStamp(now, 0); !c.Logical && wall > next {
		next = wall
	}
	c.last = next
	return max(next, over+1)
}

// Observe makes later stamps higher than s.
func (c *Clock) Observe(s Stamp) { c.last = max(c.last, s) }

// Follow observes another's stamp, unless its wall part is too far ahead of now and of what is known.
func (c *Clock) Follow(s Stamp, now time.Time) {
	if limit := NewStamp(now.Add(MaxAhead), 0); s <= limit || s <= c.last {
		c.Observe(s)
	}
}

// Ahead is by how much the highest stamp is ahead of now: the wall clock was set back, or a peer's is fast.
func (c *Clock) Ahead(now time.Time) time.Duration { return max(0, c.last.Time().Sub(now)) }

// Last is the highest stamp given out or observed.
func (c *Clock) Last() Stamp { return c.last }
