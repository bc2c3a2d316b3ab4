package drills

import (
	"context"
	"log/slog"
	"os"
	"testing"
	"time"

	"tunneldirector/director/drill"
	"tunneldirector/integration/programs"
	"tunneldirector/integration/spaces"
)

// long tells whether tests are to run in full length.
func long() bool { return os.Getenv("SOAK") != "" }

// TestMain builds the programs under test, as they are shipped: drills judge by time.
func TestMain(m *testing.M) { programs.Main(m, programs.Options{Plain: true, Parallel: 3}) }

// open builds a lab for a test.
func open(t *testing.T, o Options) *World {
	t.Helper()
	spaces.Root(t)
	o.Director, o.RealServer = programs.Director(), programs.RealServer()
	o.Dir, o.Log, o.Logger = t.TempDir(), t.Output(), slog.New(slog.NewTextHandler(t.Output(), nil))
	began := time.Now()
	w, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("MEASURED the lab is open after %.1f s", time.Since(began).Seconds())
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Errorf("close the lab: %v", err)
		}
	})
	return w
}

func state(t *testing.T, w *World) drill.State {
	t.Helper()
	st, err := w.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// until waits up to a minute for something of the state.
func until(t *testing.T, w *World, what string, is func(drill.State) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		st := state(t, w)
		if is(st) {
			return
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("%s: not within a minute: %+v", what, st)
		}
	}
}

func settled(st drill.State) bool { return st.Unsettled == "" }
