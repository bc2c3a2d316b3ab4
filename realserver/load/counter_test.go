package load

import (
	"testing"
	"time"
)

func TestCounter(t *testing.T) {
	t0 := time.Unix(1000, 0)
	type step struct {
		at    time.Duration
		value uint64
		want  float64
	}
	for _, tt := range []struct {
		name  string
		steps []step
	}{
		{"one value is no rate", []step{{0, 50, 0}}},
		{"less than the span is as if it had stood before", []step{{0, 50, 0}, {1e9, 60, 2}, {2e9, 100, 10}}},
		{"over the span only", []step{{0, 0, 0}, {1e9, 1000, 200}, {2e9, 1000, 200}, {5e9, 1000, 200}, {6e9, 1000, 0}}},
		{"the span begins at the newest value that is old enough", []step{{0, 0, 0}, {3e9, 30, 6}, {6e9, 60, 10}, {8e9, 60, 6}}},
		{"it went back: another process", []step{{0, 100, 0}, {1e9, 200, 20}, {2e9, 5, 0}, {3e9, 10, 1}}},
		{"the clock went back", []step{{10e9, 100, 0}, {11e9, 200, 20}, {1e9, 300, 0}, {2e9, 310, 2}}},
		{"the clock stood", []step{{1e9, 100, 0}, {1e9, 200, 0}, {2e9, 205, 1}}},
		{"after a break the time before it does not count", []step{{0, 0, 0}, {3600e9, 3600, 1}, {3601e9, 3700, 20}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var c counter
			for i, s := range tt.steps {
				c.add(t0.Add(s.at), s.value)
				if got := c.rate(); got != s.want {
					t.Errorf("step %d: rate %v, want %v", i, got, s.want)
				}
			}
		})
	}
}

func TestCounterIsBounded(t *testing.T) {
	var c counter
	for i := range 1000 {
		c.add(time.Unix(int64(i), 0), uint64(i))
	}
	if len(c) > 7 || cap(c) > 16 {
		t.Errorf("%d points, room for %d, after 1000 of one second each", len(c), cap(c))
	}
}

func TestAverage(t *testing.T) {
	t0 := time.Unix(1000, 0)
	var a average
	if a.mean() != 0 {
		t.Errorf("mean of nothing: %v", a.mean())
	}
	a.add(t0, 1)
	if got := a.mean(); got != 0 {
		t.Errorf("mean %v of a moment, want 0", got)
	}
	a.add(t0.Add(time.Second), 1)
	a.add(t0.Add(2*time.Second), 0.5)
	if got := a.mean(); got != 0.3 { // 1 for a second and 0.5 for another, of five
		t.Errorf("mean %v, want 0.3", got)
	}
	a.add(t0.Add(20*time.Second), 0)
	a.add(t0.Add(21*time.Second), 0)
	if got := a.mean(); got != 0 {
		t.Errorf("mean %v after a break, want 0", got)
	}
	a.add(t0, 1)
	a.add(t0.Add(5*time.Second), 0.25)
	if got := a.mean(); got != 0.25 {
		t.Errorf("mean %v after the clock went back, want 0.25", got)
	}
}
