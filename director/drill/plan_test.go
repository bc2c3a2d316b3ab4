package drill

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// What words stand for.
func TestPlanTargets(t *testing.T) {
	hang := func(target string) Step { return Step{Fault: DirectorHang, Target: target} }
	for _, tt := range []struct {
		name  string
		steps []Step
		o     Options
		world func(*scripted)
		want  map[string]string
		each  []string
	}{
		{"busiest by number, then by name", []Step{{Fault: HostLoss}}, Options{}, nil, map[string]string{Busiest: "rs1"}, nil},
		{"busiest", []Step{{Fault: HostLoss}}, Options{}, func(w *scripted) { w.start.Tunnels[0].RealServer = "rs3" }, map[string]string{Busiest: "rs3"}, nil},
		{"busiest of the sample", []Step{{Fault: HostLoss}}, Options{Sample: []string{"site-2"}}, nil, map[string]string{Busiest: "rs2"}, nil},
		{"a given one", []Step{{Fault: HostLoss}, {Fault: Drain, Target: "rs1"}}, Options{Targets: map[string]string{Busiest: "rs3"}}, nil, map[string]string{Busiest: "rs3", "rs1": "rs1"}, nil},
		{"given for the first", []Step{{Wait: time.Second}, hang(Owner), hang(Assigner)}, Options{Targets: map[string]string{"": "d2"}}, nil, map[string]string{Owner: "d2", Assigner: "d1"}, nil},
		{"owner, assigner, other are one, one and another", []Step{hang(Owner), hang(Assigner), hang(Other)}, Options{}, nil, map[string]string{Owner: "d1", Assigner: "d1", Other: "d2"}, nil},
		{"the owner holds the lowest VIP", []Step{hang(Owner), hang(Assigner), hang(Other)}, Options{}, func(w *scripted) {
			w.start.Directors[1].Holds = []netip.Addr{netip.MustParseAddr("192.0.2.9"), netip.MustParseAddr("192.0.2.12")}
		}, map[string]string{Owner: "d2", Assigner: "d1", Other: "d1"}, nil},
		{"the owner stands first", []Step{hang(Owner)}, Options{}, func(w *scripted) {
			w.start.Directors[1].Holds = []netip.Addr{netip.MustParseAddr("192.0.2.11")}
		}, map[string]string{Owner: "d1"}, nil},
		{"other of three", []Step{hang(Other)}, Options{}, func(w *scripted) {
			w.start.Directors = append([]Director{{Name: "d0", Ready: true}}, w.start.Directors...)
			w.start.Directors[2].Assigns, w.start.Directors[1].Assigns = true, false
		}, map[string]string{Other: "d0"}, nil},
		{"other than both", []Step{hang(Other)}, Options{}, func(w *scripted) {
			w.start.Directors = append(w.start.Directors, Director{Name: "d3", Ready: true})
			w.start.Directors[0].Holds, w.start.Directors[1].Holds = nil, w.start.Directors[0].Holds
		}, map[string]string{Other: "d3"}, nil},
		{"each", []Step{{Fault: DirectorRestart, Target: Each}}, Options{}, nil, map[string]string{}, []string{"d1", "d2"}},
		{"each is one", []Step{{Fault: DirectorRestart, Target: Each}}, Options{Targets: map[string]string{"": "d2"}}, nil, map[string]string{}, []string{"d2"}},
		{"the cluster", []Step{{Fault: NMSEmpty}}, Options{Targets: map[string]string{}}, nil, map[string]string{}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newScripted(t)
			if tt.world != nil {
				tt.world(w)
			}
			p, err := NewPlan(w.start, mine(Expect{}, Abort{}, tt.steps...), tt.o)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, p.Targets); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(tt.each, p.Each); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// The only director is no other.
func TestPlanOtherOfOne(t *testing.T) {
	w := newScripted(t)
	w.start.Directors = w.start.Directors[:1]
	p, err := NewPlan(w.start, mine(Expect{}, Abort{}, Step{Fault: DirectorHang, Target: Other}), Options{})
	if !errors.Is(err, ErrNotReady) || !strings.Contains(err.Error(), "there is no director now that is called other") {
		t.Errorf("%+v, %v", p, err)
	}
}

// Half of a sample is from the target, the rest from all in turn; who has to be there is there.
func TestPlanSample(t *testing.T) {
	for _, tt := range []struct {
		name    string
		tunnels int
		o       Options
		want    []string
	}{
		{"all", 20, Options{}, []string{"site-1", "site-2", "site-3", "site-4", "site-5", "site-6"}},
		{"four", 4, Options{}, []string{"site-1", "site-2", "site-3", "site-4"}},
		{"three", 3, Options{}, []string{"site-1", "site-2", "site-4"}},
		{"one", 1, Options{}, []string{"site-1"}},
		{"another's target", 2, Options{Targets: map[string]string{Busiest: "rs3"}}, []string{"site-1", "site-3"}},
		{"given ones", 4, Options{Sample: []string{"site-6", "site-5"}, Targets: map[string]string{Busiest: "rs3"}}, []string{"site-1", "site-2", "site-5", "site-6"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newScripted(t)
			d := mine(Expect{}, Abort{}, Step{Fault: HostLoss})
			d.Sample.Tunnels = tt.tunnels
			p, err := NewPlan(w.start, d, tt.o)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, tun := range p.Sample {
				got = append(got, tun.ID)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A tunnel at a real server that is dead is not in the sample, whatever is said of it.
func TestPlanSampleDead(t *testing.T) {
	w := newScripted(t)
	w.start.RealServers[1].Alive = false
	p, err := NewPlan(w.start, mine(Expect{}, Abort{}, Step{Fault: HostLoss}), Options{})
	if err != nil || len(p.Sample) != 4 {
		t.Errorf("%+v, %v", p, err)
	}
}

// Of each, one restarts when the one before is back and all has been settled for a while.
func TestEachInTurn(t *testing.T) {
	in(t, func(t *testing.T, w *scripted) {
		d := mine(Expect{}, Abort{}, Step{Fault: DirectorRestart, Target: Each, For: 10 * time.Second})
		w.state = func(s *State) { // each is away for 3 s, from when it was told to on
			for _, h := range w.made {
				if since := time.Since(h.at); since > time.Second && since < 4*time.Second {
					s.Unsettled = h.Target + " is away"
				}
			}
		}
		res := w.run(d)
		w.allUndone()
		if !res.Passed || len(w.made) != 2 || w.made[0].Target != "d1" || w.made[1].Target != "d2" {
			t.Fatalf("%d: %q %+v", len(w.made), res.Aborted, res.Failures)
		}
		if gap := w.made[1].at.Sub(w.made[0].at); gap < 6*time.Second || gap > 7*time.Second {
			t.Errorf("the second after %s", gap)
		}
	})
	in(t, func(t *testing.T, w *scripted) {
		w.state = func(s *State) {
			if len(w.made) > 0 {
				s.Unsettled = "it does not come back"
			}
		}
		res := w.run(mine(Expect{}, Abort{}, Step{Fault: DirectorRestart, Target: Each, For: 10 * time.Second}))
		if len(w.made) != 1 || res.Aborted != "after director-restart of d1: not settled within 10s: it does not come back" {
			t.Errorf("%d: %q", len(w.made), res.Aborted)
		}
	})
}

// All drills that come with the program do in a world where all goes well what they say, and in a short time.
func TestBuiltinRun(t *testing.T) {
	for _, d := range Builtin() {
		t.Run(d.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newScripted(t)
				w.refuse[NMSEmpty] = ErrRefused
				res := w.run(d)
				w.allUndone()
				if took := res.Ended.Sub(res.Began); !res.Passed || took > 12*time.Second {
					t.Errorf("%s: %q %+v", took, res.Aborted, res.Failures)
				}
				for _, wrong := range w.wrong {
					t.Error(wrong)
				}
			})
		})
	}
}
