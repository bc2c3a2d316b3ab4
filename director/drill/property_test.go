package drill

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// Whatever a drill does, whatever the world answers, and whenever it is given up: each fault that was made is undone once, or is a failure
// of the result; no fault is made after it was given up, nor one without an end.
func TestUndoneOnce(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		d := drawDrill(rt)
		give := rapid.SampledFrom([]time.Duration{time.Hour, 0, 1500 * time.Millisecond, 5 * time.Second}).Draw(rt, "given up after")
		odd := map[Kind]string{}
		for _, k := range Kinds() {
			odd[Kind(k)] = rapid.SampledFrom([]string{"", "", "", "", "refused", "torn", "fails", "hangs"}).Draw(rt, k)
		}
		dead := rapid.SampledFrom([]time.Duration{cutFor, cutFor, 20 * time.Second}).Draw(rt, "cut for")
		var wrong []string
		synctest.Test(t, func(t *testing.T) { wrong = runOdd(t, d, odd, give, dead) })
		if len(wrong) > 0 {
			rt.Fatal(strings.Join(wrong, "\n"))
		}
	})
}

func drawDrill(rt *rapid.T) *Drill {
	var steps []Step
	inPlace := map[string]bool{}
	for range rapid.IntRange(1, 8).Draw(rt, "steps") {
		switch rapid.IntRange(0, 5).Draw(rt, "step") {
		case 0:
			steps = append(steps, Step{Wait: time.Second})
		case 1:
			steps, inPlace = append(steps, Step{Undo: true}), map[string]bool{}
		case 2:
			steps = append(steps, Step{Settle: 5 * time.Second})
		default:
			s := Step{Fault: Kind(rapid.SampledFrom(Kinds()).Draw(rt, "kind"))}
			if s.Fault == DirectorRestart {
				s.Target = Each
			}
			if what := string(s.Fault) + s.Target; !inPlace[what] {
				steps, inPlace[what] = append(steps, s), true
			}
		}
	}
	if len(steps) == 0 {
		steps = []Step{{Undo: true}}
	}
	abort := Abort{Outage: 3 * time.Second, RealServers: rapid.IntRange(0, 3).Draw(rt, "real servers"), Directors: rapid.IntRange(0, 2).Draw(rt, "directors")}
	hasFault := slices.ContainsFunc(steps, func(s Step) bool { return s.Fault != "" })
	return mine(Expect{Moved: MovedAny, Refused: hasFault && rapid.IntRange(0, 3).Draw(rt, "refused") == 0}, abort, steps...)
}

// runOdd runs a drill in a world where some faults are odd, and says what is wrong then.
func runOdd(t *testing.T, d *Drill, odd map[Kind]string, give, dead time.Duration) (wrong []string) {
	w := newScripted(t)
	for k, how := range odd {
		w.forLong[k] = dead
		switch how {
		case "refused":
			w.refuse[k] = fmt.Errorf("not here: %w", ErrRefused)
		case "torn":
			w.torn[k] = errors.New("the answer was lost")
		case "fails":
			w.failing[k] = errors.New("the host does not answer")
		case "hangs":
			w.hanging[k] = true
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), give)
	defer cancel()
	res, err := Run(ctx, w, d, Options{})
	if err != nil {
		if len(w.made) > 0 || give > 0 {
			return []string{fmt.Sprintf("%v, after %d faults", err, len(w.made))}
		}
		return nil
	}
	told := func(h *happening) bool {
		return slices.ContainsFunc(res.Failures, func(f Failure) bool {
			return strings.HasPrefix(f.What, string(h.Kind)) && strings.Contains(f.What, "could not be undone")
		})
	}
	for _, h := range w.made {
		i := slices.IndexFunc(res.Faults, func(x Injected) bool { return x.ID == h.ID })
		switch {
		case i < 0:
			wrong = append(wrong, fmt.Sprintf("%s is not in the result", h.Kind))
		case h.done > 1 || h.done == 0 && !told(h) || h.done == 1 && res.Faults[i].Undone == nil:
			wrong = append(wrong, fmt.Sprintf("%s was undone %d times, result %+v, failures %+v", h.Kind, h.done, res.Faults[i], res.Failures))
		}
		if late := h.at.Sub(res.Began) - give; late > 0 {
			wrong = append(wrong, fmt.Sprintf("%s was made %s after it was given up", h.Kind, late))
		}
	}
	if res.Passed && (res.Aborted != "" || slices.ContainsFunc(w.made, func(h *happening) bool { return h.done == 0 })) {
		wrong = append(wrong, fmt.Sprintf("passed: %+v", res))
	}
	return append(wrong, w.wrong...)
}
