package agents

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tunneldirector/integration/daemon"
	"tunneldirector/integration/lab"
)

// steady is software that says the same at all times.
type steady struct {
	wireGuard
	since time.Time
}

func (*steady) bare() bool                  { return true }
func (*steady) serve(*rig, *lab.RealServer) {}
func (*steady) service() daemon.VirtualService {
	return daemon.VirtualService{Name: daemon.Service, Protocols: []string{"udp/51820"}, Check: "none"}
}

// terminator has each second site at each real server.
func (s *steady) terminator(l *lab.Lab, rs *lab.RealServer) string {
	var says []string
	for _, site := range l.Sites {
		if site.Index%2 == rs.Index%2 {
			says = append(says, fmt.Sprintf(`{"peer":"%s","endpoint":"%s","subnets":["%s"],"since":%d}`, site.Name, site.Endpoint, site.Subnets[0], s.since.Unix()))
		}
	}
	return fmt.Sprintf("{kind: exec, tunnels: [/bin/sh, -c, %q]}", "echo '"+strings.Join(says, "\n")+"'")
}

// TestClockJump: the machine's clock is set forth and back, under director and agents alike. Nothing dies, moves, or is told anew.
func TestClockJump(t *testing.T) {
	if os.Getenv("TUNNELDIRECTOR_VM") == "" {
		t.Skip("the machine's clock is set: in the virtual machine alone")
	}
	k := &steady{since: time.Now()}
	r := newLab(t, k, lab.Options{Sites: 4, RealServers: 2})
	r.start()
	for _, rs := range r.RealServers {
		r.must("start an agent", r.agents[rs].Start())
	}
	r.must("hear the agents", r.d.Heard(r.ctx, len(r.Sites), r.RealServers...))
	want := map[string]string{}
	for _, s := range r.Sites {
		want[s.Name] = r.placed(s).Name
	}
	before := map[string]time.Time{}
	for _, rs := range r.RealServers {
		before[rs.Name] = r.realServer(rs.Name).Agent.Since
	}
	for _, by := range []time.Duration{time.Hour, -3 * time.Hour, 2 * time.Hour} {
		began := time.Now()
		now := unix.NsecToTimeval(began.Add(by).UnixNano())
		r.must("set the clock", unix.Settimeofday(&now))
		if went := time.Now().Round(0).Sub(began.Round(0)); (went - by).Abs() > time.Minute { // Round: by the wall clock
			t.Fatalf("the clock went %v, not %v", went, by)
		}
		r.rest(15 * time.Second) // longer than agents and probes are waited for
		for _, rs := range r.RealServers {
			st := r.realServer(rs.Name)
			if st.State != "alive" || st.Incarnation != 1 || st.Agent == nil || !st.Agent.Connected || st.Agent.Health != "working" || st.Agent.Established != 2 {
				t.Errorf("%v: %s is %s #%d: %s; its agent %+v", by, rs.Name, st.State, st.Incarnation, st.Cause, st.Agent)
			} else if !st.Agent.Since.Equal(before[rs.Name]) {
				t.Errorf("%v: the agent of %s is connected since %v, it was since %v", by, rs.Name, st.Agent.Since, before[rs.Name])
			}
		}
		for _, s := range r.Sites {
			if got := r.placed(s).Name; got != want[s.Name] {
				t.Errorf("%v: %s moved from %s to %s", by, s.Name, want[s.Name], got)
			}
		}
	}
}
