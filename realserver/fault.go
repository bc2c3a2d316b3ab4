package realserver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"tunneldirector/director/agent"
	"tunneldirector/realserver/terminator"
)

// Faults makes faults on this host, for drills, and undoes each after its time whatever becomes of the agent. Its methods may be called
// from any goroutine.
type Faults interface {
	// Plan says how a fault is made at a real server of this host, or why not. It makes nothing.
	Plan(ctx context.Context, w FaultWish) (FaultPlan, error)
	// Undo undoes a fault; one that is not there is undone.
	Undo(ctx context.Context, id string) error
	// InPlace are those that are not undone yet. It must not block.
	InPlace() []FaultStatus
}

// A FaultWish is a fault that a director ordered.
type FaultWish struct {
	agent.FaultOrder
	RealServer string
	By         string // the director
	// Processes are the terminator's; an error says why it has none that could be reached, or that are its own alone.
	Processes func(ctx context.Context) ([]int, error)
}

// A FaultPlan is how a fault is made.
type FaultPlan struct {
	Make func(ctx context.Context) error
	Mute bool // once it is made the agent is not heard: directors are told before
}

// FaultStatus is a fault that is in place.
type FaultStatus struct {
	ID         string    `json:"id"`
	Kind       string    `json:"kind"`
	RealServer string    `json:"real_server"`
	By         string    `json:"by,omitempty"`
	Made       time.Time `json:"made"`
	Until      time.Time `json:"until"`
	Error      string    `json:"error,omitempty"` // why it could not be undone yet
}

const (
	faultLimit  = 12 * time.Second       // for a fault to be made, or undone
	faultsOpen  = 16                     // orders about faults that wait for their turn
	faultsAtAll = 8                      // that are carried out at once
	lastWord    = 200 * time.Millisecond // that the answer about a mute fault has on its way
	workLimit   = time.Second            // for the terminator to say what it works with
)

// A faultOrder is an order about a fault, of a director.
type faultOrder struct {
	by    string
	in    *instance
	order *agent.Order
}

// say answers an order.
func (x *faultOrder) say(tell func(agent.Progress), o agent.Outcome, why string) {
	tell(agent.Progress{RealServer: x.in.Name, Kind: x.order.Kind, Tunnels: []agent.Step{{ID: x.order.Fault.ID, Outcome: o, Why: short(why)}}})
}

// fault takes an order about a fault in, and says at once that it did: a director takes an agent that says nothing for an old one.
func (a *Agent) fault(director string, in *instance, o *agent.Order) {
	x := faultOrder{director, in, o}
	x.say(a.progress, agent.OutcomeTrying, "") // before anyone can say how it ended: the last word counts
	select {
	case a.faults <- x:
	default:
		x.say(a.progress, agent.OutcomeFailed, "too many orders about faults are open")
	}
}

// carryOutFaults carries orders about faults out until ctx ends.
func (a *Agent) carryOutFaults(ctx context.Context) error {
	var g errgroup.Group
	g.SetLimit(faultsAtAll)
	for {
		select {
		case <-ctx.Done():
			return g.Wait()
		case x := <-a.faults:
			g.Go(func() error { a.carryOutFault(ctx, x); return nil })
		}
	}
}

func (a *Agent) carryOutFault(ctx context.Context, x faultOrder) {
	limited, cancel := context.WithTimeout(ctx, faultLimit)
	defer cancel()
	err := a.makeFault(limited, x)
	o, why := agent.OutcomeDone, ""
	if err != nil {
		o, why = agent.OutcomeFailed, err.Error()
		x.in.log.Warn("order about a fault", "order", x.order.Kind.String(), "id", x.order.Fault.ID, "kind", x.order.Fault.Kind, "director", x.by, "error", err)
	}
	x.say(a.progress, o, why)
}

func (a *Agent) makeFault(ctx context.Context, x faultOrder) error {
	if a.o.Faults == nil {
		return errors.New("this agent makes no faults")
	}
	if x.order.Kind == agent.OrderUndo {
		return a.o.Faults.Undo(ctx, x.order.Fault.ID)
	}
	processes := func(ctx context.Context) ([]int, error) { return a.processes(ctx, x.in) }
	p, err := a.o.Faults.Plan(ctx, FaultWish{FaultOrder: *x.order.Fault, RealServer: x.in.Name, By: "director " + x.by, Processes: processes})
	if err != nil {
		return err
	}
	if p.Mute {
		x.say(a.progress, agent.OutcomeDone, "")
		await(ctx, nil, lastWord)
	}
	return p.Make(ctx)
}

// processes are those of a real server's terminator, if they are not another one's, too: a fault befalls the one that was ordered.
func (a *Agent) processes(ctx context.Context, in *instance) ([]int, error) {
	own, err := in.processes(ctx)
	if err != nil {
		return nil, err
	}
	var g errgroup.Group
	for _, other := range a.instances {
		g.Go(func() error {
			if other == in {
				return nil
			}
			theirs, _ := other.processes(ctx) // one that says nothing of itself keeps nobody from a drill
			i := slices.IndexFunc(theirs, func(pid int) bool { return slices.Contains(own, pid) })
			if i < 0 {
				return nil
			}
			return fmt.Errorf("real server %s has the same process %d: it would be hit, too", other.Name, theirs[i])
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return own, nil
}

// processes are those of the terminator.
func (in *instance) processes(ctx context.Context) ([]int, error) {
	w, ok := in.Terminator.(terminator.Worker)
	if !ok {
		return nil, fmt.Errorf("the driver of terminator %s does not know its processes", in.Server.Terminator)
	}
	ctx, cancel := context.WithTimeout(ctx, workLimit)
	defer cancel()
	work, err := w.Work(ctx)
	switch {
	case err != nil:
		return nil, fmt.Errorf("ask terminator %s for its processes: %w", in.Server.Terminator, err)
	case len(work.Processes) == 0:
		return nil, fmt.Errorf("terminator %s has no processes: it is the kernel's, or does not tell", in.Server.Terminator)
	}
	return work.Processes, nil
}

// found are a real server's findings: its faults, and then what is wrong with the host by itself.
func (in *instance) found(examined []agent.Finding) []agent.Finding {
	if in.o.Faults == nil {
		return examined
	}
	var out []agent.Finding
	for _, f := range in.o.Faults.InPlace() {
		if f.RealServer != in.Name {
			continue
		}
		what := fmt.Sprintf("a drill's fault is in place until %s: %s, by %s", f.Until.UTC().Format(time.RFC3339), f.Kind, cmp.Or(f.By, "somebody"))
		if f.Error != "" {
			what = fmt.Sprintf("a drill's fault cannot be undone: %s: %s", f.Kind, f.Error)
		}
		out = append(out, agent.Finding{ID: "fault-in-place", What: agent.Text(what), Causes: "its tunnels are disturbed on purpose", Remedy: "realserver undo-faults", Severity: "breaks"})
	}
	out = append(out, examined...)
	return slices.Clip(out[:min(len(out), agent.MaxFound)])
}

// An UndoneFault is what became of undoing a fault.
type UndoneFault struct {
	FaultStatus
	Undone bool `json:"undone"` // else Error says why not
}

// undoFaults undoes all that are in place.
func (a *Agent) undoFaults(ctx context.Context) []UndoneFault {
	out := []UndoneFault{}
	if a.o.Faults == nil {
		return out
	}
	for _, f := range a.o.Faults.InPlace() {
		out = append(out, UndoneFault{FaultStatus: f})
	}
	var g errgroup.Group
	for i := range out {
		g.Go(func() error {
			f := &out[i]
			f.Error = ""
			if err := a.o.Faults.Undo(ctx, f.ID); err != nil {
				f.Error = err.Error()
			}
			f.Undone = f.Error == ""
			return nil
		})
	}
	_ = g.Wait() // each has its own error
	return out
}
