package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"tunneldirector/cmd/console"
)

// topSources is how many sources of packets are named.
const topSources = 10

// recordingSums sum up the packets of a recording.
type recordingSums struct {
	n, shown    int // packets, and those of them that are of the reason that is asked for
	first, last time.Time
	reasons     map[string]int            // of all packets; "": forwarded, or it is not said
	sources     map[string]map[string]int // of those that are shown, by reason
}

func newRecordingSums() recordingSums {
	return recordingSums{reasons: map[string]int{}, sources: map[string]map[string]int{}}
}

// count takes in a packet, and tells whether it is of a reason ("": of any).
func (s *recordingSums) count(p *recordedPacket, reason string) bool {
	s.n++
	s.reasons[p.Reason]++
	if s.first.IsZero() || p.At.Before(s.first) {
		s.first = p.At
	}
	if p.At.After(s.last) {
		s.last = p.At
	}
	if reason != "" && p.Reason != reason {
		return false
	}
	s.shown++
	if s.sources[p.From] == nil {
		s.sources[p.From] = map[string]int{}
	}
	s.sources[p.From][p.Reason]++
	return true
}

// span is how many packets there are, and from when.
func (s *recordingSums) span() string {
	switch {
	case s.n == 0:
		return "none"
	case s.n == 1:
		return "1, of " + utc(s.first)
	}
	return fmt.Sprintf("%s, from %s to %s", console.Number(s.n), utc(s.first), utc(s.last))
}

// words are how many packets there are of each reason.
func (s *recordingSums) words() string { return reasonCounts(s.reasons) }

func reasonCounts(counts map[string]int) string {
	var parts []string
	for _, reason := range byCount(counts, func(n int) int { return n }) {
		parts = append(parts, reasonWord(reason)+" "+console.Number(counts[reason]))
	}
	return strings.Join(parts, ", ")
}

func reasonWord(reason string) string { return orWord(reason, "not dropped") }

// byCount are keys, those of the largest counts first.
func byCount[T any](m map[string]T, count func(T) int) []string {
	return slices.SortedFunc(maps.Keys(m), func(a, b string) int {
		return cmp.Or(cmp.Compare(count(m[b]), count(m[a])), cmp.Compare(a, b))
	})
}

// tables print the sums.
func (s *recordingSums) tables(p *console.Page) {
	if s.shown == 0 {
		return
	}
	var rows [][]string
	for _, reason := range byCount(s.reasons, func(n int) int { return n }) {
		rows = append(rows, []string{harmless(reasonWord(reason)), console.Number(s.reasons[reason]), meansOf(reason)})
	}
	p.Line("")
	p.Table([]console.Column{{Name: "reason"}, {Name: "packets", Right: true}, {Name: "means"}}, rows)
	total := func(reasons map[string]int) (n int) {
		for _, x := range reasons {
			n += x
		}
		return n
	}
	rows = nil
	for _, from := range byCount(s.sources, total) {
		if len(rows) == topSources {
			break
		}
		rows = append(rows, []string{from, console.Number(total(s.sources[from])), harmless(reasonCounts(s.sources[from]))})
	}
	p.Line("")
	p.Table([]console.Column{{Name: "source"}, {Name: "packets", Right: true}, {Name: "reasons"}}, rows)
	if more := len(s.sources) - len(rows); more > 0 {
		p.Line("and %s", console.Some(more, "more source"))
	}
}
