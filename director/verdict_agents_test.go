package director

import (
	"testing"
	"testing/synctest"
	"time"

	"tunneldirector/affinity"
	"tunneldirector/director/agent"
)

// TestAgentsAreToldTheVerdict: the host of a real server hears what the director makes of it, within a second or two of each change.
func TestAgentsAreToldTheVerdict(t *testing.T) {
	inWorld(t, func(w *world) {
		w.base(2)
		h := w.agentOf("rs1")
		verdict := func() agent.Verdict {
			time.Sleep(2 * time.Second)
			synctest.Wait()
			h.mu.Lock()
			defer h.mu.Unlock()
			return h.verdict
		}
		born := verdict()
		if born.State != "alive" || born.Since.IsZero() || !born.Drained.IsZero() || born.Shut != "" {
			t.Errorf("at the beginning: %+v", born)
		}
		h.status(agent.HealthWorking, true)
		if v := verdict(); v.State != "alive" || v.Shut == "" || !v.Since.Equal(born.Since) {
			t.Errorf("full: %+v", v)
		}
		h.status(agent.HealthWorking, false)
		w.must(affinity.SetAdmin{By: operator, Name: "rs1", Admin: affinity.Drained})
		if v := verdict(); v.State != "alive" || v.Shut != "" || time.Since(v.Drained) > time.Minute {
			t.Errorf("drained: %+v", v)
		}
		w.verdict("rs1", false)
		if v := verdict(); v.State != "dead" || v.Why == "" || !v.Since.After(born.Since) || v.Drained.IsZero() {
			t.Errorf("dead: %+v", v)
		}
	})
}
