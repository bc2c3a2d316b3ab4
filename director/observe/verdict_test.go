package observe

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tunneldirector/director/agent"
)

// A verdict reaches the agent once when it changes, and once on each of its streams, and no other agent.
func TestVerdict(t *testing.T) {
	s := newStand(t)
	sent := func() (out []agent.Verdict) {
		for {
			select {
			case m := <-s.line.out:
				if m.Verdict != nil {
					out = append(out, *m.Verdict)
				}
			default:
				return out
			}
		}
	}
	want := func(what string, list ...agent.Verdict) {
		t.Helper()
		if d := cmp.Diff(list, sent()); d != "" {
			t.Errorf("%s: sent (-want +got):\n%s", what, d)
		}
	}
	alive := agent.Verdict{RealServer: "rs1", State: "alive", Since: time.Unix(1000, 0), Why: "answers"}
	dead := agent.Verdict{RealServer: "rs1", State: "dead", Since: time.Unix(2000, 0), Why: "silent"}
	s.SetVerdict(alive)
	want("before the welcome")
	s.begin(s.line)
	want("at the beginning", alive)
	s.SetVerdict(alive)
	want("the same again")
	s.SetVerdict(dead)
	want("another", dead)
	s.SetVerdict(agent.Verdict{RealServer: "rs9", State: "alive"})
	want("about one of another host")
	s.join("one")
	s.begin(s.line)
	want("the stream broke", dead)
	s.leave(s.line)
	s.Forget("rs1")
	s.line = nil
	s.join("two")
	s.begin(s.line)
	want("it was forgotten")
}
