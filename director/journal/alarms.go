package journal

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

const (
	// alarmsEvery is how often the alarms are looked at.
	alarmsEvery = 5 * time.Second
	// alarmRest is how long an alarm is away before it has ended: one that comes and goes is one.
	alarmRest = 15 * time.Second
)

// An alarm is a sentence, and since when it stands.
type alarm struct {
	says        string
	since, seen time.Time
}

// WatchAlarms notes what is raised and what ends, until ctx ends. What read cannot tell now is asked for again.
func (j *Journal) WatchAlarms(ctx context.Context, read func(context.Context) ([]string, error)) error {
	tick := time.NewTicker(alarmsEvery)
	defer tick.Stop()
	open := map[string]*alarm{}
	for {
		if list, err := read(ctx); err == nil {
			j.compareAlarms(open, list)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (j *Journal) compareAlarms(open map[string]*alarm, list []string) {
	now := j.o.Now()
	for _, says := range list {
		key := sameAlarm(says)
		a, ok := open[key]
		if !ok {
			a = &alarm{since: now}
			open[key] = a
			j.Note("alarm", j.o.Director, "raised: "+says)
		}
		a.says, a.seen = says, now
	}
	for _, key := range slices.Sorted(maps.Keys(open)) {
		if a := open[key]; now.Sub(a.seen) >= alarmRest {
			delete(open, key)
			j.Note("alarm", j.o.Director, fmt.Sprintf("ended after %v: %s", a.seen.Sub(a.since).Round(time.Second), a.says))
		}
	}
}

// amount is what may change in an alarm that goes on: numbers, durations and times, but not addresses.
var amount = regexp.MustCompile(`^(\d[\d,]*(\.\d+)?[a-zA-Zµ%]*)+$|^\d{4}-\d\d-\d\dT[\d:.]+(Z|[+-]\d\d:\d\d)$`)

// sameAlarm is what an alarm's sentences have in common while it goes on.
func sameAlarm(says string) string {
	words := strings.Fields(says)
	for i, w := range words {
		if amount.MatchString(strings.Trim(w, "(),;:")) {
			words[i] = "#"
		}
	}
	return strings.Join(words, " ")
}
