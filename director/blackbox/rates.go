package blackbox

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/dustin/go-humanize"

	"tunneldirector/director/plane"
)

const (
	// jumpRate is the least rate of drops, in packets/s, that is a jump.
	jumpRate = 50
	// jumpTimes is how many times the average it is.
	jumpTimes = 10
	// averageOver is the time that the average is of.
	averageOver = time.Minute
	// learns is the time after the start in which nothing is a jump.
	learns = 10 * time.Second
)

// rates are those of drops, by reason, learnt from counters.
type rates struct {
	began, at time.Time
	last      map[plane.Reason]uint64 // at that time; nil: none was seen
	mean      map[plane.Reason]float64
}

// A jump is a rate of drops, in packets/s, that is many times its own average.
type jump struct {
	reason   plane.Reason
	from, to float64
}

func (j jump) String() string {
	return fmt.Sprintf("drops of %s jumped from %s to %s packets/s", j.reason, whole(j.from), whole(j.to))
}

func whole(x float64) string { return humanize.Comma(int64(math.Round(x))) }

// see takes the counters of now, and gives the reasons of which drops have jumped, by number.
func (x *rates) see(now time.Time, total map[plane.Reason]uint64) (jumps []jump) {
	last, since := x.last, now.Sub(x.at)
	if last != nil && since <= 0 {
		return nil
	}
	x.last, x.at = maps.Clone(total), now
	if x.last == nil {
		x.last = map[plane.Reason]uint64{}
	}
	if last == nil {
		x.began, x.mean = now, map[plane.Reason]float64{}
		return nil
	}
	for reason, n := range last {
		if total[reason] < n {
			return nil // the counters were made anew
		}
	}
	age := now.Sub(x.began)
	for _, reason := range slices.Sorted(maps.Keys(total)) {
		rate := float64(total[reason]-last[reason]) / since.Seconds()
		mean := x.mean[reason]
		if reason.Drops() && age >= learns && rate >= jumpRate && rate >= jumpTimes*mean {
			jumps = append(jumps, jump{reason, mean, rate})
		}
		x.mean[reason] = mean + (rate-mean)*min(1, since.Seconds()/min(age, averageOver).Seconds())
	}
	return jumps
}
