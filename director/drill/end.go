package drill

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// end brings the world back, and then judges. ctx is one that lasts.
func (r *run) end(ctx context.Context, why error) *Result {
	if why != nil {
		first, _, _ := strings.Cut(why.Error(), "\n")
		r.tell("given up: %s", first)
	}
	_ = r.undo(ctx) // each fault knows its error
	r.tellLeft()
	if len(r.faults) > 0 {
		r.restore(ctx)
	}
	_ = sleep(ctx, probeAfter)
	after, err := stateOf(ctx, r.w)
	if err != nil {
		r.fail(Failure{What: fmt.Sprintf("which tunnels moved is not known: %v", err)})
		after = r.before
	}
	packets := r.stop()
	ended := time.Now()
	events, err := r.w.Events(ctx, r.began)
	if err != nil {
		r.tell("not all events of directors are known: %v", err)
	}
	slices.SortStableFunc(events, func(a, b Event) int { return a.Time.Compare(b.Time) })
	res := &Result{
		ID: r.d.Name + "-" + r.began.UTC().Format("20060102T150405Z"), Drill: *r.d, World: r.o.World, Began: r.began, Ended: ended,
		Failures: []Failure{}, Faults: []Injected{}, Tunnels: []Outcome{},
	}
	if why != nil {
		res.Aborted = why.Error()
	}
	for _, x := range r.faults {
		res.Faults = append(res.Faults, x.Injected)
	}
	r.judge(res, packets, after, events)
	return res
}

// restore waits until all is settled, and all tunnels of the sample answer again. What does not come back fails the drill, whatever was
// measured until then.
func (r *run) restore(ctx context.Context) {
	quiet := max(probeAfter, 4*r.d.Sample.Every)
	end := time.Now().Add(settleWithin)
	err := r.settle(ctx, settleWithin, 0)
	for time.Now().Before(end) {
		if tunnel, _ := r.mute(quiet); tunnel == "" {
			break
		}
		_ = sleep(ctx, lookEvery)
	}
	if err != nil {
		r.fail(Failure{What: fmt.Sprintf("after all was undone: %v", err)})
	}
	if tunnel, silent := r.mute(quiet); tunnel != "" {
		since := time.Now().Add(-silent)
		r.fail(Failure{What: "a tunnel does not answer any more, " + settleWithin.String() + " after all was undone", Tunnel: tunnel, At: &since})
	}
}
