package director

import (
	"context"
	"iter"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
)

// interrupted is a plane that does not get done, while a test says so, before it is told to stop.
type interrupted struct {
	plane.Plane
	on atomic.Bool
}

func (p *interrupted) Apply(ctx context.Context, u plane.Update) error {
	if p.on.Load() {
		return stopped(ctx)
	}
	return p.Plane.Apply(ctx, u)
}

func (p *interrupted) Replace(ctx context.Context, c plane.Config, e iter.Seq[plane.Entry]) error {
	if p.on.Load() {
		return stopped(ctx)
	}
	return p.Plane.Replace(ctx, c, e)
}

func stopped(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// A director that is told to stop in the middle of something has no fault to tell of.
func TestAStopIsNoFault(t *testing.T) {
	for _, c := range []struct {
		name string
		does func(w *world, p *interrupted)
	}{
		{"while it holds the VIPs", func(w *world, _ *interrupted) {
			w.host.set(func(m *machine) { m.hold = stopped })
			time.Sleep(2 * time.Second)
		}},
		{"while it programs a change", func(w *world, p *interrupted) {
			p.on.Store(true)
			go func() { _, _ = w.d.Do(w.t.Context(), []affinity.Op{put(site(2))}) }()
		}},
		{"while it programs the plane whole", func(w *world, p *interrupted) {
			refusing := &refusing{Plane: p.Plane}
			refusing.off.Store(true)
			p.Plane = refusing
			w.must(put(site(2)))
			p.on.Store(true)
			time.Sleep(2 * replaceRest)
		}},
		{"while it takes another plane out", func(w *world, _ *interrupted) {
			w.stop()
			w.supplant = func(ctx context.Context) (bool, error) {
				if w.d == nil { // it is being opened
					return false, errFull
				}
				return false, stopped(ctx)
			}
			w.d = nil
			w.start()
			time.Sleep(2 * time.Second)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				p, said := &interrupted{Plane: w.plane}, &strings.Builder{}
				w.over, w.log = p, slog.New(slog.NewTextHandler(said, &slog.HandlerOptions{Level: slog.LevelWarn}))
				w.restart(false)
				w.base(1)
				c.does(w, p)
				synctest.Wait()
				w.stop()
				if strings.Contains(said.String(), context.Canceled.Error()) {
					t.Errorf("its log has:\n%s", said)
				}
				for _, e := range w.kept.take(t, "address", "plane", "refused") {
					if strings.Contains(e, context.Canceled.Error()) {
						t.Errorf("its journal has: %s", e)
					}
				}
				p.Plane, w.supplant = w.plane, nil
				p.on.Store(false)
				w.host.set(func(m *machine) { m.hold = nil })
				w.start()
			})
		})
	}
}
