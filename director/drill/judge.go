package drill

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// judge works out what the packets, states and events say, and whether that is what was expected.
func (r *run) judge(res *Result, packets [][]Packet, after State, events []Event) {
	first := r.began
	if len(r.faults) > 0 {
		first = r.faults[0].At
	}
	var all [][]silence
	for i, t := range r.plan.Sample {
		list := silences(packets[i], r.d.Sample.Every)
		all = append(all, list)
		res.Tunnels = append(res.Tunnels, outcome(t.ID, packets[i], list))
	}
	for _, o := range res.Tunnels {
		res.Sent, res.Lost = res.Sent+o.Sent, res.Lost+o.Lost
	}
	res.Outage = spread(res.Tunnels)
	stayed := r.moves(res, after)
	res.Phases = phases(first, r.d.Sample.Every, all, events)
	res.TimeLine = timeLine(first, r.marks, events)
	res.Failures = append(res.Failures, r.failures...)
	res.Failures = append(res.Failures, outageFailures(res)...)
	res.Failures = append(res.Failures, movedFailures(res, stayed, events, r.plan.Sample)...)
	res.Passed = res.Aborted == "" && len(res.Failures) == 0
}

// A silence is a time in which answers were due and none came.
type silence struct {
	from  time.Time // when the first was due
	long  time.Duration
	ended bool // false: it was so at the end
}

func (s silence) to() time.Time { return s.from.Add(s.long) }

// silences are all, in the order of time: what is longer between two answers than between two packets that are sent. Answers count as they came,
// so packets that were held up and then came all at once are an outage, though none was lost.
func silences(packets []Packet, every time.Duration) []silence {
	if len(packets) == 0 {
		return nil
	}
	var answers []time.Time
	for _, p := range packets {
		if !p.Received.IsZero() {
			answers = append(answers, p.Received)
		}
	}
	slices.SortFunc(answers, time.Time.Compare)
	var list []silence
	last := packets[0].Sent
	add := func(to time.Time, ended bool) {
		if long := (to.Sub(last) - every).Round(time.Millisecond); long > 0 {
			list = append(list, silence{last.Add(every), long, ended})
		}
		last = to
	}
	for _, at := range answers {
		add(at, true)
	}
	add(packets[len(packets)-1].Sent, false)
	return list
}

// outcome is what became of a tunnel.
func outcome(name string, packets []Packet, list []silence) Outcome {
	o := Outcome{Name: name, Sent: len(packets), Lost: count(packets, func(p Packet) bool { return p.Received.IsZero() })}
	for _, s := range list {
		if s.long > o.Outage {
			o.Outage, o.At = s.long, s.from
		}
	}
	return o
}

// spread is how outages are spread over tunnels: the shortest that as many are as long as at most.
func spread(list []Outcome) Outage {
	sorted := slices.SortedFunc(slices.Values(list), func(a, b Outcome) int { return cmp.Compare(a.Outage, b.Outage) })
	at := func(share float64) time.Duration {
		if len(sorted) == 0 {
			return 0
		}
		return sorted[max(0, int(math.Ceil(share*float64(len(sorted))))-1)].Outage
	}
	return Outage{Median: at(0.5), P99: at(0.99), Worst: at(1)}
}

// outageFailures are the expectations of packets that do not hold.
func outageFailures(res *Result) []Failure {
	var list []Failure
	if len(res.Tunnels) == 0 {
		return nil
	}
	e := res.Drill.Expect
	worst := slices.MaxFunc(res.Tunnels, func(a, b Outcome) int { return cmp.Compare(a.Outage, b.Outage) })
	for _, b := range []struct {
		what      string
		is, bound time.Duration
	}{{"median", res.Outage.Median, e.Outage.Median}, {"99th percentile", res.Outage.P99, e.Outage.P99}, {"worst", res.Outage.Worst, e.Outage.Worst}} {
		if b.bound > 0 && b.is > b.bound {
			what := fmt.Sprintf("outage, %s: %s, and %s at most was expected; tunnel %s was out for %s", b.what, b.is, b.bound, worst.Name, worst.Outage)
			list = append(list, Failure{What: what, Tunnel: worst.Name, At: &worst.At})
		}
	}
	if lost := percent(res.Lost, res.Sent); e.Lost != nil && lost > *e.Lost {
		most := slices.MaxFunc(res.Tunnels, func(a, b Outcome) int { return cmp.Compare(a.Lost, b.Lost) })
		f := Failure{What: fmt.Sprintf("lost %.2f %% of packets (%d of %d), and %g %% at most was expected; tunnel %s lost %d of %d",
			lost, res.Lost, res.Sent, *e.Lost, most.Name, most.Lost, most.Sent), Tunnel: most.Name}
		if !most.At.IsZero() {
			f.At = &most.At
		}
		list = append(list, f)
	}
	return list
}

// some is a number of things.
func some(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// names are some of a list in words.
func names(list []string) string {
	const some = 5
	if more := len(list) - some; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(list[:some], ", "), more)
	}
	return strings.Join(list, ", ")
}
