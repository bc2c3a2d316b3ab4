package director

import (
	"context"
	"errors"
	"iter"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tunneldirector/affinity"
	"tunneldirector/director/api"
	"tunneldirector/director/plane"
	"tunneldirector/director/plane/mem"
)

// late is a plane that refuses to be replaced until it is told otherwise.
type late struct {
	*mem.Plane
	refuses atomic.Bool
}

func (l *late) Replace(ctx context.Context, c plane.Config, e iter.Seq[plane.Entry]) error {
	if l.refuses.Load() {
		return errors.New("not yet")
	}
	return l.Plane.Replace(ctx, c, e)
}

// Another plane goes when this one holds the table, not before; again and again until it is gone, and not a second time.
func TestAnotherPlaneIsSupplanted(t *testing.T) {
	inWorld(t, func(w *world) {
		w.base(1)
		var calls atomic.Int32
		var stays atomic.Bool
		stays.Store(true)
		p := &late{Plane: w.plane}
		p.refuses.Store(true)
		w.over = p
		w.supplant = func(context.Context) (bool, error) {
			calls.Add(1)
			if stays.Load() {
				return true, errors.New("device busy")
			}
			return true, nil
		}
		w.restart(false)
		w.settle()
		if n := calls.Load(); n != 0 {
			t.Fatalf("taken out %d times before the plane held the table", n)
		}
		if got, err := w.d.View().Up(t.Context(), []*affinity.Tunnel{site(1)}); err != nil || got[0].By != api.ByNobody {
			t.Errorf("evidence by %q while packets may go by the other plane, %v", got[0].By, err)
		}
		p.refuses.Store(false)
		w.settle()
		s, err := w.d.View().Status(t.Context())
		if err != nil || calls.Load() < 2 || !strings.Contains(strings.Join(s.Alarms, "\n"), "another plane is still in the kernel and may take packets: device busy") {
			t.Fatalf("%d calls, alarms %q, %v", calls.Load(), s.Alarms, err)
		}
		stays.Store(false)
		calls.Store(0)
		w.settle()
		s, _ = w.d.View().Status(t.Context())
		if calls.Load() != 1 || strings.Contains(strings.Join(s.Alarms, "\n"), "another plane") {
			t.Errorf("%d calls, alarms %q", calls.Load(), s.Alarms)
		}
	})
}

// Packets went by the other plane: this one's not having seen any says nothing for as long as such words count.
func TestNobodyKnowsAfterAnotherPlane(t *testing.T) {
	for _, was := range []bool{true, false} {
		inWorld(t, func(w *world) {
			w.base(1)
			w.supplant = func(context.Context) (bool, error) { return was, nil }
			w.restart(false)
			by := func() string {
				got, err := w.d.View().Up(t.Context(), []*affinity.Tunnel{site(1)})
				if err != nil {
					t.Fatal(err)
				}
				return got[0].By
			}
			want := map[bool]string{true: api.ByNobody}[was]
			if got := by(); got != want {
				t.Errorf("there was another plane: %v; evidence by %q, want %q", was, got, want)
			}
			time.Sleep(upWindow)
			if got := by(); got != "" {
				t.Errorf("evidence by %q when the plane had seen 180 s", got)
			}
		})
	}
}
