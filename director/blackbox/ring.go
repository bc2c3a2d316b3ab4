package blackbox

import (
	"bytes"
	"cmp"
	"maps"
	"math"
	"slices"
	"time"

	"tunneldirector/director/api"
	"tunneldirector/director/plane"
)

// keptOfReason is how many samples of one reason are in memory.
const keptOfReason = 256

// A ring is the last samples of each reason.
type ring map[plane.Reason]*lastOnes

// lastOnes are samples in a circle.
type lastOnes struct {
	list []plane.Sample
	next int // that is written over, once there are as many as may be
}

func (r ring) add(s plane.Sample) {
	l := r[s.Reason]
	if l == nil {
		l = &lastOnes{}
		r[s.Reason] = l
	}
	if len(l.list) < keptOfReason {
		l.list = append(l.list, s)
		return
	}
	l.list[l.next] = s
	l.next = (l.next + 1) % keptOfReason
}

// all are the samples by time; those of one time and reason as they came.
func (r ring) all() []plane.Sample {
	var list []plane.Sample
	for _, reason := range slices.Sorted(maps.Keys(r)) {
		l := r[reason]
		list = append(append(list, l.list[l.next:]...), l.list[:l.next]...)
	}
	slices.SortStableFunc(list, byTime)
	return list
}

func byTime(a, b plane.Sample) int { return a.At.Compare(b.At) }

// kept tells what there is, by the reasons' words.
func (r ring) kept() []api.KeptDrops {
	list := []api.KeptDrops{}
	for reason, l := range r {
		var last time.Time
		for i := range l.list {
			if l.list[i].At.After(last) {
				last = l.list[i].At
			}
		}
		list = append(list, api.KeptDrops{Reason: reason.String(), Samples: len(l.list), Last: last})
	}
	slices.SortFunc(list, func(a, b api.KeptDrops) int { return cmp.Compare(a.Reason, b.Reason) })
	return list
}

// bounded is a sample that a file can hold, whatever a plane says.
func bounded(s plane.Sample) plane.Sample {
	if len(s.Head) > plane.SampleBytes {
		s.Head = bytes.Clone(s.Head[:plane.SampleBytes])
	}
	s.Length = min(max(s.Length, len(s.Head)), math.MaxInt32)
	if s.At.Before(time.Unix(0, 0)) {
		s.At = time.Now()
	}
	return s
}
