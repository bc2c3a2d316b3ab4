package drills

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"tunneldirector/director/api"
	"tunneldirector/director/drill"
	"tunneldirector/integration/daemon"
)

// answering is how long a director may take to say how things stand before it counts as one that does not answer; if none does, all are
// asked once more, with patience: a machine may stand still for a moment.
const (
	answering = 500 * time.Millisecond
	patiently = 1200 * time.Millisecond
)

// A view is what one director says.
type view struct {
	cluster     api.ClusterStatus
	realServers []api.RealServerState
	tunnels     []api.TunnelState
	err         error // it does not answer
}

// State is what the director says that sees most others ready, of several the first. The error is that none answers.
func (w *World) State(ctx context.Context) (drill.State, error) {
	views, best := w.look(ctx, answering)
	if best == nil {
		views, best = w.look(ctx, patiently)
	}
	if best == nil {
		return drill.State{}, fmt.Errorf("ask how things stand: no director answers: %w", views[0].err)
	}
	st := drill.State{Directors: w.members(best), RealServers: best.real(), Unsettled: w.unsettled(views)}
	for _, t := range best.tunnels {
		st.Tunnels = append(st.Tunnels, tunnel(t))
	}
	return st, nil
}

// look asks all directors at once. best is nil if none answers.
func (w *World) look(ctx context.Context, within time.Duration) (views []view, best *view) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	views = make([]view, len(w.directors))
	var all sync.WaitGroup
	for i, d := range w.directors {
		all.Go(func() { views[i] = w.view(ctx, d) })
	}
	all.Wait()
	for i := range views {
		if v := &views[i]; v.err == nil && (best == nil || v.ready() > best.ready()) {
			best = v
		}
	}
	return views, best
}

func (w *World) view(ctx context.Context, d *director) (v view) {
	if v.cluster, v.err = d.Client.Cluster(ctx); v.err != nil {
		return v
	}
	if v.realServers, v.err = d.Client.RealServers(ctx); v.err != nil {
		return v
	}
	for t, err := range d.Client.Tunnels(ctx, api.TunnelFilter{}) {
		if v.err = err; err != nil {
			return v
		}
		if w.site(t.ID) != nil {
			v.tunnels = append(v.tunnels, t)
		}
	}
	return v
}

// ready is how many directors are, as this one says.
func (v *view) ready() (n int) {
	for _, m := range v.cluster.Members {
		if isReady(m) {
			n++
		}
	}
	return n
}

func isReady(m api.MemberStatus) bool { return m.State == api.MemberAlive && m.Ready && !m.Hung }

func (w *World) members(v *view) (list []drill.Director) {
	for _, d := range w.directors {
		x := drill.Director{Name: d.On().Title}
		i := slices.IndexFunc(v.cluster.Members, func(m api.MemberStatus) bool { return m.Name == x.Name })
		x.Ready = i >= 0 && isReady(v.cluster.Members[i])
		x.Assigns = v.cluster.Assigner == x.Name
		for _, o := range v.cluster.Addresses {
			a, err := netip.ParseAddr(o.Address)
			if err == nil && slices.Contains(w.lab.VIPs, a) && slices.Contains(o.Holders, x.Name) && x.Ready {
				x.Holds = append(x.Holds, a)
			}
		}
		list = append(list, x)
	}
	return list
}

func (v *view) real() (list []drill.RealServer) {
	for _, r := range v.realServers {
		x := drill.RealServer{Name: r.Name, Host: r.Host, Alive: r.State == "alive", Capacity: int(r.Capacity)}
		if r.Status != nil {
			x.Tunnels = int(r.Status.Tunnels)
			if r.Status.Agent != nil {
				x.Closed = r.Status.Agent.Closed
			}
		}
		list = append(list, x)
	}
	return list
}

func tunnel(t api.TunnelState) drill.Tunnel {
	x := drill.Tunnel{ID: t.ID, Group: t.Group, Up: t.Up}
	if t.Placement != nil {
		x.RealServer, x.Backup = t.Placement.RealServer, t.Placement.Backup
	}
	return x
}

// unsettled says why all is not as it is to be: every director ready, tables equal, real servers alive and heard by all, tunnels up and
// with a backup, addresses where they belong in the directors' kernels.
func (w *World) unsettled(views []view) string {
	for i := range views {
		if err := w.atPeace(w.directors[i], &views[i]); err != nil {
			return err.Error()
		}
	}
	if err := daemon.HeldBy(w.lab, daemon.Owned(w.lab)); err != nil {
		return err.Error()
	}
	return ""
}

func (w *World) atPeace(d *director, v *view) error {
	name := d.On().Title
	if v.err != nil {
		return fmt.Errorf("%s does not answer: %w", name, v.err)
	}
	var names []string
	for _, o := range w.directors {
		names = append(names, o.On().Title)
	}
	if err := daemon.EqualAt(v.cluster, names...); err != nil {
		return err
	}
	for _, r := range v.realServers {
		switch {
		case r.State != "alive":
			return fmt.Errorf("%s says that %s is %s: %s", name, r.Name, r.State, r.Cause)
		case r.Admin == "drained":
			return fmt.Errorf("%s is drained", r.Name)
		case r.Status == nil || r.Status.Agent == nil || !r.Status.Agent.Connected:
			return fmt.Errorf("%s does not hear the agent of %s", name, r.Name)
		case r.Status.Agent.Health != "working":
			return fmt.Errorf("the terminator of %s is %s: %s", r.Name, r.Status.Agent.Health, r.Status.Agent.Cause)
		}
	}
	if n, want := len(v.tunnels), len(w.lab.Sites); n != want {
		return fmt.Errorf("%s knows %d tunnels of %d", name, n, want)
	}
	for _, t := range v.tunnels {
		if x := tunnel(t); x.RealServer == "" || x.Backup == "" || !x.Up {
			return fmt.Errorf("%s says that %s is at %q, else %q, up: %t", name, x.ID, x.RealServer, x.Backup, x.Up)
		}
	}
	return nil
}
