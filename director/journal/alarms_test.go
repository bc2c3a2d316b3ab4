package journal

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tunneldirector/director/api"
)

// An alarm is raised once and ends once, whatever its numbers do meanwhile, and though it is away for a moment.
func TestAlarms(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	j := open(t, Options{Dir: t.TempDir(), Now: func() time.Time { return now }})
	defer j.Close()
	open := map[string]*alarm{}
	const dead1, dead2 = "real server rs1 is dead since 2026-01-02T03:00:00Z: no answer for 612ms", "real server rs2 is dead since 2026-01-02T03:00:00Z: no answer for 612ms"
	for _, list := range [][]string{{"7 tunnels are unplaced: x"}, {"1,009 tunnels are unplaced: x", dead1}, {dead1}, {"3 tunnels are unplaced: x", dead2}, {}, {}, {}, {}} {
		j.compareAlarms(open, list)
		now = now.Add(alarmsEvery)
	}
	j.flush(true)
	got, _ := read(t, j, api.EventQuery{})
	want := []string{
		"alarm d1 (raised: 7 tunnels are unplaced: x)", "alarm d1 (raised: " + dead1 + ")", "alarm d1 (raised: " + dead2 + ")",
		"alarm d1 (ended after 5s: " + dead1 + ")", "alarm d1 (ended after 15s: 3 tunnels are unplaced: x)", "alarm d1 (ended after 0s: " + dead2 + ")",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// What is a different alarm, and what is not.
func TestSameAlarm(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		same bool
	}{
		{"lag of 3.5s (12%)", "lag of 1m0.25s (9%)", true},
		{"192.0.2.1 is not held", "192.0.2.2 is not held", false},
		{"2001:db8::1 is not held", "2001:db8::2 is not held", false},
		{"rs1 is dead", "rs2 is dead", false},
		{"since 2026-01-02T03:04:05Z: x", "since 2026-01-02T03:04:06.5+01:00: x", true},
		{"d9 has another key (last seen at 2026-01-02T03:04:05Z)", "d9 has another key (last seen at 2026-01-02T03:04:35Z)", true},
		{"the clock is 1h2m3s off", "the clock is 2µs off", true},
	} {
		if (sameAlarm(tt.a) == sameAlarm(tt.b)) != tt.same {
			t.Errorf("%q and %q: %q, %q", tt.a, tt.b, sameAlarm(tt.a), sameAlarm(tt.b))
		}
	}
}
