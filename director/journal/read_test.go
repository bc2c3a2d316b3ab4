package journal

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"tunneldirector/director/api"
)

// Whatever is asked for, over however many files, is what a plain search of all events finds; and pages, in either
// direction, are the same events, each once.
func TestReadAgainstPlainSearch(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	synctest.Test(t, func(t *testing.T) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		j := open(t, Options{Dir: t.TempDir(), MaxSize: 1 << 20})
		defer j.Close()
		var all []api.Recorded
		names := []string{"rs1", "rs2", "d1", "192.0.2.10", "site \"x\" <&>"}
		kinds := []string{"moved", "peer", "alarm"}
		start := time.Now()
		for range 700 {
			time.Sleep(time.Duration(rnd.IntN(3)) * 7 * time.Second)
			e := api.Event{Time: time.Now(), Kind: kinds[rnd.IntN(3)], Object: names[rnd.IntN(5)], By: names[rnd.IntN(2)], Why: fmt.Sprintf("%0200d", rnd.Int())}
			if e.Kind == "moved" {
				e.From, e.To = names[rnd.IntN(2)], names[rnd.IntN(2)]
			}
			j.Record([]api.Event{e})
			all = append(all, api.Recorded{Time: e.Time, Kind: e.Kind, Object: e.Object, From: e.From, To: e.To, Why: e.Why, By: e.By})
			j.flush(true)
		}
		if len(j.files.list) < 4 {
			t.Fatalf("%d files only", len(j.files.list))
		}
		span := time.Since(start)
		for range 10 {
			q := api.EventQuery{Limit: 5 + rnd.IntN(100)}
			if rnd.IntN(2) == 0 {
				q.Since = start.Add(time.Duration(rnd.Int64N(int64(span))))
			}
			if rnd.IntN(2) == 0 {
				q.Until = start.Add(time.Duration(rnd.Int64N(int64(span))))
			}
			if rnd.IntN(2) == 0 {
				q.Kinds = kinds[:1+rnd.IntN(2)]
			}
			if rnd.IntN(2) == 0 {
				q.Object = names[rnd.IntN(5)]
			}
			if rnd.IntN(4) == 0 {
				q.By = names[rnd.IntN(2)]
			}
			want := plainSearch(all, q)
			if d := cmp.Diff(want, pages(t, j, q, true)); d != "" {
				t.Fatalf("seed %d: %+v backward: %s", seed, q, d)
			}
			if d := cmp.Diff(want, pages(t, j, q, false)); d != "" {
				t.Fatalf("seed %d: %+v forward: %s", seed, q, d)
			}
		}
	})
}

func plainSearch(all []api.Recorded, q api.EventQuery) (out []api.Recorded) {
	for _, e := range all {
		switch {
		case !q.Since.IsZero() && e.Time.Before(q.Since), !q.Until.IsZero() && e.Time.After(q.Until):
		case q.Kinds != nil && !slices.Contains(q.Kinds, e.Kind), q.By != "" && e.By != q.By:
		case q.Object != "" && e.Object != q.Object && e.From != q.Object && e.To != q.Object:
		default:
			out = append(out, e)
		}
	}
	return out
}

// pages reads all, page by page.
func pages(t *testing.T, j *Journal, q api.EventQuery, backward bool) (all []api.Recorded) {
	t.Helper()
	if !backward {
		q.After = "0:0"
	}
	for {
		_, list := read(t, j, q)
		if len(list.Events) > q.Limit {
			t.Fatalf("%d events for a limit of %d", len(list.Events), q.Limit)
		}
		next := list.End
		if backward && len(list.Events) > 0 {
			next = list.Events[0].Position
		}
		for i := range list.Events {
			list.Events[i].Position = ""
		}
		if backward {
			all, q.Before = append(list.Events, all...), next
		} else {
			all, q.After = append(all, list.Events...), next
		}
		if !list.More {
			return all
		}
	}
}

// Reading goes on after the end of an answer, whatever file that is in.
func TestReadOn(t *testing.T) {
	j := open(t, Options{Dir: t.TempDir()})
	defer j.Close()
	_, list := read(t, j, api.EventQuery{})
	if list.End != "0:0" || list.More {
		t.Errorf("of nothing: %+v", list)
	}
	for i := range 3 {
		j.Note("peer", fmt.Sprint(i), "")
		j.flush(true)
		got, next := read(t, j, api.EventQuery{After: list.End})
		if want := []string{fmt.Sprintf("peer %d", i)}; cmp.Diff(want, got) != "" {
			t.Errorf("after %s: %q", list.End, got)
		}
		if list = next; list.End == next.Events[0].Position {
			continue
		}
		t.Errorf("the end is %s, the last event at %s", list.End, next.Events[0].Position)
	}
	for _, beyond := range []string{"2:1", "1:99999"} { // of another director
		if _, err := j.Read(t.Context(), api.EventQuery{After: beyond, Limit: 1}); !errors.Is(err, api.ErrGone) {
			t.Errorf("after %s: %v", beyond, err)
		}
	}
	for _, bad := range []string{"1", "x:1", "1:-1", "1:2:3", "-1:0"} {
		if _, err := j.Read(t.Context(), api.EventQuery{After: bad, Limit: 1}); !errors.Is(err, api.ErrBadPosition) {
			t.Errorf("after %s: %v", bad, err)
		}
		if _, err := j.Read(t.Context(), api.EventQuery{Before: bad, Limit: 1}); !errors.Is(err, api.ErrBadPosition) {
			t.Errorf("before %s: %v", bad, err)
		}
	}
}
