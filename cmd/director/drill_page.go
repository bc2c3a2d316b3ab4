package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"tunneldirector/cmd/console"
	"tunneldirector/director/drill"
)

func drillListPage(p *console.Page, l *drillList) {
	var rows [][]string
	for _, d := range l.Drills {
		rows = append(rows, []string{d.Name, d.What})
	}
	p.Table([]console.Column{{Name: "drill"}, {Name: "what is rehearsed"}}, rows)
	p.Line("")
	if len(l.Results) == 0 {
		p.Line("no results are kept yet")
		return
	}
	rows = nil
	for _, s := range l.Results {
		rows = append(rows, []string{s.ID, s.World, s.Began.UTC().Format(time.DateTime), verdictOf(s.Passed, s.Aborted), inSeconds(s.Outage.Median), inSeconds(s.Outage.Worst), shareOf(s.Lost, s.Sent)})
	}
	p.Table([]console.Column{{Name: "result"}, {Name: "world"}, {Name: "began (UTC)"}, {Name: "came to"}, {Name: "median outage", Right: true}, {Name: "worst", Right: true}, {Name: "lost", Right: true}}, rows)
}

func verdictOf(passed bool, aborted string) string {
	switch {
	case passed:
		return "passed"
	case aborted != "":
		return "GIVEN UP"
	}
	return "FAILED"
}

// shareOf is packets in percent.
func shareOf(n, of int) string {
	if of == 0 {
		return "0 %"
	}
	return strconv.FormatFloat(100*float64(n)/float64(of), 'f', 2, 64) + " %"
}

// resultPage is what a drill came to.
func resultPage(p *console.Page, r *drill.Result) {
	p.Line("drill %s (%s): %s", r.Drill.Name, r.World, verdictOf(r.Passed, r.Aborted))
	p.Line("")
	facts := [][2]string{
		{"result", r.ID}, {"began", r.Began.UTC().Format(time.RFC3339) + ", took " + r.Ended.Sub(r.Began).Round(100*time.Millisecond).String()},
		{"outage", fmt.Sprintf("median %s, 99th percentile %s, worst %s, of %s", inSeconds(r.Outage.Median), inSeconds(r.Outage.P99), inSeconds(r.Outage.Worst), console.Some(len(r.Tunnels), "tunnel"))},
		{"packets", fmt.Sprintf("%s sent, %s lost (%s)", console.Number(r.Sent), console.Number(r.Lost), shareOf(r.Lost, r.Sent))},
		{"moved", fmt.Sprintf("%s, %s of them wrongly", console.Some(r.Moved, "tunnel"), console.Number(r.Wrongly))},
		{"after the first fault", phasesWords(&r.Phases)},
	}
	for _, f := range r.Faults {
		facts = append(facts, [2]string{"fault", faultOf(&f)})
	}
	p.Facts(facts)
	if r.Aborted != "" {
		p.Line("\nGIVEN UP  %s", r.Aborted)
	}
	for _, f := range r.Failures {
		at := ""
		if f.At != nil {
			at = ", since " + f.At.UTC().Format("15:04:05.000")
		}
		p.Line("\nFAILED  %s%s%s", f.What, after(": tunnel ", f.Tunnel), at)
	}
	tunnelsPage(p, r.Tunnels)
	timeLinePage(p, r.TimeLine)
}

func phasesWords(x *drill.Phases) string {
	var parts []string
	for _, y := range []struct {
		what  string
		after time.Duration
	}{{"detected", x.Detected}, {"decided", x.Decided}, {"first packet back", x.DataPlane}, {"last tunnel back", x.Reestablished}} {
		if y.after >= 0 {
			parts = append(parts, y.what+" "+inSeconds(y.after))
		}
	}
	return strings.Join(parts, ", ")
}

func faultOf(f *drill.Injected) string {
	s := string(f.Kind) + after(" of ", f.Target) + " at " + f.At.UTC().Format("15:04:05.000")
	switch {
	case f.Error != "":
		return s + ": " + f.Error
	case f.Undone != nil:
		return s + ", undone " + f.Undone.UTC().Format("15:04:05.000")
	}
	return s
}

func tunnelsPage(p *console.Page, list []drill.Outcome) {
	if len(list) == 0 {
		return
	}
	var rows [][]string
	for _, x := range list {
		since, moved := "", ""
		if x.Outage > 0 {
			since = x.At.UTC().Format("15:04:05.000")
		}
		switch {
		case x.Wrong:
			moved = "WRONGLY"
		case x.Moved:
			moved = "yes"
		}
		rows = append(rows, []string{x.Name, inSeconds(x.Outage), since, console.Number(x.Sent), console.Number(x.Lost), x.From, x.To, moved})
	}
	p.Line("")
	p.Table([]console.Column{{Name: "tunnel"}, {Name: "outage", Right: true}, {Name: "since"}, {Name: "sent", Right: true}, {Name: "lost", Right: true}, {Name: "from"}, {Name: "to"}, {Name: "moved"}}, rows)
}

func timeLinePage(p *console.Page, list []drill.Mark) {
	if len(list) == 0 {
		return
	}
	var rows [][]string
	for _, m := range list {
		rows = append(rows, []string{fmt.Sprintf("%+.3f s", m.After.Seconds()), orWord(m.By, "drill"), m.What})
	}
	p.Line("")
	p.Table([]console.Column{{Name: "after", Right: true}, {Name: "by"}, {Name: "what"}}, rows)
}

// diffPage is two results side by side.
func diffPage(p *console.Page, d *drill.Comparison) {
	rows := [][]string{{"result", d.A.ID, d.B.ID, ""}, {"came to", verdictOf(d.A.Passed, d.A.Aborted), verdictOf(d.B.Passed, d.B.Aborted), ""}}
	for _, f := range d.Figures {
		rows = append(rows, []string{f.Name, figure(f.A, f.Unit), figure(f.B, f.Unit), change(f.A, f.B, f.Unit)})
	}
	p.Table([]console.Column{{Name: "figure"}, {Name: "before", Right: true}, {Name: "now", Right: true}, {Name: "change", Right: true}}, rows)
}

func figure(v *float64, unit string) string {
	switch {
	case v == nil:
		return ""
	case unit == "s":
		return fmt.Sprintf("%.3f s", *v)
	case unit == "%":
		return fmt.Sprintf("%.2f %%", *v)
	}
	return strconv.FormatFloat(*v, 'f', -1, 64)
}

func change(a, b *float64, unit string) string {
	if a == nil || b == nil || *a == *b {
		return ""
	}
	d := *b - *a
	s := figure(&d, unit)
	if d > 0 {
		s = "+" + s
	}
	return s
}
