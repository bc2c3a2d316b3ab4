package drills

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"tunneldirector/director/drill"
)

// TestBuiltin runs all drills that come with the program, in one lab: three times each, in a larger one, with SOAK.
func TestBuiltin(t *testing.T) {
	t.Parallel()
	o, rounds := Options{Directors: 2, Sites: 6, RealServers: 3}, 1
	if long() {
		o, rounds = Options{Directors: 3, Sites: 40, RealServers: 6}, 3
	}
	w := open(t, o)
	for round := range rounds {
		for _, d := range drill.Builtin() {
			t.Run(fmt.Sprintf("%s/%d", d.Name, round+1), func(t *testing.T) {
				if res := run(t, w, d); !res.Passed {
					t.Errorf("aborted: %q, failures: %+v", res.Aborted, res.Failures)
				}
			})
		}
	}
}

// run runs a drill once all is settled, and logs what it came to.
func run(t *testing.T, w *World, d *drill.Drill) *drill.Result {
	t.Helper()
	until(t, w, "be ready for the drill", func(st drill.State) bool {
		_, err := drill.NewPlan(st, d, drill.Options{})
		return err == nil
	})
	res, err := drill.Run(t.Context(), w, d, drill.Options{World: "lab", Progress: func(what string) { t.Log(what) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("MEASURED %s in %.1f s: outage %+v, %d of %d packets lost, %d tunnels moved, %d wrongly, %+v",
		d.Name, res.Ended.Sub(res.Began).Seconds(), res.Outage, res.Lost, res.Sent, res.Moved, res.Wrongly, res.Phases)
	if !res.Passed {
		for _, m := range res.TimeLine {
			t.Log(m.After, m.By, m.What)
		}
	}
	return res
}

// TestFails: a drill whose expectation does not hold fails, and says which tunnel it was and when; one that is given up has undone its fault.
func TestFails(t *testing.T) {
	t.Parallel()
	w := open(t, Options{Directors: 2, Sites: 2, RealServers: 2})
	d := builtin(t, "host-loss")
	d.Expect.Outage.Worst = time.Millisecond
	res := run(t, w, d)
	if res.Passed || res.Aborted != "" || len(res.Failures) == 0 {
		t.Fatalf("passed %t, aborted %q, failures %+v", res.Passed, res.Aborted, res.Failures)
	}
	f, lost := res.Failures[0], res.Faults[0]
	i := slices.IndexFunc(res.Tunnels, func(o drill.Outcome) bool { return o.Name == f.Tunnel })
	if i < 0 || f.At == nil || f.At.Before(lost.At.Add(-time.Second)) || f.At.After(*lost.Undone) {
		t.Fatalf("the failure is of %q at %v; %+v", f.Tunnel, f.At, lost)
	}
	if o := res.Tunnels[i]; o.From != lost.Target || o.Lost == 0 || o.Outage < 300*time.Millisecond { // it takes longer to see that a host is dead
		t.Errorf("%s was lost, and the failure is of %+v", lost.Target, o)
	}

	d = builtin(t, "terminator-hang")
	d.Abort.Outage = time.Second
	res = run(t, w, d)
	if res.Passed || res.Aborted == "" || len(res.Faults) != 1 || res.Faults[0].Undone == nil {
		t.Errorf("passed %t, aborted %q, faults %+v", res.Passed, res.Aborted, res.Faults)
	}
	until(t, w, "settle after it was given up", settled)
}

func builtin(t *testing.T, name string) *drill.Drill {
	t.Helper()
	all := drill.Builtin()
	i := slices.IndexFunc(all, func(d *drill.Drill) bool { return d.Name == name })
	if i < 0 {
		t.Fatalf("no drill %s comes with the program", name)
	}
	return all[i]
}
