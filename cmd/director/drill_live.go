package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"tunneldirector/director/api"
	"tunneldirector/director/drill"
)

// A liveWorld is a cluster as a drill sees it, by the API of one of its directors. It makes a drill.World.
//
// While that director is the one that a fault befalls, the state is the last that was known; else it is not known.
type liveWorld struct {
	client *api.Client
	behind map[string]netip.Addr // by tunnel, of those that may be in the sample: what answers behind it

	mu    sync.Mutex        // guards what follows
	own   map[string]string // targets of the faults that it made, by id
	last  *drill.State      // that a director told which was ready
	heard time.Time         // when
	self  string            // that director
}

// askAgain is the time between two questions to a director that does not answer.
const askAgain = 300 * time.Millisecond

// unheardFor is for how long a director need not answer that no fault of this drill befell.
const unheardFor = 3 * time.Second

// State is what the director tells. Of one that does not answer, or is not ready and so knows little of others, it is what it told last,
// and that it is not ready. Unless the drill itself keeps it from answering, that is so for a moment alone: then the state is not known.
func (w *liveWorld) State(ctx context.Context) (drill.State, error) {
	soon, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	s, err := w.ask(soon)
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case err == nil && s.isReady(w.self):
		w.last, w.heard = &s.State, time.Now()
		return s.State, nil
	case w.last == nil || ctx.Err() != nil:
		return s.State, err
	case err == nil:
		err = errors.New(orWord(s.Unsettled, "director "+w.self+" is not ready"))
	}
	if time.Since(w.heard) > unheardFor && !w.struck() {
		return drill.State{}, err
	}
	old := *w.last
	old.Unsettled = err.Error()
	old.Directors = slices.Clone(old.Directors)
	for i := range old.Directors {
		old.Directors[i].Ready = old.Directors[i].Ready && old.Directors[i].Name != w.self
	}
	return old, nil
}

// struck tells whether this drill has made a fault of the director that is asked. Under the lock.
func (w *liveWorld) struck() bool {
	for _, target := range w.own {
		if target == w.self {
			return true
		}
	}
	return false
}

// A toldState is what a director tells.
type toldState struct{ drill.State }

func (s *toldState) isReady(name string) bool {
	return slices.ContainsFunc(s.Directors, func(d drill.Director) bool { return d.Name == name && d.Ready })
}

func (w *liveWorld) ask(ctx context.Context) (toldState, error) {
	var s toldState
	st, err := w.client.Status(ctx)
	if err != nil {
		return s, err
	}
	w.mu.Lock()
	w.self = st.Name
	w.mu.Unlock()
	var trouble []string
	for _, r := range st.RealServers {
		x := drill.RealServer{Name: r.Name, Host: r.Host, Alive: r.State == "alive", Tunnels: int(r.Tunnels), Capacity: int(r.Capacity)}
		if r.Agent != nil {
			x.Closed = r.Agent.Closed
		}
		s.RealServers = append(s.RealServers, x)
		if r.State != "alive" {
			trouble = append(trouble, fmt.Sprintf("real server %s is %s", r.Name, r.State))
		}
		if r.Admin != "active" { // it has no room
			trouble = append(trouble, fmt.Sprintf("real server %s is %s", r.Name, r.Admin))
		}
	}
	if !st.Plane.InSync {
		trouble = append(trouble, "the data plane of "+st.Name+" is not in step with its table")
	}
	c, err := w.client.Cluster(ctx)
	var p *api.Problem
	switch {
	case err == nil:
		s.Directors = directorsOf(&c)
		trouble = append(trouble, unsettled(&c)...)
	case errors.As(err, &p) && strings.HasSuffix(p.Type, ":alone"):
		s.Directors = []drill.Director{{Name: st.Name, Ready: st.Ready, Assigns: true, Holds: w.vips(ctx)}}
	default:
		return s, err
	}
	if !st.Ready {
		trouble = append(trouble, st.Name+" is not ready: "+strings.Join(st.NotReady, ", "))
	}
	faults, err := w.client.Faults(ctx)
	if err != nil {
		return s, err
	}
	trouble = append(trouble, w.strange(faults.Faults)...)
	s.Unsettled = strings.Join(trouble, "; ")
	s.Tunnels, err = w.tunnels(ctx)
	return s, err
}

// strange are faults that somebody else has made, and those that cannot be undone.
func (w *liveWorld) strange(list []api.FaultInPlace) (out []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, f := range list {
		if _, own := w.own[f.ID]; !own || f.Error != "" {
			out = append(out, fmt.Sprintf("%s has made %s of %s until %s", f.By, f.Kind, f.Target, f.Until.Format(time.TimeOnly))+after(", NOT undone: ", f.Error))
		}
	}
	return out
}

// vips are those of a director that is alone, which holds them all.
func (w *liveWorld) vips(ctx context.Context) (out []netip.Addr) {
	services, _ := w.client.Services(ctx) // without them the owner is not known, and the drill says so
	for _, s := range services {
		for _, v := range s.VIPs {
			if a, err := netip.ParseAddr(v); err == nil {
				out = append(out, a)
			}
		}
	}
	return out
}

func directorsOf(c *api.ClusterStatus) (out []drill.Director) {
	for _, m := range c.Members {
		if m.State == api.MemberLeft {
			continue
		}
		d := drill.Director{Name: m.Name, Ready: m.State == api.MemberAlive && m.Ready && !m.Hung, Assigns: m.Name == c.Assigner}
		for _, a := range c.Addresses {
			if addr, err := netip.ParseAddr(a.Address); err == nil && a.Kind == "vip" && slices.Contains(a.Holders, m.Name) {
				d.Holds = append(d.Holds, addr)
			}
		}
		out = append(out, d)
	}
	return out
}

// unsettled is what is not as in peace between directors.
func unsettled(c *api.ClusterStatus) (out []string) {
	for _, m := range c.Members {
		switch {
		case m.State == api.MemberLeft:
		case m.State != api.MemberAlive:
			out = append(out, "director "+m.Name+" is "+m.State)
		case !m.Ready || m.Hung || m.Sick:
			out = append(out, "director "+m.Name+" is not ready, hung or sick")
		case !m.Self && m.Doing != "":
			out = append(out, "director "+m.Name+": "+m.Doing)
		case !m.Self && !(m.Digest.Known && m.Digest.Equal):
			out = append(out, "director "+m.Name+" has another table, or has not compared it yet")
		}
	}
	for _, a := range c.Addresses {
		if a.Owner != "" && !slices.Equal(a.Holders, []string{a.Owner}) {
			out = append(out, fmt.Sprintf("%s is to be held by %s, and is by %s", a.Address, a.Owner, orWord(strings.Join(a.Holders, ", "), "nobody")))
		}
	}
	if c.Assigner == "" {
		out = append(out, "no director places groups")
	}
	return out
}

// tunnels are those that may be in the sample.
func (w *liveWorld) tunnels(ctx context.Context) ([]drill.Tunnel, error) {
	var out []drill.Tunnel
	for id := range w.behind {
		t, err := w.client.Tunnel(ctx, id)
		var p *api.Problem
		if errors.As(err, &p) && p.Status == http.StatusNotFound {
			continue
		}
		if err != nil {
			return nil, err
		}
		x := drill.Tunnel{ID: id, Group: t.Group, Up: t.Up}
		if t.Placement != nil {
			x.RealServer, x.Backup = t.Placement.RealServer, t.Placement.Backup
		}
		out = append(out, x)
	}
	slices.SortFunc(out, func(a, b drill.Tunnel) int { return strings.Compare(a.ID, b.ID) })
	return out, nil
}

// Inject makes a fault by the API, and returns when it has begun.
func (w *liveWorld) Inject(ctx context.Context, f drill.Fault) (func(context.Context) error, error) {
	w.mu.Lock()
	w.own[f.ID] = f.Target
	w.mu.Unlock()
	in, err := w.client.MakeFault(ctx, api.FaultRequest{ID: f.ID, Kind: string(f.Kind), Target: f.Target, ForMS: f.For.Milliseconds()})
	over := time.Now().Add(f.For + time.Second)
	undo := func(ctx context.Context) error { return w.undo(ctx, f, over) }
	var p *api.Problem
	refused := errors.As(err, &p) && p.Status < http.StatusInternalServerError
	if f.Kind == drill.NMSEmpty {
		refused = api.RefusedEmpty(err)
	}
	if refused {
		err = fmt.Errorf("%w: %w", drill.ErrRefused, err)
	}
	switch {
	case f.Kind == drill.NMSEmpty: // nothing was changed
		return nil, err
	case refused && !saidByAgent(p):
		return nil, err
	case err != nil: // it may have been made, or be on its way
		return undo, err
	}
	wait := time.NewTimer(time.Duration(in.BeginsInMS) * time.Millisecond)
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-ctx.Done(): // it begins all the same
	}
	return undo, nil
}

// saidByAgent tells whether a real server's agent was asked, as director.OrderFault says it: what failed there may have been half made.
func saidByAgent(p *api.Problem) bool {
	return slices.ContainsFunc(p.Errors, func(e api.FieldError) bool { return e.Field == "fault" })
}

// undo ends a fault. Who does not answer, since it befell him, undoes it by himself: that is waited for. When its time is over and he does
// not answer still, it is undone all the same, or the cluster does not settle, which a drill finds out.
func (w *liveWorld) undo(ctx context.Context, f drill.Fault, over time.Time) error {
	for {
		soon, cancel := context.WithTimeout(ctx, 3*time.Second)
		_, err := w.client.UndoFault(soon, f.ID, f.Target)
		cancel()
		var p *api.Problem
		switch {
		case err == nil, errors.As(err, &p) && p.Status < http.StatusInternalServerError:
			return err
		case time.Now().After(over) && f.Kind.Befalls() == befallsDirector:
			return nil
		}
		select {
		case <-time.After(askAgain):
		case <-ctx.Done():
			return err
		}
	}
}

// Probe sends ICMP echo to the address behind a tunnel.
func (w *liveWorld) Probe(ctx context.Context, tunnel string, every time.Duration) (drill.Probing, error) {
	a, ok := w.behind[tunnel]
	if !ok {
		return nil, fmt.Errorf("tunnel %s: nothing behind it is known to answer", tunnel)
	}
	return ping(ctx, a, every), nil
}

// Events are what all directors recorded.
func (w *liveWorld) Events(ctx context.Context, since time.Time) ([]drill.Event, error) {
	ctx, cancel := context.WithTimeout(ctx, eventsWithin+time.Second)
	defer cancel()
	all, err := w.client.AllEvents(ctx, since)
	if err != nil {
		return nil, err
	}
	var out []drill.Event
	for _, x := range all.Events {
		e := x.Event
		out = append(out, drill.Event{Time: e.Time, By: x.Director, Kind: e.Kind, Object: e.Object, From: e.From, To: e.To, Why: e.Why})
	}
	return out, nil
}
