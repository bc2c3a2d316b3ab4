package realserver

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestStepOf(t *testing.T) {
	tests := []struct{ wall, passed, want time.Duration }{
		{5 * time.Second, 5 * time.Second, 0},
		{5*time.Second + 300*time.Millisecond, 5 * time.Second, 0}, // slewed
		{time.Hour, 5 * time.Second, time.Hour - 5*time.Second},
		{-time.Hour, 5 * time.Second, -time.Hour - 5*time.Second},
	}
	for _, tt := range tests {
		if got := stepOf(tt.wall, tt.passed); got != tt.want {
			t.Errorf("wall %s in %s: %s, want %s", tt.wall, tt.passed, got, tt.want)
		}
	}
	var w wall
	for range 3 {
		if s := w.step(time.Now()); s != 0 {
			t.Errorf("the clock was set by %s", s)
		}
	}
}

// TestDoor: only what began after they came lets people through.
func TestDoor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d door
		began := time.Now()
		time.Sleep(time.Second)
		came, asked := time.Now(), 0
		through := make(chan error, 1)
		go func() { through <- d.pass(t.Context(), came, func() { asked++ }) }()
		synctest.Wait()
		d.open(began)
		synctest.Wait()
		if len(through) > 0 {
			t.Error("what began before opened the door")
		}
		d.open(came)
		if err := <-through; err != nil || asked != 2 {
			t.Errorf("%v, asked %d times", err, asked)
		}
		if err := d.pass(t.Context(), came, func() { t.Error("asked though it is open") }); err != nil {
			t.Error(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if d.pass(ctx, came.Add(time.Second), func() {}) == nil {
			t.Error("passed though it is closed")
		}
	})
}
