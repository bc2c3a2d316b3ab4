package journal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"tunneldirector/director/api"
)

func open(t testing.TB, o Options) *Journal {
	t.Helper()
	o.Director, o.Log = "d1", slog.New(slog.DiscardHandler)
	j, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// read gives what there is, as kind object (why) x count.
func read(t testing.TB, j *Journal, q api.EventQuery) (lines []string, list api.EventList) {
	t.Helper()
	if q.Limit == 0 {
		q.Limit = 1000
	}
	list, err := j.Read(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list.Events {
		s := e.Kind + " " + e.Object
		if e.Why != "" {
			s += " (" + e.Why + ")"
		}
		if e.Count > 0 {
			s += fmt.Sprintf("%s..%s x %d", e.First, e.Last, e.Count)
		}
		lines = append(lines, s)
	}
	return lines, list
}

// What is recorded can be read a moment later, and by the next run.
func TestKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "journal")
		j := open(t, Options{Dir: dir})
		ctx, cancel := context.WithCancel(t.Context())
		go func() { _ = j.Run(ctx) }()
		changed := j.Changed()
		j.Record([]api.Event{{Time: time.Now(), Kind: "moved", Object: "site-1", From: "rs1", To: "rs2", Why: "failed-over: dead", By: "nms"}})
		j.Note("address", "192.0.2.10", "VIP taken")
		time.Sleep(every)
		synctest.Wait()
		select {
		case <-changed:
		default:
			t.Error("nobody was told")
		}
		want := []string{"moved site-1 (failed-over: dead)", "address 192.0.2.10 (VIP taken)"}
		got, list := read(t, j, api.EventQuery{})
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
		if e := list.Events[0]; e.From != "rs1" || e.To != "rs2" || e.By != "nms" || !e.Time.Equal(time.Now().Add(-every)) {
			t.Errorf("kept is %+v", e)
		}
		cancel()
		synctest.Wait()
		j.Note("director", "d1", "stops")
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		j = open(t, Options{Dir: dir})
		defer j.Close()
		j.Note("director", "d1", "starts")
		j.flush(true)
		if got, _ = read(t, j, api.EventQuery{}); cmp.Diff(append(want, "director d1 (stops)", "director d1 (starts)"), got) != "" {
			t.Errorf("the next run reads %q", got)
		}
		if files, _ := os.ReadDir(dir); len(files) != 1 {
			t.Errorf("two runs made %d files", len(files))
		}
	})
}

// A push of many tunnels is few lines; what matters beside it is all there.
func TestPushIsSummedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := open(t, Options{Dir: t.TempDir()})
		defer j.Close()
		const tunnels, batch = 60_000, 2000
		for i := 0; i < tunnels; i += batch {
			var list []api.Event
			for k := i; k < i+batch; k++ {
				id := fmt.Sprintf("site-%06d", k)
				list = append(list, api.Event{Time: time.Now(), Kind: "tunnel-put", Object: id, By: "nms"}, api.Event{Time: time.Now(), Kind: "placed", Object: id, To: fmt.Sprint("rs", k%7), Why: "placed", By: "nms"})
			}
			j.Record(list)
			if i == tunnels/2 {
				j.Record([]api.Event{{Time: time.Now(), Kind: "real-server", Object: "rs3", Why: "dead: no answer"}})
			}
			time.Sleep(20 * time.Millisecond)
			j.flush(false)
		}
		j.flush(true)
		all, list := read(t, j, api.EventQuery{Limit: 10000})
		if len(all) < 201 || len(all) > 210 {
			t.Errorf("a push is %d lines", len(all))
		}
		sum := map[string]uint64{}
		for _, e := range list.Events {
			sum[e.Kind] += max(1, e.Count)
			if e.Count > 0 && (e.By != "nms" || e.Until == nil || e.First > e.Last || e.Until.Before(e.Time)) {
				t.Errorf("a sum is %+v", e)
			}
		}
		if d := cmp.Diff(map[string]uint64{"tunnel-put": tunnels, "placed": tunnels, "real-server": 1}, sum); d != "" {
			t.Errorf("not all is counted: %s", d)
		}
		if st := j.Stats(); st.Lost != 0 || st.Events["tunnel-put"] != tunnels {
			t.Errorf("stats are %+v", st)
		}
	})
}

// The death of a real server moves many: each move is there up to a rate, then they are added up by from, to and cause.
func TestMovesAreSummedUpLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := open(t, Options{Dir: t.TempDir()})
		defer j.Close()
		for range 12_000 / 500 {
			var list []api.Event
			for i := range 500 {
				list = append(list, api.Event{Time: time.Now(), Kind: "moved", Object: fmt.Sprint("g", i), From: "rs1", To: fmt.Sprint("rs", 2+i%2), Why: fmt.Sprintf("failed-over: detail %d", i)})
			}
			j.Record(list)
			j.flush(false)
		}
		j.flush(true)
		_, list := read(t, j, api.EventQuery{Limit: 10_000, Kinds: []string{"moved"}, Object: "rs3"})
		var sums []string
		for _, e := range list.Events {
			if e.Count > 0 {
				sums = append(sums, fmt.Sprintf("%s->%s %s %d", e.From, e.To, e.Why, e.Count))
			}
		}
		if len(list.Events) != 5001 || len(sums) != 1 || sums[0] != "rs1->rs3 failed-over 1000" {
			t.Errorf("%d events, sums %q", len(list.Events), sums)
		}
		if n := j.Stats().Moves["failed-over"]; n != 12_000 {
			t.Errorf("%d moves counted", n)
		}
		time.Sleep(10 * time.Second) // 200 more go one by one
		j.Record(make([]api.Event, 1))
		for range 201 {
			j.Record([]api.Event{{Kind: "moved", Time: time.Now()}})
		}
		if len(j.sieve.sums) != 1 {
			t.Error("the rate is not kept")
		}
	})
}

// Whatever is thrown at it, memory is bounded, and what is not kept is counted and told.
func TestOverflow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := open(t, Options{Dir: t.TempDir()})
		defer j.Close()
		for k := range 5 {
			for i := range 10_000 {
				j.Record([]api.Event{{Time: time.Now(), Kind: fmt.Sprint("kind", k), Object: fmt.Sprint(i)}})
			}
		}
		if len(j.pending) != maxPending {
			t.Errorf("%d wait", len(j.pending))
		}
		j.flush(true)
		j.flush(true)
		got, _ := read(t, j, api.EventQuery{Kinds: []string{"journal"}})
		if len(got) != 1 || !strings.HasPrefix(got[0], "journal d1 (30000 events before this one are lost (10000 kind2, 10000 kind3, 10000 kind4)") || j.Stats().Lost != 30_000 {
			t.Errorf("told is %q", got)
		}
		for i := range 2000 {
			j.Record([]api.Event{{Kind: "moved", Object: "x", From: fmt.Sprint(i)}, {Kind: fmt.Sprint(i)}})
		}
		for range 10_000 {
			j.Record([]api.Event{{Kind: "moved", Object: "x", From: "a", Why: strings.Repeat("x", 50)}})
		}
		if len(j.sieve.sums) > maxSums+1 || len(j.sieve.kinds) > maxKinds+1 {
			t.Errorf("%d sums of %d kinds", len(j.sieve.sums), len(j.sieve.kinds))
		}
	})
}

// A disk that fails loses events and nothing else; how many is told when it works again.
func TestDiskFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		j := open(t, Options{Dir: dir})
		defer j.Close()
		j.Note("peer", "d2", "alive")
		j.flush(true)
		if err := j.files.current.Close(); err != nil { // as a disk that refuses
			t.Fatal(err)
		}
		j.Note("peer", "d2", "dead")
		j.Note("assigner", "d1", "")
		j.flush(true)
		if st := j.Stats(); st.Writable || st.Lost != 2 || len(j.Alarms()) != 1 {
			t.Errorf("%+v, alarms %q", st, j.Alarms())
		}
		j.files.current = nil
		j.Note("peer", "d3", "alive")
		j.flush(true)
		got, _ := read(t, j, api.EventQuery{})
		if len(got) != 3 || !strings.Contains(got[1], "2 events before this one are lost (1 assigner, 1 peer): write") || got[2] != "peer d3 (alive)" || j.Alarms() != nil || j.Stats().Lost != 2 {
			t.Errorf("then there is %q, alarms %q", got, j.Alarms())
		}
	})
}

// A line that a crash has torn is skipped, and said; no event after it is lost.
func TestTornLine(t *testing.T) {
	dir := t.TempDir()
	j := open(t, Options{Dir: dir})
	j.Note("peer", "d2", "alive")
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	path := file{number: 1}.path(dir)
	for _, torn := range []string{`{"time":"2026-01-02T03:04:05Z","kind":"pe`, "\x00\x00\x00"} {
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, append(whole, torn...), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, list := read(t, j, api.EventQuery{Object: "d2"}); len(got) != 1 || list.Unreadable > 1 {
			t.Errorf("with a line being written: %q, %d unreadable", got, list.Unreadable)
		}
		j = open(t, Options{Dir: dir})
		j.Note("peer", "d3", "alive")
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		got, list := read(t, j, api.EventQuery{})
		n := len(got)
		if list.Unreadable == 0 || got[n-1] != "peer d3 (alive)" || got[n-2] != fmt.Sprintf("journal d1 (the line before this one was torn by a crash and is skipped: %d bytes)", len(torn)) {
			t.Errorf("after %q: %q, %d unreadable", torn, got, list.Unreadable)
		}
	}
}

// All files together stay within the size, the newest events are there, and positions that are gone are said to be.
func TestSize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most = 1 << 20
		dir := t.TempDir()
		j := open(t, Options{Dir: dir, MaxSize: most})
		defer j.Close()
		for i := range 6000 {
			j.Note("peer", fmt.Sprint("d", i), strings.Repeat("x", 500))
			if i%100 == 99 {
				j.flush(true)
				if on := onDisk(t, dir); on > most || uint64(on) != j.Stats().Size {
					t.Fatalf("%d bytes on disk, %d by its own count", on, j.Stats().Size)
				}
			}
		}
		if on := onDisk(t, dir); on < most*9/10 {
			t.Errorf("only %d bytes are kept", on)
		}
		_, list := read(t, j, api.EventQuery{Limit: 1})
		if list.Events[0].Object != "d5999" {
			t.Errorf("the newest is %+v", list.Events[0])
		}
		if _, err := j.Read(t.Context(), api.EventQuery{After: "1:0", Limit: 1}); !errors.Is(err, api.ErrGone) {
			t.Errorf("after what is gone: %v", err)
		}
	})
}

func onDisk(t *testing.T, dir string) (sum int64) {
	t.Helper()
	list, err := listFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range list {
		sum += f.size
	}
	return sum
}

// What is too old goes, part by part; a clock that is a year ahead takes one file an hour, not all.
func TestAge(t *testing.T) {
	dir, now := t.TempDir(), time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	j := open(t, Options{Dir: dir, MaxAge: 32 * time.Hour, Now: func() time.Time { return now }})
	defer j.Close()
	for range 100 {
		j.Note("peer", now.Format(time.RFC3339), "")
		j.flush(true)
		now = now.Add(time.Hour)
	}
	got, list := read(t, j, api.EventQuery{})
	if oldest := now.Sub(list.Events[0].Time); oldest < 32*time.Hour || oldest > 36*time.Hour || len(got) != int(oldest/time.Hour) {
		t.Errorf("the oldest of %d is of %v ago", len(got), oldest)
	}
	before := len(j.files.list)
	now = now.Add(365 * 24 * time.Hour)
	for range 3 {
		j.flush(true)
		now = now.Add(time.Minute)
	}
	if n := len(j.files.list); n != before-1 {
		t.Errorf("of %d files %d are left", before, n)
	}
}
