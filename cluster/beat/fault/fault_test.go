package fault

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// lines counts what a book logged.
func lines(log *bytes.Buffer) int { return strings.Count(log.String(), "\n") }

func TestBook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		b := New(slog.New(slog.NewTextHandler(&log, nil)))
		start := time.Now().UTC().Format(time.RFC3339)
		b.Add("a", "a is wrong", 0)
		for range 100 {
			b.Add("b", "b is wrong", 0)
		}
		b.Add("c", "c may become wrong", 5*time.Second)
		want := []string{"a is wrong (last seen at " + start + ")", "b is wrong (last seen at " + start + ", 100 times since " + start + ")"}
		if d := cmp.Diff(want, b.List()); d != "" {
			t.Error(d)
		}
		if lines(&log) != 2 {
			t.Errorf("one line for each fault is wanted:\n%s", &log)
		}
		time.Sleep(6 * time.Second)
		b.Add("c", "c is wrong", 5*time.Second)
		b.Clear("b")
		want = []string{"a is wrong (last seen at " + start + ")", "c is wrong (last seen at " + time.Now().UTC().Format(time.RFC3339) + ", 2 times since " + start + ")"}
		if d := cmp.Diff(want, b.List()); d != "" {
			t.Errorf("one is over, one has lasted: %s", d)
		}
		time.Sleep(61 * time.Second)
		if l := b.List(); len(l) > 0 {
			t.Errorf("%q is remembered", l)
		}
		b.Add("a", "a is wrong", 0)
		if lines(&log) != 4 {
			t.Errorf("what comes back after a minute is logged again:\n%s", &log)
		}
	})
}

func TestBookIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		b := New(slog.New(slog.NewTextHandler(&log, nil)))
		for i := range 10_000 {
			b.Add(fmt.Sprint("source ", i), fmt.Sprintf("garbage from %d", i), 0)
		}
		l := b.List()
		if len(l) != most+1 || lines(&log) != most+1 {
			t.Errorf("%d faults and %d log lines of 10,000 sources, want %d", len(l), lines(&log), most+1)
		}
		if !strings.Contains(strings.Join(l, "\n"), "more faults than can be kept (last seen at "+time.Now().UTC().Format(time.RFC3339)+", 9936 times") {
			t.Errorf("what had no place is not counted: %q", l)
		}
		time.Sleep(2 * time.Minute)
		b.Add("new", "a new fault", 0)
		if d := cmp.Diff([]string{"a new fault (last seen at " + time.Now().UTC().Format(time.RFC3339) + ")"}, b.List()); d != "" {
			t.Error(d)
		}
	})
}
