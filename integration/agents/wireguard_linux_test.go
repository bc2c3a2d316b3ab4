package agents

import (
	"testing"
	"time"

	"tunneldirector/integration/lab"
)

// The host of a real server is gone: the successors establish what it had.
func TestDeathIsAdopted(t *testing.T) {
	t.Parallel()
	r := newRig(t, wireGuard{}, lab.Options{Sites: 6, RealServers: 2})
	dead := r.placed(r.Sites[0])
	moved := r.at(dead)
	f := r.flow(moved...)
	r.rest(300 * time.Millisecond)
	r.must("cut the cables", r.SetCable(dead.DR, false))
	r.must("cut the cables", r.SetCable(dead.Inner, false))
	r.rest(5 * time.Second)
	f.measure("death", 4500*time.Millisecond)
}

// Agents that are killed, and start anew, move nothing and lose nothing.
func TestAgentDeathMovesNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, wireGuard{}, lab.Options{Sites: 4, RealServers: 2})
	want := map[string]string{}
	for _, s := range r.Sites {
		want[s.Name] = r.placed(s).Name
	}
	f := r.flow(r.Sites...)
	for _, a := range r.agents {
		a.Kill()
	}
	r.rest(3 * time.Second) // several times what a death takes
	for _, rs := range r.RealServers {
		if st := r.realServer(rs.Name); st.State != "alive" || st.Incarnation != 1 {
			t.Errorf("without its agent %s is %s #%d: %s", rs.Name, st.State, st.Incarnation, st.Cause)
		}
	}
	for _, a := range r.agents {
		r.must("start an agent again", a.Start())
	}
	r.must("hear the agents", r.d.Heard(r.ctx, len(r.Sites), r.RealServers...))
	lost, _ := f.end()
	for _, s := range r.Sites {
		if lost[s] > 0 {
			t.Errorf("%s lost %d packets", s.Name, lost[s])
		}
		if got := r.placed(s).Name; got != want[s.Name] {
			t.Errorf("%s moved from %s to %s", s.Name, want[s.Name], got)
		}
	}
}
