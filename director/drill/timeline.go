package drill

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

const maxLines = 200

// phases are what came when after the first fault. What had been cut is what was silent for four packets or more: a
// busy machine holds up one or two.
func phases(first time.Time, every time.Duration, all [][]silence, events []Event) Phases {
	const never = -1
	p := Phases{never, never, never, never}
	for _, e := range events {
		after := e.Time.Sub(first)
		if after < 0 {
			continue
		}
		if p.Detected < 0 && e.detects() {
			p.Detected = after.Round(time.Millisecond)
		}
		if p.Decided < 0 && (e.Kind == "moved" || e.Kind == "address" && e.To != "") {
			p.Decided = after.Round(time.Millisecond)
		}
	}
	dead := false
	for _, list := range all {
		for _, s := range list {
			switch after := s.to().Sub(first).Round(time.Millisecond); {
			case s.long < 4*every || after < 0:
			case !s.ended:
				dead = true
			default:
				if p.DataPlane < 0 || after < p.DataPlane {
					p.DataPlane = after
				}
				p.Reestablished = max(p.Reestablished, after)
			}
		}
	}
	if dead {
		p.Reestablished = never
	}
	return p
}

// detects tells whether an event says that something is dead, gone or drained.
func (e Event) detects() bool {
	switch e.Kind {
	case "real-server":
		return strings.HasPrefix(e.Why, "dead") || e.Why == "drained"
	case "provisional":
		return e.To == "dead"
	case "peer":
		return slices.Contains([]string{"dead", "hung", "leaving", "sick"}, e.To)
	case "director":
		return strings.HasPrefix(e.Why, "it leaves") || strings.HasPrefix(e.Why, "it stops") || strings.HasPrefix(e.Why, "sick")
	}
	return false
}

func (e Event) words() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", e.Kind, e.Object)
	if e.From != "" {
		fmt.Fprintf(&b, " from %s", e.From)
	}
	if e.To != "" {
		fmt.Fprintf(&b, " to %s", e.To)
	}
	if e.Why != "" {
		fmt.Fprintf(&b, ": %s", e.Why)
	}
	return b.String()
}

// timeLine is what the drill did and what directors recorded. The same of many objects is one line. The drill's own lines are kept, of the
// directors' the first.
func timeLine(first time.Time, marks []mark, events []Event) []Mark {
	type same struct{ by, kind, from, to, why string }
	lines, at, more := slices.Clone(marks), map[same]int{}, map[int]int{}
	left := 0
	for _, e := range events {
		k := same{e.By, e.Kind, e.From, e.To, e.Why}
		i, known := at[k]
		switch bulk := slices.Contains([]string{"moved", "placed", "unplaced", "tunnel-put", "tunnel-deleted"}, e.Kind); {
		case bulk && known:
			more[i]++
		case len(lines) >= maxLines-1:
			left++
		default:
			at[k] = len(lines)
			lines = append(lines, mark{e.Time, e.By, e.words()})
		}
	}
	for i, n := range more {
		lines[i].what += fmt.Sprintf(" (and %d more)", n)
	}
	slices.SortStableFunc(lines, func(a, b mark) int { return a.at.Compare(b.at) })
	var out []Mark
	for _, l := range lines[:min(len(lines), maxLines-1)] {
		out = append(out, Mark{After: l.at.Sub(first).Round(time.Millisecond), By: l.by, What: l.what})
	}
	if left += max(0, len(lines)-(maxLines-1)); left > 0 {
		out = append(out, Mark{After: out[len(out)-1].After, What: fmt.Sprintf("%d more lines are left out", left)})
	}
	return out
}
