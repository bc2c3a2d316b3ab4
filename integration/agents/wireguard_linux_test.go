package agents

import (
	"fmt"
	"testing"
	"time"

	"tunneldirector/director/api"
	"tunneldirector/integration/lab"
)

// A tunnel that is repinned is established by the successor, without a word from the site.
func TestRepinIsAdopted(t *testing.T) {
	t.Parallel()
	r := newRig(t, lab.Options{Sites: 4, RealServers: 2})
	s := r.Sites[0]
	to := r.other(s)
	f := r.flow(s)
	r.rest(300 * time.Millisecond)
	_, err := r.d.Client.Repin(r.ctx, s.Name, api.RepinRequest{To: to.Name})
	r.must("repin", err)
	r.until(10*time.Second, "see it at "+to.Name, func() error {
		p, err := to.Peer(s)
		if err == nil && p.LastHandshake.IsZero() {
			err = fmt.Errorf("%s has no session", to.Name)
		}
		return err
	})
	r.rest(500 * time.Millisecond)
	lost, gap := f.end()
	t.Logf("MEASURED repin-adopted-gap %.2f s, %d packets lost (WireGuard)", gap.Seconds(), lost)
	if gap > 5*time.Second {
		t.Errorf("nothing flowed for %v: WireGuard alone takes 15 s", gap)
	}
}

// The host of a real server is gone: the successors establish what it had.
func TestDeathIsAdopted(t *testing.T) {
	t.Parallel()
	r := newRig(t, lab.Options{Sites: 6, RealServers: 2})
	dead := r.placed(r.Sites[0])
	moved := r.at(dead)
	var flows []traffic
	for _, s := range moved {
		flows = append(flows, r.flow(s))
	}
	r.rest(300 * time.Millisecond)
	r.must("cut the cables", r.SetCable(dead.DR, false))
	r.must("cut the cables", r.SetCable(dead.Inner, false))
	r.rest(5 * time.Second)
	for i, f := range flows {
		lost, gap := f.end()
		t.Logf("MEASURED death-adopted-gap %.2f s, %d packets lost (WireGuard, %s)", gap.Seconds(), lost, moved[i].Name)
		if gap > 4500*time.Millisecond {
			t.Errorf("%s: nothing flowed for %v", moved[i].Name, gap)
		}
	}
}

// The terminator alone dies: its agent says so on the data path, and the successors establish what it had.
func TestTerminatorDeathIsAdopted(t *testing.T) {
	t.Parallel()
	r := newRig(t, lab.Options{Sites: 4, RealServers: 2})
	dead := r.placed(r.Sites[0])
	moved := r.at(dead)
	f := r.flow(moved[0])
	r.rest(300 * time.Millisecond)
	dead.KillTerminator()
	r.rest(4 * time.Second)
	lost, gap := f.end()
	t.Logf("MEASURED terminator-death-adopted-gap %.2f s, %d packets lost (WireGuard)", gap.Seconds(), lost)
	if gap > 3500*time.Millisecond {
		t.Errorf("nothing flowed for %v", gap)
	}
	if st := r.realServer(dead.Name); st.State != "dead" || st.Agent == nil || !st.Agent.Connected {
		t.Errorf("the director says %+v", st)
	}
	r.must("start the terminator", dead.StartTerminator())
	r.until(20*time.Second, "see the real server alive again", func() error {
		if st := r.realServer(dead.Name); st.State != "alive" || st.Incarnation != 2 {
			return fmt.Errorf("it is %s #%d: %s", st.State, st.Incarnation, st.Cause)
		}
		return nil
	})
	for _, s := range moved {
		if r.placed(s) == dead {
			t.Errorf("%s went back to the real server that returned", s.Name)
		}
	}
}

// Agents that are killed, and start anew, move nothing and lose nothing.
func TestAgentDeathMovesNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, lab.Options{Sites: 4, RealServers: 2})
	want := map[string]string{}
	var flows []traffic
	for _, s := range r.Sites {
		want[s.Name] = r.placed(s).Name
		flows = append(flows, r.flow(s))
	}
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
	for i, f := range flows {
		if lost, _ := f.end(); lost > 0 {
			t.Errorf("%s lost %d packets", r.Sites[i].Name, lost)
		}
		if got := r.placed(r.Sites[i]).Name; got != want[r.Sites[i].Name] {
			t.Errorf("%s moved from %s to %s", r.Sites[i].Name, want[r.Sites[i].Name], got)
		}
	}
}
