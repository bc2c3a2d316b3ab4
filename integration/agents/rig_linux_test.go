package agents

import (
	"context"
	"log/slog"
	"os"
	"testing"
	"time"

	"tunneldirector/director/api"
	"tunneldirector/integration/daemon"
	"tunneldirector/integration/lab"
	"tunneldirector/integration/programs"
	"tunneldirector/integration/spaces"
)

// patience is how long a test may take.
const patience = 10 * time.Minute

// TestMain builds the programs under test. Labs wait most of the time, and do not load a machine.
func TestMain(m *testing.M) {
	programs.Main(m, programs.Options{Plain: os.Getenv("AGENTS_BENCH") != "", Parallel: 8})
}

// A rig is a lab with a director at work, tunnel software, and an agent on each real server.
type rig struct {
	*testing.T
	*lab.Lab
	kind
	d         *daemon.Daemon
	agents    map[*lab.RealServer]*daemon.Agent
	authority *daemon.Authority
	dir       string
	ctx       context.Context
}

// newRig builds all, brings the tunnels up, and waits until the agents have told of them.
func newRig(t *testing.T, k kind, o lab.Options) *rig {
	t.Helper()
	r := newLab(t, k, o)
	r.start()
	for _, rs := range r.RealServers {
		r.must("start an agent", r.agents[rs].Start())
	}
	k.call(r, r.Sites)
	r.must("establish", r.Establish(r.ctx))
	r.must("hear the agents", r.d.Heard(r.ctx, len(r.Sites), r.RealServers...))
	return r
}

// newLab builds the lab. Its real servers are made right by their agents' program, and so hold the virtual IPs.
func newLab(t *testing.T, k kind, o lab.Options) *rig {
	t.Helper()
	spaces.Root(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	r := &rig{T: t, kind: k, dir: t.TempDir(), ctx: ctx, agents: map[*lab.RealServer]*daemon.Agent{}}
	var err error
	r.authority, err = daemon.NewAuthority(r.dir)
	r.must("make an authority", err)
	o.Logger, o.Bare = logger(t), k.bare()
	if o.Prepare == nil {
		o.Prepare = func(l *lab.Lab, rs *lab.RealServer) error {
			a, err := r.agent(l, rs, daemon.AgentOptions{})
			if err == nil {
				_, err = a.Command("apply", "--config", a.Config())
			}
			return err
		}
	}
	r.Lab, err = lab.New(context.WithoutCancel(ctx), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Lab.Close(); err != nil {
			t.Errorf("close the lab: %v", err)
		}
	})
	return r
}

// agent configures a real server's agent.
func (r *rig) agent(l *lab.Lab, rs *lab.RealServer, o daemon.AgentOptions) (*daemon.Agent, error) {
	o.Binary, o.Dir, o.Log = programs.RealServer(), r.dir, r.Output()
	if o.Terminator == "" {
		o.Terminator = r.terminator(l, rs)
	}
	o.Protocols = r.service().Protocols
	a, err := daemon.NewAgent(l, rs, r.authority, o)
	r.agents[rs] = a
	return a, err
}

// start starts the director and the terminators, and makes all known.
func (r *rig) start() {
	r.Helper()
	r.run()
	r.must("push", r.d.Push(r.ctx, r.Sites...))
}

// run is start without the tunnels.
func (r *rig) run() {
	r.Helper()
	settings, err := r.authority.Settings(r.Lab, "director1")
	r.must("certify the director", err)
	r.d, err = daemon.New(r.Lab, daemon.Options{
		Binary: programs.Director(), Dir: r.dir, Log: r.Output(), Settings: settings, Service: r.service(),
	})
	r.must("configure the director", err)
	r.must("start the director", r.d.Start(r.ctx))
	for _, rs := range r.RealServers {
		r.serve(r, rs)
	}
	r.must("apply", r.d.Apply(r.ctx))
}

func logger(t *testing.T) *slog.Logger { return slog.New(slog.NewTextHandler(t.Output(), nil)) }

func (r *rig) must(act string, err error) {
	r.Helper()
	if err != nil {
		r.Fatalf("%s: %v", act, err)
	}
}

// until waits up to so long for a state of the director.
func (r *rig) until(d time.Duration, what string, ask func() error) {
	r.Helper()
	ctx, cancel := context.WithTimeout(r.ctx, d)
	defer cancel()
	r.must(what, r.d.Until(ctx, ask))
}

func (r *rig) placed(s *lab.Site) *lab.RealServer {
	r.Helper()
	rs, _, err := r.d.Placed(r.ctx, s)
	r.must("ask where "+s.Name+" is", err)
	return rs
}

// other is a real server that a site is not at.
func (r *rig) other(s *lab.Site) *lab.RealServer {
	return r.RealServers[r.placed(s).Index%len(r.RealServers)]
}

// at are the sites that are placed at a real server.
func (r *rig) at(rs *lab.RealServer) (list []*lab.Site) {
	r.Helper()
	for _, s := range r.Sites {
		if r.placed(s) == rs {
			list = append(list, s)
		}
	}
	return list
}

func (r *rig) realServer(name string) api.RealServerStatus {
	r.Helper()
	s, err := r.d.Client.Status(r.ctx)
	r.must("ask for the status", err)
	for _, rs := range s.RealServers {
		if rs.Name == name {
			return rs
		}
	}
	r.Fatalf("no real server %s", name)
	return api.RealServerStatus{}
}

// traffic is pings both ways through sites' tunnels.
type traffic struct {
	r       *rig
	cancel  context.CancelFunc
	pingers map[*lab.Site][2]*lab.Pinger
}

// pause is the time between two packets of a direction of a tunnel.
const pause = 20 * time.Millisecond

// flow starts pings both ways.
func (r *rig) flow(sites ...*lab.Site) traffic {
	r.Helper()
	ctx, cancel := context.WithCancel(r.ctx)
	f := traffic{r, cancel, map[*lab.Site][2]*lab.Pinger{}}
	target := r.Target.Inner.Addrs[0]
	for _, s := range sites {
		out, err := r.StartPing(ctx, s.NS, s.Inside[0], target, pause, 0)
		r.must("ping", err)
		in, err := r.StartPing(ctx, r.Target.Namespace, target, s.Inside[0], pause, 0)
		r.must("ping", err)
		f.pingers[s] = [2]*lab.Pinger{out, in}
	}
	return f
}

// end stops it, and says how many packets each site lost, and for how long all was lost in a direction.
func (f traffic) end() (lost map[*lab.Site]int, gaps map[*lab.Site]time.Duration) {
	f.r.Helper()
	f.cancel()
	lost, gaps = map[*lab.Site]int{}, map[*lab.Site]time.Duration{}
	for s, both := range f.pingers {
		for _, p := range both {
			echoes, err := p.Stop()
			f.r.must("ping", err)
			if len(echoes) == 0 || lab.CountLost(echoes) == len(echoes) {
				f.r.Errorf("%s: of %d packets none got through", s.Name, len(echoes))
			}
			lost[s] += lab.CountLost(echoes)
			gaps[s] = max(gaps[s], lab.Outage(echoes, pause))
		}
	}
	return lost, gaps
}

// measure ends it, and says what a change did to it.
func (f traffic) measure(change string, most time.Duration) {
	f.r.Helper()
	lost, gaps := f.end()
	for s, gap := range gaps {
		f.r.Logf("MEASURED %s-gap %.2f s, %d packets lost (%s)", change, gap.Seconds(), lost[s], s.Name)
		if gap > most {
			f.r.Errorf("%s: %s: all was lost for %v, at most %v is good", s.Name, change, gap, most)
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
