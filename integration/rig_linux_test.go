package integration

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"tunneldirector/director/api"
	"tunneldirector/integration/daemon"
	"tunneldirector/integration/lab"
	"tunneldirector/integration/programs"
	"tunneldirector/integration/spaces"
)

// TestMain builds the programs under test.
func TestMain(m *testing.M) { programs.Main(m, programs.Options{}) }

// A rig is a lab with a director at work, which knows the service, the real servers and the sites' tunnels.
type rig struct {
	*testing.T
	*lab.Lab
	d   *daemon.Daemon
	ctx context.Context
}

// newRig builds all and brings the tunnels up. Data is the data directory; "": one of the test's.
func newRig(t *testing.T, o lab.Options, data string) *rig {
	t.Helper()
	spaces.Root(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
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
	d, err := daemon.New(l, daemon.Options{Binary: programs.Director(), Dir: t.TempDir(), Data: data, Log: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{T: t, Lab: l, d: d, ctx: ctx}
	r.must("start the director", d.Start(ctx))
	r.must("apply", d.Apply(ctx))
	r.must("push", d.Push(ctx, l.Sites...))
	r.must("establish", l.Establish(ctx))
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

func (r *rig) status() api.Status {
	r.Helper()
	s, err := r.d.Client.Status(r.ctx)
	r.must("ask for the status", err)
	return s
}

func (r *rig) tunnel(s *lab.Site) api.TunnelState {
	r.Helper()
	t, err := r.d.Client.Tunnel(r.ctx, s.Name)
	r.must("ask for "+s.Name, err)
	return t
}

func (r *rig) placed(s *lab.Site) *lab.RealServer {
	r.Helper()
	rs, _, err := r.d.Placed(r.ctx, s)
	r.must("ask where "+s.Name+" is", err)
	return rs
}

// placements are where all sites are, by name.
func (r *rig) placements() map[string]string {
	r.Helper()
	all := map[string]string{}
	for _, s := range r.Sites {
		all[s.Name] = r.placed(s).Name
	}
	return all
}

// lives are the incarnations of the real servers and their states.
func (r *rig) lives() map[string]string {
	r.Helper()
	list, err := r.d.Client.RealServers(r.ctx)
	r.must("list real servers", err)
	all := map[string]string{}
	for _, rs := range list {
		all[rs.Name] = fmt.Sprintf("%s #%d", rs.State, rs.Incarnation)
	}
	return all
}

// alive waits for a real server's incarnation to be alive.
func (r *rig) life(name, want string) {
	r.Helper()
	r.until(30*time.Second, "wait for "+name+" to be "+want, func() error {
		rs, err := r.d.Client.RealServer(r.ctx, name)
		if got := fmt.Sprintf("%s #%d", rs.State, rs.Incarnation); err == nil && got != want {
			err = fmt.Errorf("it is %s: %s", got, rs.Cause)
		}
		return err
	})
}

// counts are what each real server has counted of a site, by name.
func (r *rig) counts(s *lab.Site) map[string]lab.Counts {
	all := map[string]lab.Counts{}
	for _, rs := range r.RealServers {
		all[rs.Name] = rs.Counts(s)
	}
	return all
}

// ping pings both ways through a site's tunnel, count times each, and returns how many were lost.
func (r *rig) ping(s *lab.Site, count int) int {
	r.Helper()
	target := r.Target.Inner.Addrs[0]
	out, err := r.Ping(r.ctx, s.NS, s.Inside[0], target, 10*time.Millisecond, count)
	r.must("ping", err)
	in, err := r.Ping(r.ctx, r.Target.Namespace, target, s.Inside[0], 10*time.Millisecond, count)
	r.must("ping", err)
	return lab.CountLost(out) + lab.CountLost(in)
}

// send starts pings both ways for sites, every 20 ms, until the returned function is called, which returns how many were
// sent and how many lost.
func (r *rig) send(sites ...*lab.Site) func() (sent, lost int) {
	r.Helper()
	ctx, cancel := context.WithCancel(r.ctx)
	var all []*lab.Pinger
	target := r.Target.Inner.Addrs[0]
	for _, s := range sites {
		out, err := r.StartPing(ctx, s.NS, s.Inside[0], target, 20*time.Millisecond, 0)
		r.must("ping", err)
		in, err := r.StartPing(ctx, r.Target.Namespace, target, s.Inside[0], 20*time.Millisecond, 0)
		r.must("ping", err)
		all = append(all, out, in)
	}
	return func() (sent, lost int) {
		r.Helper()
		cancel()
		for _, p := range all {
			echoes, err := p.Stop()
			r.must("ping", err)
			sent, lost = sent+len(echoes), lost+lab.CountLost(echoes)
		}
		return sent, lost
	}
}

// lossless ends what send began, insists that nothing was lost, and tells how many were sent.
func (r *rig) lossless(end func() (int, int), during string) (sent int) {
	r.Helper()
	sent, lost := end()
	if lost > 0 || sent == 0 {
		r.Errorf("%s: %d of %d packets lost, want none", during, lost, sent)
	}
	return sent
}

// rest lets packets flow for a while: the wires have no virtual time.
func (r *rig) rest(d time.Duration) {
	select {
	case <-time.After(d):
	case <-r.ctx.Done():
	}
}
