package lab

import (
	"testing"
	"time"
)

func TestEchoes(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	echo := func(sent, received int) Echo { return Echo{at(sent), at(received)} }
	gone := func(sent int) Echo { return Echo{Sent: at(sent)} }
	for _, tt := range []struct {
		name     string
		echoes   []Echo
		lost     int
		restored time.Duration // -1: never; the event is at 25 ms
		gap      time.Duration
		outage   time.Duration // one request is due each 20 ms
	}{
		{"none", nil, 0, -1, 0, 0},
		{"all answered", []Echo{echo(0, 1), echo(20, 21), echo(40, 42)}, 0, 17 * time.Millisecond, 21 * time.Millisecond, 0},
		{"an answer after the event to a request before it", []Echo{echo(20, 30), gone(40)}, 1, -1, 0, 20 * time.Millisecond},
		{"an outage", []Echo{echo(0, 1), gone(20), gone(40), echo(60, 61), echo(80, 81)}, 2, 36 * time.Millisecond, 60 * time.Millisecond, 40 * time.Millisecond},
		{"none ever", []Echo{gone(0), gone(20), gone(40)}, 3, -1, 0, 60 * time.Millisecond},
		{"a sender that paused", []Echo{gone(0), echo(20, 21), echo(900, 901), gone(920)}, 2, 876 * time.Millisecond, 880 * time.Millisecond, 20 * time.Millisecond},
		{"out of order", []Echo{echo(30, 90), echo(40, 41)}, 0, 16 * time.Millisecond, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := CountLost(tt.echoes); got != tt.lost {
				t.Errorf("CountLost: got %d, want %d", got, tt.lost)
			}
			got, ok := Restored(tt.echoes, at(25))
			if want := tt.restored; ok != (want >= 0) || ok && got != want {
				t.Errorf("Restored: got %v, %t, want %v", got, ok, want)
			}
			if got := LongestGap(tt.echoes); got != tt.gap {
				t.Errorf("LongestGap: got %v, want %v", got, tt.gap)
			}
			if got := Outage(tt.echoes, 20*time.Millisecond); got != tt.outage {
				t.Errorf("Outage: got %v, want %v", got, tt.outage)
			}
		})
	}
}
