package drill

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
)

// mine is a drill by its steps.
func mine(expect Expect, abort Abort, steps ...Step) *Drill {
	d := &Drill{Name: "mine", What: "A test.", Sample: Sample{Tunnels: 6}, Steps: steps, Expect: expect, Abort: abort}
	d.fillIn()
	return d
}

func theHostLoss() Step { return Step{Fault: HostLoss, Target: "rs1"} }

// hostLoss takes rs1 away for 3 s.
func hostLoss(expect Expect) *Drill {
	return mine(expect, Abort{}, Step{Wait: time.Second}, theHostLoss(), Step{Wait: 3 * time.Second}, Step{Undo: true}, Step{Settle: 10 * time.Second})
}

func (w *scripted) run(d *Drill) *Result {
	w.t.Helper()
	res, err := Run(w.t.Context(), w, d, Options{World: "lab"})
	if err != nil {
		w.t.Fatal(err)
	}
	if res.Passed != (res.Aborted == "" && len(res.Failures) == 0) {
		w.t.Errorf("passed %t, aborted %q, failures %+v", res.Passed, res.Aborted, res.Failures)
	}
	return res
}

// allUndone demands that each fault was undone, and once.
func (w *scripted) allUndone() {
	w.t.Helper()
	for _, h := range w.made {
		if h.done != 1 {
			w.t.Errorf("%s of %s was undone %d times in %d tries", h.Kind, h.Target, h.done, h.tries)
		}
	}
}

// A drill that goes as it should passes, and its result says what happened.
func TestRunPasses(t *testing.T) {
	in(t, func(t *testing.T, w *scripted) {
		var told []string
		res, err := Run(t.Context(), w, hostLoss(Expect{Outage: Outage{Worst: 1250 * time.Millisecond}, Lost: new(10.0), Moved: MovedTarget}),
			Options{World: "lab", Progress: func(what string) { told = append(told, what) }})
		if err != nil {
			t.Fatal(err)
		}
		w.allUndone()
		if !res.Passed || res.Aborted != "" || len(res.Failures) > 0 || res.World != "lab" || res.ID != "mine-20000101T000000Z" {
			t.Errorf("%s in %q passed %t, aborted %q: %+v", res.ID, res.World, res.Passed, res.Aborted, res.Failures)
		}
		if res.Outage.Median != 0 || res.Outage.P99 < cutFor-100*time.Millisecond || res.Outage.P99 > cutFor || res.Outage.Worst != res.Outage.P99 {
			t.Errorf("outage %+v, and two of six tunnels were cut off for %s", res.Outage, cutFor)
		}
		if res.Moved != 2 || res.Wrongly != 0 || res.Lost != 48 || res.Sent < 6*100 {
			t.Errorf("moved %d, wrongly %d, lost %d of %d", res.Moved, res.Wrongly, res.Lost, res.Sent)
		}
		for _, o := range res.Tunnels {
			cut := o.Name == "site-1" || o.Name == "site-4"
			if o.Moved != cut || (o.Outage > 0) != cut || cut && (o.From != "rs1" || o.To != "rs2" || o.At.IsZero()) {
				t.Errorf("%+v", o)
			}
		}
		if p := res.Phases; p.Detected != deadAfter || p.Decided != moveAfter || p.DataPlane < cutFor || p.DataPlane > cutFor+50*time.Millisecond || p.Reestablished != p.DataPlane {
			t.Errorf("phases %+v", p)
		}
		var lines []string
		for _, m := range res.TimeLine {
			lines = append(lines, fmt.Sprintf("%.1f %s %s", m.After.Seconds(), m.By, m.What))
		}
		want := []string{
			"-1.0  the sample answers: 6 tunnels", "0.0  host-loss of rs1, for 30s at most", "0.6 d1 real-server rs1: dead: no answer",
			"0.7 d1 moved group of site-1 from rs1 to rs2: failed-over (and 1 more)", "3.0  undone: host-loss of rs1", "3.8  settled", "3.8  settled",
		}
		if diff := gocmp.Diff(want, lines); diff != "" {
			t.Error(diff)
		}
		if len(told) != 5 {
			t.Errorf("told %q", told)
		}
		if f := res.Faults; len(f) != 1 || f[0].Undone == nil || f[0].Undone.Sub(f[0].At) != 3*time.Second || f[0].Error != "" || f[0].For != 30*time.Second {
			t.Errorf("faults %+v", f)
		}
	})
}

// What was expected and is not so fails, and the failure says which tunnel, and when.
func TestRunFails(t *testing.T) {
	for _, tt := range []struct {
		name   string
		expect Expect
		world  func(*scripted)
		what   string // part of the only failure
		tunnel string
		after  time.Duration // the fault, about; -1: it says no time
	}{
		{"worst", Expect{Outage: Outage{Worst: time.Millisecond}, Moved: MovedAny}, nil, "outage, worst: 1.2s, and 1ms at most was expected; tunnel site-1 was out for 1.2s", "site-1", 0},
		{"p99", Expect{Outage: Outage{P99: time.Second}, Moved: MovedAny}, nil, "outage, 99th percentile: 1.2s, and 1s at most", "site-1", 0},
		{"median", Expect{Outage: Outage{Median: time.Second}, Moved: MovedAny}, func(w *scripted) {
			for i := range w.start.Tunnels[:3] {
				w.start.Tunnels[i].RealServer = "rs1"
			}
		}, "outage, median: 1.2s, and 1s at most", "site-1", 0},
		{"lost", Expect{Lost: new(0.5), Moved: MovedAny}, nil, "lost 6.", "site-1", 0},
		{"none may move", Expect{}, nil, `2 tunnels moved, and none was to: site-1, site-4; site-1 went from rs1 to "rs2"`, "site-1", moveAfter},
		{"not to its backup", Expect{Moved: MovedTarget}, func(w *scripted) { w.goTo = func(t Tunnel) string { return "rs3" } },
			"2 tunnels moved that must not, or not to the backup: site-1, site-4; site-1 went from rs1 to", "site-1", moveAfter},
		{"nowhere", Expect{Moved: MovedTarget}, func(w *scripted) { w.goTo = func(t Tunnel) string { return "" } }, "2 tunnels moved that must not", "site-1", moveAfter},
		{"from elsewhere", Expect{Moved: MovedTarget}, func(w *scripted) {
			w.state = func(s *State) {
				if len(w.made) > 0 {
					s.Tunnels[1].RealServer = "rs3"
				}
			}
		}, "1 tunnel moved that must not, or not to the backup: site-2", "site-2", -1},
		{"stayed", Expect{Moved: MovedTarget}, func(w *scripted) { w.goTo = func(t Tunnel) string { return "rs1" } }, "2 tunnels stayed at a real server that a fault befell: site-1, site-4", "site-1", moveAfter},
		{"does not come back", Expect{Moved: MovedAny}, func(w *scripted) { w.forLong[HostLoss] = time.Hour }, "a tunnel does not answer any more, 30s after all was undone", "site-1", 0},
		{"does not settle", Expect{Moved: MovedAny}, func(w *scripted) {
			w.state = func(s *State) {
				if len(w.made) > 0 && !w.made[0].undone.IsZero() {
					s.Unsettled = "tables differ"
				}
			}
		}, "after all was undone: not settled within 30s: tables differ", "", -1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in(t, func(t *testing.T, w *scripted) {
				if tt.world != nil {
					tt.world(w)
				}
				res := w.run(hostLoss(tt.expect))
				w.allUndone()
				if res.Passed || len(res.Failures) != 1 {
					t.Fatalf("passed %t: %+v", res.Passed, res.Failures)
				}
				f := res.Failures[0]
				if !strings.Contains(f.What, tt.what) || f.Tunnel != tt.tunnel || (f.At == nil) != (tt.after < 0) {
					t.Errorf("%+v", f)
				}
				if f.At != nil {
					if off := f.At.Sub(res.Faults[0].At) - tt.after; off < -60*time.Millisecond || off > 60*time.Millisecond {
						t.Errorf("%s: %s off", f.What, off)
					}
				}
			})
		})
	}
}

// An abort condition ends it at once, and all is undone.
func TestRunAborts(t *testing.T) {
	for _, tt := range []struct {
		name  string
		abort Abort
		world func(*scripted)
		why   string
		after time.Duration // the fault, until it is undone, at most
	}{
		{"outage", Abort{Outage: 2 * time.Second}, func(w *scripted) { w.forLong[HostLoss] = time.Minute }, "tunnel site-1 has been silent for 2.", 2600 * time.Millisecond},
		{"real servers", Abort{RealServers: 3}, nil, "2 real servers alive; it aborts below 3", 1100 * time.Millisecond},
		{"directors", Abort{Directors: 2}, func(w *scripted) { w.state = func(s *State) { s.Directors[1].Ready = len(w.made) == 0 } }, "1 director ready; it aborts below 2", 600 * time.Millisecond},
		{"unplaced", Abort{Unplaced: 2}, func(w *scripted) { w.goTo = func(Tunnel) string { return "" } }, "2 tunnels of the sample without a real server; it aborts at 2", 1200 * time.Millisecond},
		{"gone", Abort{Unplaced: 6}, func(w *scripted) {
			w.state = func(s *State) {
				if len(w.made) > 0 {
					s.Tunnels = nil
				}
			}
		}, "6 tunnels of the sample without a real server", 600 * time.Millisecond},
		{"blind", Abort{}, func(w *scripted) { w.blind = func(time.Time) bool { return len(w.made) > 0 } }, "the state has not been known for 10s: nobody answers", 10600 * time.Millisecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in(t, func(t *testing.T, w *scripted) {
				if tt.world != nil {
					tt.world(w)
				}
				d := mine(Expect{Moved: MovedAny}, tt.abort, Step{Wait: time.Second}, theHostLoss(), Step{Wait: time.Minute}, Step{Undo: true})
				res := w.run(d)
				w.allUndone()
				if res.Passed || !strings.HasPrefix(res.Aborted, tt.why) {
					t.Errorf("aborted %q, want %q", res.Aborted, tt.why)
				}
				if took := w.made[0].undone.Sub(w.made[0].at); took > tt.after {
					t.Errorf("undone after %s, want %s", took, tt.after)
				}
				if !slices.ContainsFunc(res.TimeLine, func(m Mark) bool { return strings.HasPrefix(m.What, "given up: "+tt.why) }) {
					t.Errorf("%+v", res.TimeLine)
				}
			})
		})
	}
}

// A fault that whoever is asked refuses ends a drill, unless it has to be refused.
func TestRunRefused(t *testing.T) {
	empty := Step{Fault: NMSEmpty}
	no := fmt.Errorf("an empty table: %w", ErrRefused)
	for _, tt := range []struct {
		name    string
		expect  Expect
		refuse  error
		torn    error
		aborted string
		failed  string
		made    int
	}{
		{"as it has to be", Expect{Refused: true}, no, nil, "", "", 0},
		{"not wanted", Expect{}, no, nil, "make nms-empty: an empty table: refused", "", 0},
		{"not refused", Expect{Refused: true}, nil, nil, "nms-empty was not refused", "nms-empty was to be refused, and was not", 1},
		{"fails otherwise", Expect{Refused: true}, errors.New("no way there"), nil, "make nms-empty: no way there", "", 0},
		{"answer is lost", Expect{}, nil, context.DeadlineExceeded, "make nms-empty: context deadline exceeded", "", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in(t, func(t *testing.T, w *scripted) {
				w.refuse[NMSEmpty], w.torn[NMSEmpty] = tt.refuse, tt.torn
				res := w.run(mine(tt.expect, Abort{}, empty, Step{Wait: time.Second}))
				w.allUndone()
				if len(w.made) != tt.made || res.Aborted != tt.aborted || len(res.Failures) > 0 != (tt.failed != "") || tt.failed != "" && res.Failures[0].What != tt.failed {
					t.Errorf("made %d, aborted %q, failures %+v", len(w.made), res.Aborted, res.Failures)
				}
				if err := cmp.Or(tt.refuse, tt.torn); err != nil && (len(res.Faults) != 1 || res.Faults[0].Error != err.Error()) {
					t.Errorf("%+v", res.Faults)
				}
			})
		})
	}
}

// Where something is missing nothing is done, and all that is missing is told.
func TestRunNotReady(t *testing.T) {
	for _, tt := range []struct {
		name  string
		drill func(*Drill)
		o     Options
		world func(*scripted)
		want  []string
	}{
		{"needs", func(d *Drill) { d.Needs = Needs{Directors: 3, RealServers: 4, Tunnels: 7} }, Options{}, nil,
			[]string{"2 directors ready, and it needs 3", "3 real servers alive, and it needs 4", "6 tunnels up, and it needs 7"}},
		{"unsettled", nil, Options{}, func(w *scripted) { w.start.Unsettled = "x"; w.state = func(s *State) { s.Unsettled = "tables differ" } }, []string{"not all is as in peace: tables differ"}},
		{"no room", func(d *Drill) { d.Needs.Spare = true }, Options{}, func(w *scripted) {
			for i := range w.start.RealServers {
				w.start.RealServers[i].Capacity = 2
			}
		}, []string{"room for 0 tunnels, and the host of rs1 carries 2"}},
		{"no new tunnels there", func(d *Drill) { d.Needs.Spare = true }, Options{}, func(w *scripted) {
			w.start.RealServers[1].Closed, w.start.RealServers[2].Alive = "it is full", false
		}, []string{"room for 0 tunnels, and the host of rs1 carries 2", "rs2 gets no new tunnels: it is full"}},
		{"room on its own host", func(d *Drill) { d.Needs.Spare = true }, Options{}, func(w *scripted) {
			for i := range w.start.RealServers {
				w.start.RealServers[i].Host = "h"
			}
		}, []string{"room for 0 tunnels, and the host of rs1 carries 6"}},
		{"no such real server", nil, Options{Targets: map[string]string{"": "rs9"}}, nil, []string{"there is no real server rs9 that is alive"}},
		{"a dead one", nil, Options{}, func(w *scripted) { w.start.RealServers[0].Alive = false }, []string{"there is no real server rs1 that is alive"}},
		{"no director", func(d *Drill) { d.Steps = []Step{{Fault: DirectorHang, Target: "d9", For: time.Second}} }, Options{}, nil, []string{"there is no director d9 that is ready"}},
		{"a director that is not ready", func(d *Drill) { d.Steps = []Step{{Fault: DirectorHang, Target: "d2", For: time.Second}} }, Options{}, func(w *scripted) { w.start.Directors[1].Ready = false }, []string{"there is no director d2 that is ready"}},
		{"no owner", func(d *Drill) { d.Steps = []Step{{Fault: DirectorHang, Target: Owner, For: time.Second}} }, Options{}, func(w *scripted) { w.start.Directors[0].Holds = nil }, []string{"there is no director now that is called owner"}},
		{"none for each", func(d *Drill) { d.Steps = []Step{{Fault: DirectorRestart, Target: Each, For: time.Second}} }, Options{Targets: map[string]string{Each: "d9"}}, nil, []string{"there is no director d9"}},
		{"sample", nil, Options{Sample: []string{"site-9", "site-2"}}, func(w *scripted) { w.start.Tunnels[1].Up = false }, []string{"tunnel site-9, which is to be in the sample", "tunnel site-2, which"}},
		{"nothing up", nil, Options{}, func(w *scripted) {
			for i := range w.start.Tunnels {
				w.start.Tunnels[i].Up = false
			}
		}, []string{"no tunnel is up that packets"}},
		{"none at the target", nil, Options{}, func(w *scripted) { w.start.Tunnels[0].Up, w.start.Tunnels[3].Up = false, false }, []string{"no tunnel that is up is at real server rs1"}},
		{"no answer", nil, Options{}, func(w *scripted) { w.mute["site-5"] = true }, []string{"1 of 6 tunnels did not answer within 5s, site-5 is one of them"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in(t, func(t *testing.T, w *scripted) {
				d := hostLoss(Expect{})
				if tt.drill != nil {
					tt.drill(d)
				}
				if tt.world != nil {
					tt.world(w)
				}
				res, err := Run(t.Context(), w, d, tt.o)
				if !errors.Is(err, ErrNotReady) || res != nil || len(w.made) > 0 {
					t.Fatalf("%v, %v after %d faults", res, err, len(w.made))
				}
				for _, want := range tt.want {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("%v; lacks %q", err, want)
					}
				}
				if n := strings.Count(err.Error(), ";") + 1; n != len(tt.want) {
					t.Errorf("%d are missing, want %d: %v", n, len(tt.want), err)
				}
			})
		})
	}
	in(t, func(t *testing.T, w *scripted) {
		d := hostLoss(Expect{})
		d.Steps[1].For = 0
		if _, err := Run(t.Context(), w, d, Options{}); err == nil || !strings.Contains(err.Error(), "steps[1].for") || len(w.made) > 0 {
			t.Errorf("a fault for ever: %v", err)
		}
		w.blind = func(time.Time) bool { return true }
		if _, err := Run(t.Context(), w, hostLoss(Expect{}), Options{}); err == nil || !strings.Contains(err.Error(), "nobody answers") || len(w.made) > 0 {
			t.Errorf("an unknown state: %v", err)
		}
	})
}

// One that is drained is waited for until it is empty, and not for ever.
func TestEmptied(t *testing.T) {
	drain := mine(Expect{Moved: MovedTarget}, Abort{}, Step{Fault: Drain, Target: "rs1", For: time.Minute}, Step{Fault: LinkCut, Target: "rs2"}, Step{Emptied: 20 * time.Second}, Step{Undo: true})
	for _, tt := range []struct {
		name string
		left func(now time.Duration) int
		want string
	}{
		{"slowly", func(now time.Duration) int { return max(0, 2-int(now/(5*time.Second))) }, ""},
		{"never", func(time.Duration) int { return 1 }, "not emptied within 20s: rs1 has 1 tunnel still"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in(t, func(t *testing.T, w *scripted) {
				w.state = func(s *State) {
					s.RealServers[1].Tunnels = 99 // of one that is not drained
					if len(w.made) > 0 {
						s.RealServers[0].Tunnels = tt.left(time.Since(w.made[0].at))
					}
				}
				res := w.run(drain)
				if res.Aborted != tt.want || res.Passed != (tt.want == "") {
					t.Errorf("aborted %q, failures %+v", res.Aborted, res.Failures)
				}
				if d := w.made[0].undone.Sub(w.made[0].at); tt.want == "" && (d < 10*time.Second || d > 11*time.Second) {
					t.Errorf("undone after %v, want it as soon as it is empty, after 10 s", d)
				}
				w.allUndone()
			})
		})
	}
}

// What cannot be read at the end is told: where tunnels are fails the drill, what directors recorded does not.
func TestRunEndsBlind(t *testing.T) {
	in(t, func(t *testing.T, w *scripted) {
		w.noted = errors.New("d2 does not answer")
		w.events = []Event{{Time: time.Now().Add(time.Hour), By: "d2", Kind: "moved", Object: "group of site-1"}} // told out of order
		res := w.run(hostLoss(Expect{}))
		if !slices.ContainsFunc(res.TimeLine, func(m Mark) bool { return m.What == "not all events of directors are known: d2 does not answer" }) {
			t.Errorf("%+v", res.TimeLine)
		}
		if len(res.Failures) != 1 || res.Failures[0].At.Sub(w.made[0].at) != moveAfter || res.Phases.Decided != moveAfter {
			t.Errorf("%+v, %+v", res.Failures, res.Phases)
		}
	})
	in(t, func(t *testing.T, w *scripted) {
		w.blind = func(time.Time) bool { return len(w.made) > 0 && !w.made[0].undone.IsZero() }
		res := w.run(mine(Expect{}, Abort{}, theHostLoss(), Step{Wait: 3 * time.Second}))
		var what []string
		for _, f := range res.Failures {
			what = append(what, f.What)
		}
		want := []string{"after all was undone: not settled within 30s: nobody answers", "which tunnels moved is not known: nobody answers"}
		if diff := gocmp.Diff(want, what); diff != "" || res.Moved != 0 {
			t.Errorf("%d moved: %s", res.Moved, diff)
		}
	})
}
