package agents

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"tunneldirector/director/api"
	"tunneldirector/integration/lab"
)

// A bound is how long nothing may flow through a tunnel that is moved.
type bound struct {
	moved time.Duration // by an operator
	died  time.Duration // its terminator
	rest  time.Duration // between moves: so long after one the software takes no other
}

// TestTunnels is the life of tunnels of each kind of software: they are told of, seen in the wrong place, adopted, drained, and
// outlive their terminator. The sites' software is as it is anywhere.
func TestTunnels(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		kind  func(*testing.T) kind
		sites int
		bound bound
		adopt string // what orders to adopt come to
	}{
		{"wireguard", func(*testing.T) kind { return wireGuard{} }, 4, bound{moved: 3 * time.Second, died: 3500 * time.Millisecond}, "done"},
		{"strongswan", func(t *testing.T) kind { return newCharon(t) }, 3, bound{moved: 5 * time.Second, died: 5 * time.Second}, "done"},
		{"fastd", func(t *testing.T) kind { return newFastd(t) }, 3, bound{5 * time.Second, 5 * time.Second, 16 * time.Second}, "done"},
		{"tinc", func(t *testing.T) kind { return newTinc(t) }, 3, bound{moved: 20 * time.Second, died: 30 * time.Second}, "waiting"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, c.kind(t), lab.Options{Sites: c.sites, RealServers: 2})
			for _, s := range r.Sites {
				r.seen(s, 20*time.Second, api.SeenRight, r.placed(s), r.placed(s))
			}
			r.rest(c.bound.rest)
			r.wrongPlace(c.bound.moved)
			r.repinned(c.bound.moved, c.adopt)
			r.rest(c.bound.rest)
			r.drained(c.bound.moved)
			r.rest(c.bound.rest)
			r.terminatorDies(c.bound.died)
		})
	}
}

// seen waits until the director says of a site what agents see.
func (r *rig) seen(s *lab.Site, d time.Duration, state string, at, pinned *lab.RealServer) {
	r.Helper()
	r.until(d, "see "+s.Name+" "+state, func() error {
		list, err := r.d.Client.Seen(r.ctx, api.SeenFilter{States: []string{api.SeenRight, api.SeenWrong, api.SeenUnknown, api.SeenNot}, Limit: 1000})
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(list.Seen, func(x api.SeenTunnel) bool {
			return x.Tunnel == s.Name && x.State == state && x.At == at.Name && x.Pinned == pinned.Name
		}) {
			return fmt.Errorf("it says %+v", list.Seen)
		}
		return nil
	})
}

// wrongPlace repins a tunnel to a real server whose agent is dead: it stays where it is, and the director says so. The agent
// comes back, and does what was ordered meanwhile.
func (r *rig) wrongPlace(most time.Duration) {
	r.Helper()
	s := r.Sites[0]
	from, to := r.placed(s), r.other(s)
	r.agents[to].Kill()
	f := r.flow(s)
	began := time.Now()
	r.repin(s, to)
	r.seen(s, 20*time.Second, api.SeenWrong, from, to)
	if out, err := r.d.Command("seen"); err != nil || !strings.Contains(out, api.SeenWrong) || !strings.Contains(out, s.Name) {
		r.Errorf("director seen: %v\n%s", err, out)
	}
	waited := time.Since(began)
	r.must("start the agent", r.agents[to].Start())
	r.seen(s, 20*time.Second, api.SeenRight, to, to)
	r.rest(500 * time.Millisecond)
	f.measure("wrong-place", most+waited+3*time.Second)
}

func (r *rig) repin(s *lab.Site, to *lab.RealServer) {
	r.Helper()
	r.must("move", r.d.Repin(r.ctx, s.Name, to))
}

// repinned repins a tunnel: the successor establishes it without a word from the site, or else the old real server gives it up.
func (r *rig) repinned(most time.Duration, adopt string) {
	r.Helper()
	s := r.Sites[1]
	from, to := r.placed(s), r.other(s)
	f := r.flow(s)
	r.rest(300 * time.Millisecond)
	r.repin(s, to)
	r.seen(s, 20*time.Second, api.SeenRight, to, to)
	r.ordered(s, to, "adopt", adopt)
	r.ordered(s, from, "release", "done")
	r.rest(500 * time.Millisecond)
	f.measure("repin", most)
}

// ordered waits until an order has come to an outcome.
func (r *rig) ordered(s *lab.Site, rs *lab.RealServer, kind, outcome string) {
	r.Helper()
	r.until(20*time.Second, kind+" "+s.Name+" at "+rs.Name, func() error {
		list, err := r.d.Client.Orders(r.ctx, rs.Name, false, 1000)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(list.Orders, func(o api.Order) bool { return o.Tunnel == s.Name && o.Kind == kind && o.Outcome == outcome }) {
			return fmt.Errorf("the orders are %+v", list.Orders)
		}
		return nil
	})
}

// drained empties a real server at a rate: all are established elsewhere.
func (r *rig) drained(most time.Duration) {
	r.Helper()
	from := r.placed(r.Sites[0])
	moved := r.at(from)
	to := r.other(moved[0])
	f := r.flow(moved...)
	began := time.Now()
	_, err := r.d.Client.Drain(r.ctx, from.Name, api.DrainRequest{Rate: "2/s"})
	r.must("drain", err)
	r.until(3*time.Minute, "empty "+from.Name, func() error {
		if st := r.realServer(from.Name); st.Tunnels > 0 || st.Drain == nil || st.Drain.Left > 0 {
			return fmt.Errorf("it has %d tunnels, and says %+v", st.Tunnels, st.Drain)
		}
		return nil
	})
	if took := time.Since(began); took < time.Duration(len(moved)-1)*450*time.Millisecond {
		r.Errorf("%d tunnels were drained in %v, which is more than 2 a second", len(moved), took)
	}
	for _, s := range moved {
		r.seen(s, 20*time.Second, api.SeenRight, to, to)
	}
	r.rest(500 * time.Millisecond)
	f.measure("drain", most)
	_, err = r.d.Client.Undrain(r.ctx, from.Name)
	r.must("undrain", err)
}

// terminatorDies kills the terminator alone: its agent says so on the data path, and the successor establishes what it had.
func (r *rig) terminatorDies(most time.Duration) {
	r.Helper()
	dead := r.placed(r.Sites[0])
	moved := r.at(dead)
	to := r.other(moved[0])
	f := r.flow(moved...)
	r.rest(300 * time.Millisecond)
	r.kill(r, dead)
	r.until(20*time.Second, "see "+dead.Name+" dead", func() error {
		if st := r.realServer(dead.Name); st.State != "dead" || st.Agent == nil || !st.Agent.Connected {
			return fmt.Errorf("it is %s, its agent %+v", st.State, st.Agent)
		}
		return nil
	})
	for _, s := range moved {
		r.seen(s, 40*time.Second, api.SeenRight, to, to)
	}
	r.rest(500 * time.Millisecond)
	f.measure("terminator-death", most)
	r.serve(r, dead)
	r.until(time.Minute, "see the real server alive again", func() error {
		if st := r.realServer(dead.Name); st.State != "alive" || st.Agent.Health != "working" {
			return fmt.Errorf("it is %s #%d: %s; its agent %+v", st.State, st.Incarnation, st.Cause, st.Agent)
		}
		return nil
	})
	for _, s := range moved {
		if r.placed(s) == dead {
			r.Errorf("%s went back to the real server that returned", s.Name)
		}
	}
}
