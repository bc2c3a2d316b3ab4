package blackbox

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"tunneldirector/director/plane"
)

// A watch shows what fits, dropped or not, for as long as it goes on; the plane is told to go on, and that it has ended.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := run(t, Options{Dir: t.TempDir()})
		ctx, cancel := context.WithCancel(t.Context())
		var got []int
		ended := make(chan error, 1)
		go func() {
			ended <- w.Watch(ctx, "ann", somewhere, func(s plane.Sample) error {
				got = append(got, s.Length)
				s.Head[0] = 0xff // it is the receiver's
				return nil
			})
		}()
		synctest.Wait()
		w.show(plane.Sample{At: time.Now(), Length: 1, Head: []byte{0}, Watched: true})
		w.show(plane.Sample{At: time.Now(), Length: 2, Head: []byte{0}, Reason: plane.DropDead})
		w.show(plane.Sample{At: time.Now(), Length: 3, Head: []byte{0}, Reason: plane.DropDead, Watched: true})
		w.show(plane.Sample{At: time.Now(), Length: 4, Head: []byte{0}, Reason: plane.PassMAC, Watched: true})
		w.show(plane.Sample{At: time.Now(), Length: 5, Head: []byte{0}, Reason: plane.DropDead, Watched: true, Foretold: true}) // told, not recorded
		time.Sleep(7 * time.Second)
		var by ErrWatched
		if err := w.Watch(t.Context(), "bob", plane.Watch{}, nil); !errors.As(err, &by) || by.By != "ann" || !strings.HasPrefix(by.Error(), "ann watches packets since 2000-01-01T00:00:00Z") || time.Since(by.Since) != 7*time.Second {
			t.Errorf("a second one is told %v", err)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if d := cmp.Diff([]int{1, 3, 4, 5}, got); d != "" {
			t.Error(d)
		}
		want := []watched{{somewhere, watchFor}, {somewhere, watchFor}, {somewhere, watchFor}, {}}
		if d := cmp.Diff(want, w.plane.watches, cmp.AllowUnexported(watched{}), cmpopts.EquateComparable(plane.Watch{})); d != "" {
			t.Error(d)
		}
		w.show(plane.Sample{At: time.Now(), Length: 6, Head: []byte{0}, Watched: true}) // to nobody
		rec, err := w.Record(t.Context(), "ann", "")
		check(t, err)
		if c := w.read(rec.ID); len(c.samples) != 2 || c.samples[1].Length != 3 || c.samples[1].Head[0] != 0 {
			t.Errorf("recorded is %q", c.packets)
		}
	})
}

// Who watches goes on seeing packets when the goroutine that owns the ring hangs with its disk; and the ring goes on after that.
func TestWatchWhileTheDiskHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := run(t, Options{Dir: t.TempDir()})
		ctx, cancel := context.WithCancel(t.Context())
		n := 0
		ended := make(chan error, 1)
		go func() {
			ended <- w.Watch(ctx, "ann", somewhere, func(plane.Sample) error { n++; return nil })
		}()
		synctest.Wait()
		w.asks <- func() { time.Sleep(time.Hour) }
		const all = 3000
		began := time.Now()
		for range all {
			w.show(plane.Sample{At: time.Now(), Length: 1, Head: []byte{0}, Reason: plane.DropDead, Watched: true})
			synctest.Wait()
		}
		if n < all-1 || time.Since(began) > 2*ringWaits {
			t.Errorf("after %v %d packets of %d were seen", time.Since(began), n, all)
		}
		time.Sleep(time.Hour)
		w.drop(plane.DropLoop, 1)
		synctest.Wait()
		if l := w.list(); len(l.Kept) != 2 {
			t.Errorf("in memory are %+v", l.Kept)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// Who takes a packet slowly loses some, and holds nobody up: not the ring, nor who asks.
func TestSlowWatcher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := run(t, Options{Dir: t.TempDir()})
		ctx, cancel := context.WithCancel(t.Context())
		n := 0
		ended := make(chan error, 1)
		go func() {
			ended <- w.Watch(ctx, "ann", somewhere, func(plane.Sample) error {
				n++
				time.Sleep(time.Second)
				return nil
			})
		}()
		synctest.Wait()
		began := time.Now()
		for range 10_000 {
			w.show(plane.Sample{At: time.Now(), Length: 1, Head: []byte{0}, Reason: plane.DropDead, Watched: true})
		}
		if l := w.list(); len(l.Kept) != 1 || time.Since(began) != 0 {
			t.Errorf("after %v there is %+v", time.Since(began), l)
		}
		time.Sleep(2 * watchWaits * time.Second)
		cancel()
		if err := <-ended; err != nil || n != watchWaits+1 {
			t.Errorf("%d packets, then %v", n, err)
		}
	})
}

// What ends a watch but its time, and what it says; the next one may begin then.
func TestWatchFails(t *testing.T) {
	refused := errors.New("no map")
	for _, tt := range []struct {
		name string
		make func(w *world)
		f    func(plane.Sample) error
		want string
		told int // how often the plane is told
	}{
		{"a client that is gone", func(w *world) { w.show(plane.Sample{Watched: true}) }, func(plane.Sample) error { return errors.New("broken pipe") }, "broken pipe", 2},
		{"a plane that refuses a renewal", func(w *world) {
			w.plane.mu.Lock()
			w.plane.refuses = refused
			w.plane.mu.Unlock()
		}, nil, "watch packets: no map\nend a watch of packets: no map", 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := run(t, Options{Dir: t.TempDir()})
				ended := make(chan error, 1)
				go func() { ended <- w.Watch(t.Context(), "ann", somewhere, tt.f) }()
				synctest.Wait()
				tt.make(w)
				if err := <-ended; err == nil || err.Error() != tt.want {
					t.Errorf("it ends with %v, want %s", err, tt.want)
				}
				if n := len(w.plane.watches); n != tt.told {
					t.Errorf("the plane is told %d times", n)
				}
				w.plane.refuses = refused
				if err := w.Watch(t.Context(), "bob", somewhere, nil); !errors.Is(err, refused) {
					t.Errorf("the next one is told %v", err)
				}
				w.plane.refuses = nil
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				check(t, w.Watch(ctx, "bob", somewhere, nil))
			})
		})
	}
}

// A plane that shows no packets is asked again until it does; the list says so, who would watch is told, and the daemon goes on.
func TestPlaneFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := run(t, Options{Dir: t.TempDir()})
		close(w.plane.show) // it ends
		w.plane.fail(errors.New("no such map"))
		time.Sleep(time.Minute)
		if l := w.list(); l.Error != "samples cannot be taken: no such map" {
			t.Errorf("the list says %q", l.Error)
		}
		if err := w.Watch(t.Context(), "ann", somewhere, nil); err == nil || !strings.Contains(err.Error(), "no such map") {
			t.Errorf("who would watch is told %v", err)
		}
		w.plane.show = make(chan plane.Sample)
		w.plane.fail(nil)
		w.plane.count(nil, errors.New("no counters"))
		time.Sleep(2*retryMost + settled)
		if l := w.list(); l.Error != "drops cannot be counted: no counters" {
			t.Errorf("then the list says %q", l.Error)
		}
		w.plane.count(nil, nil)
		w.drop(plane.DropLoop, 60)
		time.Sleep(every)
		if l := w.list(); l.Error != "" || len(l.Recordings) != 1 {
			t.Errorf("at last there is %+v", l)
		}
	})
}
