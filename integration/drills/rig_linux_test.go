package drills

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"tunneldirector/director/drill"
)

var programs = flag.String("programs", "", "directory of the programs director and realserver; default: built for the tests")

// long tells whether tests are to run in full length.
func long() bool { return os.Getenv("SOAK") != "" }

// TestMain builds the programs under test, as they are shipped: drills judge by time.
func TestMain(m *testing.M) {
	_ = flag.Set("test.parallel", "3") // exists; labs wait most of the time
	flag.Parse()
	if *programs != "" || os.Geteuid() != 0 {
		os.Exit(m.Run())
	}
	dir, err := os.MkdirTemp("", "programs-")
	if err == nil {
		*programs = dir
		var out []byte
		if out, err = exec.Command("go", "build", "-o", dir, "../../cmd/director", "../../cmd/realserver").CombinedOutput(); err != nil {
			err = fmt.Errorf("%w\n%s", err, out)
		}
	}
	code := 1
	if err != nil {
		fmt.Fprintln(os.Stderr, "build the programs:", err)
	} else {
		code = m.Run()
	}
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// open builds a lab for a test.
func open(t *testing.T, o Options) *World {
	t.Helper()
	if os.Geteuid() != 0 {
		absent(t, "root, for network namespaces")
	}
	o.Director, o.RealServer = filepath.Join(*programs, "director"), filepath.Join(*programs, "realserver")
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

// absent skips a test for what the machine lacks. Where all is meant to be there that is a failure.
func absent(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal("missing here: " + what)
	}
	t.Skip("missing here: " + what)
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
