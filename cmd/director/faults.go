package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	loop "tunneldirector/director"
	"tunneldirector/director/agent"
	"tunneldirector/director/api"
	"tunneldirector/director/config"
	"tunneldirector/director/drill"
	"tunneldirector/director/drill/fault"
	"tunneldirector/director/observe"
)

// faults makes failures on purpose, and undoes them. It makes an api.Drills.
//
//	of a real server ─▶ its agent, by this director or by another that hears it ─▶ the agent's ledger
//	of a director    ─▶ that director's daemon ─▶ its ledger ─▶ an effect, undone when its time is over
//
// A ledger is on disk, so that what was made is undone also after a crash; see director/drill/fault.
type faults struct {
	name    string
	allow   bool
	own     *ownFaults
	d       *loop.Director
	agents  *observe.Book // nil: none are heard
	j       *joined       // nil: alone
	journal loop.Journal

	mu      sync.Mutex         // guards what follows
	ordered []api.FaultInPlace // of agents, by this director; forgotten by a restart, after which the agent undoes them all the same
}

func newFaults(cfg config.Config, own *ownFaults, d *loop.Director, agents *observe.Book, j *joined, journal loop.Journal) *faults {
	return &faults{name: cfg.Name, allow: cfg.Drill.Allow, own: own, d: d, agents: agents, j: j, journal: journal}
}

// refuse is what a person can mend.
func refuse(status int, detail, field, value, problem, remedy string) *api.Problem {
	return &api.Problem{Type: "urn:tunneldirector:problem:drill", Title: http.StatusText(status), Status: status, Detail: detail,
		Errors: []api.FieldError{{Field: field, Value: value, Problem: problem, Remedy: remedy}}}
}

// Inject makes a failure wherever it belongs.
func (f *faults) Inject(ctx context.Context, by string, r api.FaultRequest) (api.FaultInPlace, error) {
	if p := f.aim(&r); p != nil {
		return api.FaultInPlace{}, p
	}
	if in, there := f.find(r.ID); there {
		return in, nil
	}
	if p := f.meets(ctx, by, r.ID); p != nil {
		return api.FaultInPlace{}, p
	}
	kind := drill.Kind(r.Kind)
	switch {
	case kind.Befalls() == befallsDirector && r.Target != f.name:
		a, err := f.ask(ctx, r.Target, &faultAsk{By: by, Make: &r})
		return a.In, err
	case kind.Befalls() == befallsDirector, kind == drill.Drain, f.hears(r.Target), f.j == nil:
		return f.here(ctx, by, r)
	}
	for _, p := range f.j.beater.View().Peers { // an agent dials two directors, which this one need not be
		if !p.Alive {
			continue
		}
		a, err := f.ask(ctx, p.Member.Name, &faultAsk{By: by, Make: &r})
		if !errors.Is(err, errNoAgent) {
			return a.In, err
		}
	}
	return f.here(ctx, by, r) // it says what is wrong
}

// meets refuses what would befall the cluster while another drill makes it fail: two drills may both have seen it in peace. Directors
// that do not answer at once are not waited for.
func (f *faults) meets(ctx context.Context, by, id string) *api.Problem {
	for _, x := range f.all(ctx, time.Second).Faults {
		if x.By != by || runOf(x.ID) != runOf(id) {
			return refuse(http.StatusConflict, "the fault is refused", "kind", x.Kind, "is in place at "+x.Target+", made by "+x.By+" for another drill", "wait for its end, or director drill undo "+x.ID)
		}
	}
	return nil
}

// runOf is what the ids of one drill's failures have in common.
func runOf(id string) string { return id[:max(0, strings.LastIndexByte(id, '-'))] }

// hears tells whether a real server's agent is connected to this director.
func (f *faults) hears(realServer string) bool {
	if f.agents == nil {
		return false
	}
	a, known := f.agents.Agent(realServer)
	return known && a.Connected
}

// The words of drill.Kind.Befalls.
const (
	befallsDirector   = "director"
	befallsRealServer = "real server"
)

// aim checks what a failure is to befall.
func (f *faults) aim(r *api.FaultRequest) *api.Problem {
	var known []string
	switch drill.Kind(r.Kind).Befalls() {
	case befallsRealServer:
		for _, rs := range f.d.Table().RealServers() {
			known = append(known, rs.Name)
		}
	case befallsDirector:
		known = append(known, f.name)
		if f.j != nil {
			for _, p := range f.j.beater.View().Peers {
				known = append(known, p.Member.Name)
			}
		}
	}
	if slices.Contains(known, r.Target) {
		return nil
	}
	slices.Sort(known)
	return refuse(http.StatusUnprocessableEntity, "the fault is refused", "target", r.Target, "is no "+drill.Kind(r.Kind).Befalls()+" that is known here", "one of "+strings.Join(known, ", "))
}

// here makes what this director carries out or has an agent carry out.
func (f *faults) here(ctx context.Context, by string, r api.FaultRequest) (api.FaultInPlace, error) {
	kind, lasts := drill.Kind(r.Kind), time.Duration(r.ForMS)*time.Millisecond
	in := api.FaultInPlace{ID: r.ID, Kind: r.Kind, Target: r.Target, Director: f.name, By: by, At: time.Now(), BeginsInMS: delay(kind).Milliseconds()}
	in.Until = in.At.Add(lasts)
	if p := f.Allowed(); p != nil {
		return api.FaultInPlace{}, p
	}
	var err error
	switch {
	case kind.Befalls() == befallsRealServer && kind != drill.Drain:
		err = f.order(ctx, in)
	default:
		err = f.own.inject(ctx, by, drill.Fault{ID: r.ID, Kind: kind, Target: r.Target, For: lasts})
	}
	if err != nil {
		f.tell(r.Target, "", r.Kind, fmt.Sprintf("not made (%s): %v", r.ID, err), by)
		return api.FaultInPlace{}, asRefused(err, r)
	}
	f.tell(r.Target, "", r.Kind, fmt.Sprintf("made on purpose, for %s at most (%s)", lasts, r.ID), by)
	return in, nil
}

// Allowed refuses where the node's file does not allow drills.
func (f *faults) Allowed() *api.Problem {
	if f.allow {
		return nil
	}
	return refuse(http.StatusForbidden, "director "+f.name+" makes no failures on purpose", "drill.allow", "", "is not set in its node's file", "drill: {allow: true}, and restart it")
}

// asRefused is the problem of what the ledger would not do; other errors stay.
func asRefused(err error, r api.FaultRequest) error {
	var p *api.Problem
	if errors.As(err, &p) || !errors.Is(err, fault.ErrRefused) {
		return err
	}
	return refuse(http.StatusConflict, "the fault is refused", "kind", r.Kind, err.Error(), "director drill faults shows what is in place")
}

// order has the agent make it.
func (f *faults) order(ctx context.Context, in api.FaultInPlace) error {
	o := agent.FaultOrder{ID: in.ID, Kind: in.Kind, Millis: uint32(in.Until.Sub(in.At).Milliseconds())}
	if err := f.d.OrderFault(ctx, in.Target, o); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ordered = append(f.ordered, in)
	return nil
}

// tell records what was made, or undone.
func (f *faults) tell(object, from, to, why, by string) {
	f.journal.Record([]api.Event{{Time: time.Now(), Kind: "fault", Object: object, From: from, To: to, Why: why, By: by}})
}

// find is a failure that this director has made.
func (f *faults) find(id string) (api.FaultInPlace, bool) {
	list := f.InPlace()
	i := slices.IndexFunc(list, func(x api.FaultInPlace) bool { return x.ID == id })
	if i < 0 {
		return api.FaultInPlace{}, false
	}
	return list[i], true
}

// Undo ends a failure, wherever it was made.
func (f *faults) Undo(ctx context.Context, by, id, target string) (already bool, err error) {
	if undone, err := f.undoHere(ctx, by, id); undone || err != nil {
		return false, err
	}
	var o asked
	if f.j != nil {
		o = f.j.askEvery(ctx, nodeQuestion{Fault: &faultAsk{By: by, Undo: id}}, undoWithin)
	}
	answered := f.j == nil || target == f.name
	for _, a := range o.answers {
		answered = answered || a.from == target
		switch {
		case a.Fault == nil:
		case a.Fault.Problem != nil:
			return false, a.Fault.Problem
		case a.Fault.Undone:
			return false, nil
		}
	}
	if _, is := f.d.Table().RealServer(target); is { // whose director has forgotten it, or is dead
		return f.undoForgotten(ctx, id, target)
	}
	if target == "" && len(o.silent) > 0 {
		target, answered = o.silent[0].Director, false
	}
	if !answered {
		return false, fmt.Errorf("director %s does not answer; what was made there is undone by itself when its time is over", target)
	}
	return true, nil
}

// undoWithin is how long other directors may take to undo.
const undoWithin = 8 * time.Second

// undoForgotten has an agent undo what no director knows of any more.
func (f *faults) undoForgotten(ctx context.Context, id, realServer string) (already bool, err error) {
	if f.hears(realServer) || f.j == nil {
		return false, f.d.OrderFault(ctx, realServer, agent.FaultOrder{ID: id, Undo: true})
	}
	o := f.j.askEvery(ctx, nodeQuestion{Fault: &faultAsk{Undo: id, At: realServer}}, undoWithin)
	for _, a := range o.answers {
		if a.Fault != nil && a.Fault.Undone {
			return false, nil
		}
	}
	return false, f.d.OrderFault(ctx, realServer, agent.FaultOrder{ID: id, Undo: true})
}

// undoHere ends what this director has made.
func (f *faults) undoHere(ctx context.Context, by, id string) (undone bool, err error) {
	in, there := f.find(id)
	switch {
	case !there: // or not yet
		return false, f.own.ledger.Undo(ctx, id)
	case f.isOrdered(id):
		if err = f.d.OrderFault(ctx, in.Target, agent.FaultOrder{ID: id, Undo: true}); err == nil {
			f.forget(id)
			f.tell(in.Target, in.Kind, "", "undone ("+id+")", by)
		}
	default:
		err = f.own.undo(ctx, by, id)
	}
	return err == nil, err
}

func (f *faults) isOrdered(id string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.ContainsFunc(f.ordered, func(x api.FaultInPlace) bool { return x.ID == id })
}

func (f *faults) forget(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ordered = slices.DeleteFunc(f.ordered, func(x api.FaultInPlace) bool { return x.ID == id })
}

// run forgets what agents have undone by themselves, until ctx ends.
func (f *faults) run(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for _, in := range f.over(time.Now()) {
			f.tell(in.Target, in.Kind, "", "its time is over ("+in.ID+")", in.By)
		}
	}
}

// over takes out what is to be undone by now.
func (f *faults) over(now time.Time) (list []api.FaultInPlace) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ordered = slices.DeleteFunc(f.ordered, func(x api.FaultInPlace) bool {
		if now.Before(x.Until) {
			return false
		}
		list = append(list, x)
		return true
	})
	return list
}

// InPlace are those that this director carries out, or has agents carry out.
func (f *faults) InPlace() []api.FaultInPlace {
	own := f.own.list()
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.SortedFunc(slices.Values(append(own, f.ordered...)), func(a, b api.FaultInPlace) int { return a.At.Compare(b.At) })
}

// Outage is why no pushes are taken.
func (f *faults) Outage() string {
	if why := f.own.outage.Load(); why != nil {
		return *why
	}
	return ""
}
