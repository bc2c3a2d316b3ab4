package cluster

import (
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"tunneldirector/integration/daemon"
	"tunneldirector/integration/lab"
	"tunneldirector/integration/programs"
	"tunneldirector/integration/spaces"
)

// patience is how long a test may take, one of SOAK apart.
const patience = 15 * time.Minute

// long tells whether tests are to run in full length.
func long() bool { return os.Getenv("SOAK") != "" }

// TestMain builds the programs under test; figures are those of the programs as they are shipped. Labs wait most of the time, but more of
// them would be short of processor time.
func TestMain(m *testing.M) {
	programs.Main(m, programs.Options{Plain: os.Getenv("CLUSTER_BENCH") != "", Parallel: 3})
}

// A rig is a lab with several directors at work, WireGuard, and an agent on each real server.
type rig struct {
	*testing.T
	*lab.Lab
	d         []*daemon.Daemon // d1, d2 ...
	agents    map[*lab.RealServer]*daemon.Agent
	authority *daemon.Authority
	dir       string
	ctx       context.Context
}

// with is the rig for a part of a test.
func (r *rig) with(t *testing.T) *rig {
	one := *r
	one.T = t
	return &one
}

// newRig prepares a rig; newLab is next.
func newRig(t *testing.T) *rig {
	t.Helper()
	spaces.Root(t)
	limit := patience
	if long() {
		limit = time.Hour
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return &rig{T: t, dir: t.TempDir(), ctx: ctx, agents: map[*lab.RealServer]*daemon.Agent{}}
}

// newLab builds the lab. Its real servers are made right by their agents' program, and so hold the virtual IPs.
func (r *rig) newLab(o lab.Options) {
	r.Helper()
	o.Logger = slog.New(slog.NewTextHandler(r.Output(), nil))
	if o.Prepare == nil && !o.Bare {
		o.Prepare = r.prepare
	}
	l, err := lab.New(context.WithoutCancel(r.ctx), o)
	if err != nil {
		r.Fatal(err)
	}
	r.Lab = l
	r.Cleanup(func() {
		if err := l.Close(); err != nil {
			r.Errorf("close the lab: %v", err)
		}
	})
}

// prepare configures a real server's agent, and lets it make the host right.
func (r *rig) prepare(l *lab.Lab, rs *lab.RealServer) error {
	a, err := daemon.NewAgent(l, rs, r.authority, daemon.AgentOptions{
		Binary: programs.RealServer(), Dir: r.dir, Log: r.log(rs.Name),
	})
	if err != nil {
		return err
	}
	r.agents[rs] = a
	_, err = a.Command("apply", "--config", a.Config())
	return err
}

func (r *rig) member(d *lab.Director, m daemon.Membership, o daemon.Options) *daemon.Daemon {
	r.Helper()
	settings, err := r.authority.Member(r.Lab, d, m)
	r.must("certify a director", err)
	o.On, o.Settings = d, settings+o.Settings
	return r.director(o)
}

// director adds a director.
func (r *rig) director(o daemon.Options) *daemon.Daemon {
	r.Helper()
	o.Binary, o.Dir, o.Log = programs.Director(), filepath.Join(r.dir, o.On.Title), r.log(o.On.Title)
	r.must("make a directory", os.MkdirAll(o.Dir, 0o755))
	d, err := daemon.New(r.Lab, o)
	r.must("configure a director", err)
	r.d = append(r.d, d)
	return d
}

// launch starts all directors at once, and waits until all are ready.
func (r *rig) launch(all ...*daemon.Daemon) {
	r.Helper()
	for _, d := range all {
		r.must("start a director", d.Launch())
	}
	for _, d := range all {
		r.must("wait until "+d.On().Title+" is ready", d.Ready(r.ctx))
	}
}

// tunnels applies the records by the first director, pushes each site's tunnel by another one, and brings all up.
func (r *rig) tunnels() {
	r.Helper()
	r.begin()
	r.settle()
}

// begin is tunnels, and does not wait until all addresses are where they belong.
func (r *rig) begin() {
	r.Helper()
	r.must("apply", r.d[0].Apply(r.ctx))
	for _, rs := range r.RealServers {
		r.must("start an agent", r.agents[rs].Start())
	}
	r.until(time.Minute, "wait until all have the records", func() error { return r.equal(r.d...) })
	for i, s := range r.Sites {
		r.must("push", r.d[i%len(r.d)].Push(r.ctx, s))
	}
	r.must("establish", r.Establish(r.ctx))
	for _, d := range r.d {
		r.must("hear the agents", d.Heard(r.ctx, len(r.Sites), r.RealServers...))
	}
}

func (r *rig) must(act string, err error) {
	r.Helper()
	if err != nil {
		r.Fatalf("%s: %v", act, err)
	}
}

// until waits up to so long for a state, and ten times as long where tables are large.
func (r *rig) until(d time.Duration, what string, ask func() error) {
	r.Helper()
	if long() {
		d *= 10
	}
	ctx, cancel := context.WithTimeout(r.ctx, d)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond) // asking is work, for the directors too
	defer tick.Stop()
	for {
		err := ask()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			r.Fatalf("%s: waited %v: %v", what, d, err)
		}
	}
}

// rest lets packets flow for a while: the wires have no virtual time.
func (r *rig) rest(d time.Duration) {
	select {
	case <-time.After(d):
	case <-r.ctx.Done():
	}
}

// log is where a process writes to: the test's output, each line with a name before it.
func (r *rig) log(name string) io.Writer { return daemon.Named(r.Output(), name) }
