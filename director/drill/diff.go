package drill

import "time"

// A Comparison is two results of a drill side by side.
type Comparison struct {
	A       Summary  `json:"a"`
	B       Summary  `json:"b"`
	Figures []Figure `json:"figures"`
}

// A Figure is one of both. A nil value is absent: what it measures did not come. Less is better.
type Figure struct {
	Name string   `json:"name"`
	Unit string   `json:"unit"` // s, % or tunnels
	A    *float64 `json:"a"`
	B    *float64 `json:"b"`
}

// Diff compares two results, in this order.
func Diff(a, b *Result) Comparison {
	c := Comparison{A: a.Summary(), B: b.Summary()}
	of := func(name, unit string, value func(*Result) *float64) {
		c.Figures = append(c.Figures, Figure{name, unit, value(a), value(b)})
	}
	of("outage median", "s", func(r *Result) *float64 { return seconds(r.Outage.Median) })
	of("outage p99", "s", func(r *Result) *float64 { return seconds(r.Outage.P99) })
	of("outage worst", "s", func(r *Result) *float64 { return seconds(r.Outage.Worst) })
	of("lost", "%", func(r *Result) *float64 { return new(percent(r.Lost, r.Sent)) })
	of("moved", "tunnels", func(r *Result) *float64 { return new(float64(r.Moved)) })
	of("wrongly moved", "tunnels", func(r *Result) *float64 { return new(float64(r.Wrongly)) })
	of("detected", "s", func(r *Result) *float64 { return seconds(r.Phases.Detected) })
	of("decided", "s", func(r *Result) *float64 { return seconds(r.Phases.Decided) })
	of("data plane", "s", func(r *Result) *float64 { return seconds(r.Phases.DataPlane) })
	of("re-established", "s", func(r *Result) *float64 { return seconds(r.Phases.Reestablished) })
	return c
}

// seconds are nil for a time that did not come.
func seconds(d time.Duration) *float64 {
	if d < 0 {
		return nil
	}
	return new(d.Seconds())
}

func percent(n, of int) float64 {
	if of == 0 {
		return 0
	}
	return 100 * float64(n) / float64(of)
}
