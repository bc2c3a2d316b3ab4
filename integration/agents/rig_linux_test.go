package agents

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"tunneldirector/director/api"
	"tunneldirector/integration/daemon"
	"tunneldirector/integration/lab"
)

var programs = flag.String("programs", "", "directory of the programs director and realserver; default: built for the tests, with the race detector")

// TestMain builds the programs under test.
func TestMain(m *testing.M) {
	flag.Parse()
	if *programs != "" || os.Geteuid() != 0 {
		os.Exit(m.Run())
	}
	dir, err := os.MkdirTemp("", "programs-")
	if err == nil {
		*programs = dir
		var out []byte
		if out, err = exec.Command("go", "build", "-race", "-o", dir, "../../cmd/director", "../../cmd/realserver").CombinedOutput(); err != nil {
			err = fmt.Errorf("%w\n%s", err, out)
		}
	}
	code := 1
	if err != nil {
		fmt.Fprintln(os.Stderr, "build the programs:", err)
	} else {
		code = m.Run()
	}
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// A rig is a lab with a director at work, and an agent on each real server.
type rig struct {
	*testing.T
	*lab.Lab
	d      *daemon.Daemon
	agents []*daemon.Agent
	ctx    context.Context
}

// newRig builds all, brings the tunnels up, and waits until the agents have told of them.
func newRig(t *testing.T, o lab.Options) *rig {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("a lab of network namespaces needs root")
		}
		t.Skip("a lab of network namespaces needs root")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 120*time.Second)
	t.Cleanup(cancel)
	o.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	l, err := lab.New(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("close the lab: %v", err)
		}
	})
	r := &rig{T: t, Lab: l, ctx: ctx}
	dir := t.TempDir()
	authority, err := daemon.NewAuthority(dir)
	r.must("make an authority", err)
	settings, err := authority.Settings(l, "director1")
	r.must("certify the director", err)
	r.d, err = daemon.New(l, daemon.Options{Binary: filepath.Join(*programs, "director"), Dir: dir, Log: t.Output(), Settings: settings})
	r.must("configure the director", err)
	r.must("start the director", r.d.Start(ctx))
	r.must("apply", r.d.Apply(ctx))
	r.must("push", r.d.Push(ctx, l.Sites...))
	for _, rs := range l.RealServers {
		a, err := daemon.NewAgent(l, rs, authority, daemon.AgentOptions{Binary: filepath.Join(*programs, "realserver"), Dir: dir, Log: t.Output()})
		r.must("configure an agent", err)
		r.must("start an agent", a.Start())
		r.agents = append(r.agents, a)
	}
	r.must("establish", l.Establish(ctx))
	r.must("hear the agents", r.d.Heard(ctx, len(l.Sites), l.RealServers...))
	return r
}

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

// traffic is pings both ways through a site's tunnel.
type traffic struct {
	r       *rig
	out, in *lab.Pinger
}

// flow starts pings both ways, every 20 ms.
func (r *rig) flow(s *lab.Site) traffic {
	r.Helper()
	target := r.Target.Inner.Addrs[0]
	out, err := r.StartPing(r.ctx, s.NS, s.Inside[0], target, 20*time.Millisecond, 0)
	r.must("ping", err)
	in, err := r.StartPing(r.ctx, r.Target.Namespace, target, s.Inside[0], 20*time.Millisecond, 0)
	r.must("ping", err)
	return traffic{r, out, in}
}

// end stops it, and says how many packets were lost, and the longest gap of either direction.
func (f traffic) end() (lost int, gap time.Duration) {
	f.r.Helper()
	for _, p := range []*lab.Pinger{f.out, f.in} {
		echoes, err := p.Stop()
		f.r.must("ping", err)
		lost += lab.CountLost(echoes)
		gap = max(gap, lab.LongestGap(echoes))
	}
	return lost, gap
}

// rest lets packets flow for a while: the wires have no virtual time.
func (r *rig) rest(d time.Duration) {
	select {
	case <-time.After(d):
	case <-r.ctx.Done():
	}
}
