package realserver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"tunneldirector/director/agent"
	"tunneldirector/realserver/terminator"
)

// trials are faults in memory.
type trials struct {
	mu      sync.Mutex
	refuse  error
	fails   error
	takes   time.Duration
	mute    bool
	made    time.Time
	wishes  []string
	inPlace []FaultStatus
}

func (f *trials) Plan(ctx context.Context, w FaultWish) (FaultPlan, error) {
	pids, err := w.Processes(ctx)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wishes = append(f.wishes, fmt.Sprint(w.Kind, " of ", w.RealServer, " by ", w.By, " for ", w.Millis, " at ", pids, " ", err))
	return FaultPlan{Mute: f.mute, Make: func(context.Context) error {
		time.Sleep(f.takes)
		f.mu.Lock()
		defer f.mu.Unlock()
		f.made = time.Now()
		if f.fails == nil {
			f.inPlace = append(f.inPlace, FaultStatus{ID: w.ID, Kind: w.Kind, RealServer: w.RealServer, By: w.By, Until: time.Now().Add(time.Minute)})
		}
		return f.fails
	}}, f.refuse
}

func (f *trials) Undo(_ context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fails == nil {
		f.inPlace = slices.DeleteFunc(f.inPlace, func(x FaultStatus) bool { return x.ID == id })
	}
	return f.fails
}

func (f *trials) InPlace() []FaultStatus {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.inPlace)
}

// after is when one was made; 0: none was.
func (f *trials) after(from time.Time) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.made.IsZero() {
		return 0
	}
	return f.made.Sub(from)
}

// worker is software that says what it works with.
type worker struct{ software }

func (w *worker) Work(context.Context) (terminator.Work, error) {
	return terminator.Work{Processes: []int{4711}}, nil
}

func about(kind agent.OrderKind, id string) agent.Order {
	return agent.Order{RealServer: "rs1", Kind: kind, Fault: &agent.FaultOrder{ID: id, Kind: "terminator-hang", Millis: 60_000}}
}

func withTrials(f Faults) func(*lab, *Options) { return func(_ *lab, o *Options) { o.Faults = f } }

func TestFaultOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &trials{takes: 3 * time.Second}
		l := begin(t, &worker{}, 2, withTrials(f))
		settle(time.Second)
		d := l.directors[0]
		says := func(what, kind, want string) {
			t.Helper()
			synctest.Wait()
			if got := d.outcome(kind, "f1"); got != want {
				t.Errorf("%s: %s is %s, want %s", what, kind, got, want)
			}
		}
		d.order(about(agent.OrderInject, "f1"))
		says("at once", "inject", "trying")
		settle(3 * time.Second)
		says("made", "inject", "done")
		if d := cmp.Diff([]string{"terminator-hang of rs1 by director d1 for 60000 at [4711] <nil>"}, f.wishes); d != "" {
			t.Error(d)
		}
		settle(time.Second)
		for _, d := range l.directors {
			if found := d.last().Found; len(found) != 1 || found[0].Severity != "breaks" || !strings.Contains(found[0].What, "terminator-hang, by director d1") {
				t.Errorf("%s knows of %+v", d.name, found)
			}
		}
		if s := l.agent.Status(); len(s.Faults) != 1 || s.Faults[0].ID != "f1" {
			t.Errorf("status has %+v", s.Faults)
		}
		f.mu.Lock()
		f.fails, f.inPlace[0].Error = errors.New("no such process"), "no such process"
		f.mu.Unlock()
		d.order(about(agent.OrderUndo, "f1"))
		says("not undone", "undo", "failed")
		settle(time.Second)
		if found := d.last().Found; len(found) != 1 || !strings.Contains(found[0].What, "cannot be undone: terminator-hang: no such process") {
			t.Errorf("not undone: %+v", found)
		}
		if u := l.agent.undoFaults(t.Context()); len(u) != 1 || u[0].Undone || u[0].Error != "no such process" {
			t.Errorf("not undone by hand: %+v", u)
		}
		f.mu.Lock()
		f.fails = nil
		f.mu.Unlock()
		d.order(about(agent.OrderUndo, "f1"))
		says("undone", "undo", "done")
		settle(time.Second)
		if found := d.last().Found; len(found) != 0 {
			t.Errorf("undone: %+v", found)
		}
	})
}

func TestFaultRefused(t *testing.T) {
	for _, tt := range []struct {
		name string
		f    *trials
		soft terminator.Terminator
		want string
	}{
		{"not allowed", &trials{refuse: errors.New("drills are off")}, &worker{}, "drills are off"},
		{"it fails", &trials{fails: errors.New("no nftables")}, &worker{}, "no nftables"},
		{"no faults at all", nil, &worker{}, "makes no faults"},
		{"no processes known", &trials{refuse: errors.New("no")}, &software{}, "does not know its processes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := begin(t, tt.soft, 1, func(_ *lab, o *Options) {
					if tt.f != nil {
						o.Faults = tt.f
					}
				})
				settle(time.Second)
				l.directors[0].order(about(agent.OrderInject, "f1"))
				synctest.Wait()
				if got := l.directors[0].outcome("inject", "f1"); got != "failed" {
					t.Errorf("it is %s", got)
				}
				said := l.logs.text()
				if tt.f != nil {
					said += strings.Join(tt.f.wishes, "")
				}
				if !strings.Contains(said, tt.want) {
					t.Errorf("nobody says %q: %s", tt.want, said)
				}
			})
		})
	}
}

// What one daemon does for two real servers is not made to fail for one of them.
func TestFaultShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &trials{}
		l := begin(t, &worker{}, 1, func(_ *lab, o *Options) {
			o.Faults = f
			for _, other := range []struct {
				name string
				soft terminator.Terminator
			}{{"rs2", &software{}}, {"rs3", &worker{}}} {
				s := o.Instances[0].Server
				s.Name = other.name
				o.Instances = append(o.Instances, Instance{Server: s, Terminator: other.soft})
			}
		})
		settle(time.Second)
		l.directors[0].order(about(agent.OrderInject, "f1"))
		settle(time.Second)
		want := []string{"terminator-hang of rs1 by director d1 for 60000 at [] real server rs3 has the same process 4711: it would be hit, too"}
		if d := cmp.Diff(want, f.wishes); d != "" {
			t.Error(d)
		}
	})
}

// What silences the agent is answered before it is made, and of another's real server nothing is.
func TestFaultMute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &trials{mute: true}
		l := begin(t, &worker{}, 1, withTrials(f))
		settle(time.Second)
		other := about(agent.OrderInject, "f2")
		other.RealServer = "rs2"
		l.directors[0].order(other)
		from := time.Now()
		l.directors[0].order(about(agent.OrderInject, "f1"))
		settle(lastWord / 2)
		if got := l.directors[0].outcome("inject", "f1"); got != "done" || f.after(from) != 0 {
			t.Errorf("before it is made it is %s; made after %v", got, f.after(from))
		}
		settle(lastWord)
		if f.after(from) != lastWord || len(f.wishes) != 1 {
			t.Errorf("made after %v: %v", f.after(from), f.wishes)
		}
	})
}

// A director that orders without end is refused, and does not keep the agent from hearing.
func TestFaultFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := begin(t, &worker{}, 1, withTrials(&trials{takes: time.Minute}))
		settle(time.Second)
		for i := range 100 {
			l.directors[0].order(about(agent.OrderInject, fmt.Sprint("f", i)))
		}
		synctest.Wait()
		if n := l.directors[0].count("inject", agent.OutcomeFailed); n < 70 || n > 80 {
			t.Errorf("%d of 100 are refused", n)
		}
		settle(5 * time.Minute)
	})
}
