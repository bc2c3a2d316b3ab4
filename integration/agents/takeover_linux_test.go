package agents

import (
	"context"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"tunneldirector/director/api"
	"tunneldirector/integration/daemon"
	"tunneldirector/integration/lab"
)

// TestTakeover measures how long after a terminator's death, and after its host's, the first user packet of each of many
// tunnels gets through the successor. Without adopt the successor's agent is dead: nobody carries out what is ordered. All
// tunnels carry packets, of their sites.
func TestTakeover(t *testing.T) {
	if os.Getenv("AGENTS_BENCH") == "" {
		t.Skip("a measurement: AGENTS_BENCH=1")
	}
	for _, k := range []struct {
		name     string
		kind     func(*testing.T) kind
		sites    int
		machines int // that sites share
	}{
		{"wireguard", func(*testing.T) kind { return wireGuard{} }, 200, 10},
		{"strongswan", func(t *testing.T) kind { return newCharon(t) }, 100, 100}, // tunnels of one charon share a route, which goes with the first of them
	} {
		for _, adopt := range []struct{ name, settings string }{
			{"adopt-200", "{rate: 200/s, burst: 200}"}, {"adopt-default", "{}"}, {"no-adopt", ""},
		} {
			t.Run(k.name+"/"+adopt.name, func(t *testing.T) {
				r := newLab(t, k.kind(t), lab.Options{Sites: k.sites, SiteNamespaces: k.machines, RealServers: 2})
				r.crowd(adopt.settings)
				what := fmt.Sprintf("%s, %d tunnels, %s", k.name, k.sites, adopt.name)
				first, second := r.RealServers[0], r.RealServers[1]
				r.takeover(what+", terminator killed", second, adopt.settings != "", func() { r.kill(r, first) })
				r.serve(r, first)
				r.alive(first)
				r.takeover(what+", link cut", first, adopt.settings != "", func() {
					r.must("cut", r.SetCable(second.DR, false))
					r.must("cut", r.SetCable(second.Inner, false))
				})
			})
		}
	}
}

// crowd brings all tunnels up at the first real server.
func (r *rig) crowd(adopt string) {
	r.Helper()
	first, second := r.RealServers[0], r.RealServers[1]
	r.run()
	_, err := r.d.Client.Drain(r.ctx, second.Name, api.DrainRequest{})
	r.must("drain", err)
	r.must("push", r.d.Push(r.ctx, r.Sites...))
	for _, rs := range r.RealServers {
		if adopt != "" {
			_, err := r.agent(r.Lab, rs, daemon.AgentOptions{Adopt: adopt})
			r.must("configure an agent", err)
		}
		r.must("start an agent", r.agents[rs].Start())
	}
	r.call(r, r.Sites)
	r.must("establish", r.Establish(r.ctx))
	r.must("hear the agents", r.d.Heard(r.ctx, len(r.Sites), first))
	_, err = r.d.Client.Undrain(r.ctx, second.Name)
	r.must("undrain", err)
	r.backed()
}

// backed waits until each tunnel has a backup.
func (r *rig) backed() {
	r.Helper()
	r.until(30*time.Second, "find backups", func() error {
		s, err := r.d.Client.Status(r.ctx)
		if err == nil && (s.Tunnels.NoBackup > 0 || s.Tunnels.Placed < uint64(len(r.Sites))) {
			err = fmt.Errorf("%+v", s.Tunnels)
		}
		return err
	})
}

// alive waits until a real server that was dead is alive, and its agent says so.
func (r *rig) alive(rs *lab.RealServer) {
	r.Helper()
	r.until(40*time.Second, "see "+rs.Name+" alive", func() error {
		if st := r.realServer(rs.Name); st.State != "alive" || st.Agent == nil || !st.Agent.Connected || st.Agent.Health != "working" {
			return fmt.Errorf("it is %s: %s; its agent %+v", st.State, st.Cause, st.Agent)
		}
		return nil
	})
	r.backed()
}

// takeover measures what an event does to all tunnels.
func (r *rig) takeover(what string, successor *lab.RealServer, adopt bool, event func()) {
	r.Helper()
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	var pingers []*lab.Pinger
	for _, s := range r.Sites {
		p, err := r.StartPing(ctx, s.NS, s.Inside[0], r.Target.Inner.Addrs[0], 100*time.Millisecond, 0)
		r.must("ping", err)
		pingers = append(pingers, p)
	}
	r.rest(2 * time.Second)
	if !adopt {
		r.agents[successor].Kill()
		r.rest(5 * time.Second) // probes ask without it from now on
	}
	began := time.Now()
	event()
	done := time.Since(began)
	received := make([]uint64, len(pingers))
	r.rest(300*time.Millisecond - done) // what was answered before is in by now
	for i, p := range pingers {
		received[i] = p.Received()
	}
	r.until(100*time.Second, "hear of all", func() error {
		for i, p := range pingers {
			if p.Received() <= received[i] {
				return fmt.Errorf("%s is silent", r.Sites[i].Name)
			}
		}
		return nil
	})
	cancel()
	var all []time.Duration
	for i, p := range pingers {
		echoes, err := p.Stop()
		r.must("ping", err)
		took, ok := lab.Restored(echoes, began.Add(done))
		if !ok {
			r.Errorf("%s: nothing got through", r.Sites[i].Name)
		}
		all = append(all, took+done)
	}
	slices.Sort(all)
	at := func(share float64) float64 { return all[min(len(all)-1, int(share*float64(len(all))))].Seconds() }
	r.Logf("MEASURED first-packet-through-successor median %.2f s p99 %.2f s max %.2f s (%s)", at(0.5), at(0.99), at(1), what)
	if !adopt {
		r.must("start the agent", r.agents[successor].Start())
	}
}
