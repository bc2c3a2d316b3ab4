package drill

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

// A fault that cannot be undone is tried again at the end, and then is a failure that says so; the others are undone meanwhile.
func TestUndoFails(t *testing.T) {
	two := []Step{theHostLoss(), {Fault: DirectorHang, Target: "d2"}, {Wait: time.Second}, {Undo: true}, {Wait: time.Minute}}
	t.Run("says no", func(t *testing.T) {
		in(t, func(t *testing.T, w *scripted) {
			w.failing[HostLoss] = errors.New("the host does not answer")
			res := w.run(mine(Expect{Moved: MovedAny}, Abort{}, two...))
			if h := w.made[0]; h.tries != 2 || h.done != 0 || w.made[1].done != 1 {
				t.Errorf("%+v, %+v", h, w.made[1])
			}
			const why = "host-loss of rs1 could not be undone, it ends by itself 30s after it began: the host does not answer"
			if len(res.Failures) == 0 || res.Failures[0].What != why || !res.Failures[0].At.Equal(w.made[0].at) || res.Faults[0].Error == "" || res.Faults[0].Undone != nil {
				t.Errorf("%+v", res.Failures)
			}
			if res.Aborted != "undo host-loss of rs1: the host does not answer" {
				t.Errorf("aborted %q", res.Aborted)
			}
		})
	})
	t.Run("hangs", func(t *testing.T) {
		in(t, func(t *testing.T, w *scripted) {
			w.hanging[HostLoss] = true
			res := w.run(mine(Expect{Moved: MovedAny}, Abort{}, two...))
			if h := w.made[1]; h.done != 1 || h.undone.Sub(h.at) > 1100*time.Millisecond {
				t.Errorf("the other one was undone %d times, after %s", h.done, h.undone.Sub(h.at))
			}
			if len(res.Failures) == 0 || !strings.Contains(res.Failures[0].What, "host-loss of rs1 could not be undone") {
				t.Errorf("%+v", res.Failures)
			}
		})
	})
	t.Run("recovers", func(t *testing.T) {
		in(t, func(t *testing.T, w *scripted) {
			w.failing[HostLoss] = errors.New("not now")
			time.AfterFunc(2*time.Second, func() {
				w.mu.Lock()
				defer w.mu.Unlock()
				delete(w.failing, HostLoss)
			})
			w.hanging[DirectorHang] = true // so that the end comes later
			res := w.run(mine(Expect{Moved: MovedAny}, Abort{}, two...))
			if h := w.made[0]; h.tries != 2 || h.done != 1 || res.Faults[0].Undone == nil || res.Faults[0].Error != "not now" {
				t.Errorf("%+v, %+v", h, res.Faults[0])
			}
			if len(res.Failures) == 0 || !strings.Contains(res.Failures[0].What, "director-hang of d2 could not be undone") {
				t.Errorf("%q, %+v", res.Aborted, res.Failures)
			}
		})
	})
}

// Whoever waits for it may give up: all is undone all the same.
func TestRunCancelled(t *testing.T) {
	in(t, func(t *testing.T, w *scripted) {
		ctx, cancel := context.WithTimeoutCause(t.Context(), 2*time.Second, errors.New("interrupted"))
		defer cancel()
		res, err := Run(ctx, w, mine(Expect{Moved: MovedAny}, Abort{}, theHostLoss(), Step{Wait: time.Minute}), Options{})
		if err != nil {
			t.Fatal(err)
		}
		if w.allUndone(); res.Aborted != "interrupted" || len(res.Failures) > 0 || w.made[0].undone.Sub(w.made[0].at) > 2*time.Second {
			t.Errorf("aborted %q after %s: %+v", res.Aborted, w.made[0].undone.Sub(w.made[0].at), res.Failures)
		}
	})
}

// What is being undone when it is given up is not cut short.
func TestRunCancelledWhileUndoing(t *testing.T) {
	in(t, func(t *testing.T, w *scripted) {
		w.slow[HostLoss] = 3 * time.Second
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if _, err := Run(ctx, w, mine(Expect{Moved: MovedAny}, Abort{}, theHostLoss(), Step{Undo: true}, Step{Wait: time.Minute}), Options{}); err != nil {
			t.Fatal(err)
		}
		if w.allUndone(); w.made[0].tries != 1 {
			t.Errorf("%d tries", w.made[0].tries)
		}
	})
}

// A panic goes on after all was undone, also one of the watcher.
func TestRunPanics(t *testing.T) {
	for _, where := range []string{"inject director-hang", "state"} {
		t.Run(where, func(t *testing.T) {
			in(t, func(t *testing.T, w *scripted) {
				n := 0
				w.panics = func(what string) bool {
					if what == where && len(w.made) > 0 {
						n++
					}
					return n == 1 && what == where
				}
				defer func() {
					w.allUndone()
					p, ok := recover().(*panicked)
					if !ok || len(w.made) != 1 || !strings.Contains(p.Error(), "the world ends") || !strings.Contains(p.Error(), "world_test.go") {
						t.Errorf("%v after %d faults", p, len(w.made))
					}
				}()
				w.run(mine(Expect{}, Abort{}, theHostLoss(), Step{Wait: 2 * time.Second}, Step{Fault: DirectorHang}))
				t.Error("no panic")
			})
		})
	}
}
