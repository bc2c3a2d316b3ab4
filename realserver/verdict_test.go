package realserver

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"tunneldirector/director/agent"
)

// TestVerdictsAreShown: what a director makes of a real server of this host is shown for as long as the director is heard.
func TestVerdictsAreShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := begin(t, &software{up: sites(1, time.Now())}, 1, nil)
		settle(time.Second)
		d, since := l.directors[0], time.Now().Add(-time.Hour).UTC()
		says := func(v agent.Verdict) {
			d.mu.Lock()
			c := d.conns[len(d.conns)-1]
			d.mu.Unlock()
			if err := c.Send(agent.Message{Verdict: &v}); err != nil {
				t.Errorf("say what is made of it: %v", err)
			}
			settle(time.Millisecond)
		}
		want := func(what string, list ...Verdict) {
			t.Helper()
			if diff := cmp.Diff(list, l.agent.Status().Directors[0].Verdicts); diff != "" {
				t.Errorf("%s (-want +got):\n%s", what, diff)
			}
		}
		want("a director that says nothing of it")
		says(agent.Verdict{RealServer: "rs9", State: "dead", Since: since})
		want("one of another host")
		says(agent.Verdict{RealServer: "rs1", State: "alive", Since: since, Why: "answers", Drained: since, Shut: "it is full"})
		want("alive", Verdict{RealServer: "rs1", State: "alive", Since: since, Why: "answers", Drained: &since, Shut: "it is full"})
		says(agent.Verdict{RealServer: "rs1", State: "dead", Since: since, Why: "silent"})
		want("dead", Verdict{RealServer: "rs1", State: "dead", Since: since, Why: "silent"})
		d.hangUp()
		settle(time.Second)
		want("a director that was heard before this stream")
	})
}
