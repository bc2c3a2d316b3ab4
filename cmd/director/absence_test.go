package main

import (
	"log/slog"
	"os"
	"testing"
	"time"

	"tunneldirector/cluster"
	loop "tunneldirector/director"
)

func TestAbsence(t *testing.T) {
	const day = 24 * time.Hour
	began := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	type step struct {
		after       time.Duration
		alive       bool
		ready, self time.Duration // for how long; below 0: not
		away        time.Duration
	}
	for name, tt := range map[string]struct {
		seen  time.Time
		steps []step
	}{
		"never with others":                       {time.Time{}, []step{{40 * day, true, 90 * day, -1, 0}}},
		"started after long":                      {began, []step{{31 * day, false, -1, -1, 0}, {time.Second, true, 9 * day, -1, 31*day + time.Second}}},
		"said once":                               {began, []step{{31 * day, true, 9 * day, -1, 31 * day}, {time.Second, true, 9 * day, -1, 0}}},
		"the other is ready later":                {began, []step{{31 * day, true, -1, -1, 0}, {time.Second, true, 0, -1, 31 * day}}},
		"apart while it runs":                     {began, []step{{time.Hour, true, 9 * day, 8 * day, time.Hour}, {day, false, -1, 9 * day, 0}, {31 * day, true, 41 * day, 40 * day, 32 * day}}},
		"the one that was longer ready stays":     {began, []step{{31 * day, true, 9 * day, 10 * day, 0}, {time.Second, true, 90 * day, 10 * day, 0}}},
		"of two that are even both stay":          {began, []step{{31 * day, true, 9*day + 2*time.Second, 9 * day, 0}}},
		"one that goes on alone takes another in": {began, []step{{31 * day, true, -1, 40 * day, 0}, {time.Minute, true, 0, 40 * day, 0}}},
	} {
		t.Run(name, func(t *testing.T) {
			a, now := absence{seen: tt.seen}, began
			for i, s := range tt.steps {
				now = now.Add(s.after)
				v := cluster.View{Peers: []cluster.Peer{{Alive: s.alive, Beat: cluster.Beat{Ready: s.ready >= 0, ReadyFor: s.ready}}}}
				v.Beat.Ready, v.Beat.ReadyFor = s.self >= 0, s.self
				if got := a.look(v, now); got != s.away {
					t.Errorf("step %d: away for %v, want %v", i, got, s.away)
				}
			}
		})
	}
}

// An empty store is never old: what was moved aside is not moved again.
func TestMovedAsideOnce(t *testing.T) {
	cfg, log := firstOf(t), slog.New(slog.DiscardHandler)
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		t.Fatal(err)
	}
	m := openMemory(cfg.DataDir, log)
	m.Remember("d2", "store-2", 3)
	m.Seen = time.Now().Add(-31 * 24 * time.Hour)
	m.save()
	if openMemory(cfg.DataDir, log).away() < loop.TombstonesLive {
		t.Fatal("it was not away for long")
	}
	for range 2 { // within a second
		if err := startAnew(cfg, log); err != nil {
			t.Fatal(err)
		}
	}
	after := openMemory(cfg.DataDir, log)
	if _, boot, known := after.Recall("d2"); after.away() > time.Minute || !known || boot != 3 {
		t.Errorf("it was away for %v; of d2 it knows boot %d", after.away(), boot)
	}
}
