package director

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"tunneldirector/affinity"
	"tunneldirector/director/agent"
)

// answerFault makes an agent say an outcome of the fault that it was ordered last.
func (h *host) answerFault(o agent.Outcome, why string) {
	h.mu.Lock()
	x := h.got[len(h.got)-1]
	h.mu.Unlock()
	h.send(agent.Message{Progress: &agent.Progress{RealServer: h.rs, Kind: x.Kind, Tunnels: []agent.Step{{ID: x.Fault.ID, Outcome: o, Why: why}}}})
}

func TestOrderFault(t *testing.T) {
	inWorld(t, func(w *world) {
		w.base(4)
		agents := map[string]*host{"rs1": w.agentOf("rs1"), "rs2": w.agentOf("rs2"), "rs3": w.agentOf("rs3")}
		inject := agent.FaultOrder{ID: "f1", Kind: "terminator-hang", Millis: 1000}
		undo := agent.FaultOrder{ID: "f1", Kind: "terminator-hang", Undo: true}
		for _, tt := range []struct {
			rs      string
			order   agent.FaultOrder
			says    agent.Outcome // the agent; 0: nothing, as an old one
			words   string        // of the error; "": none
			reason  affinity.RefusalReason
			refused bool
		}{
			{"rs1", inject, agent.OutcomeDone, "", 0, false},
			{"rs1", undo, agent.OutcomeDone, "", 0, false},
			{"rs2", inject, agent.OutcomeFailed, "drills are off", affinity.Forbidden, true},
			{"rs3", inject, 0, "upgrade the agent on host rs3", 0, false},
			{"rs3", undo, 0, "on host rs3: realserver undo-faults", 0, false},
			{"rs4", inject, 0, "no agent speaks for it; on host rs4: realserver status", 0, false},
			{"rs9", inject, 0, "does not exist", affinity.NotFound, true},
		} {
			done := make(chan error, 1)
			go func() { done <- w.d.OrderFault(w.t.Context(), tt.rs, tt.order) }()
			synctest.Wait()
			if tt.says != 0 {
				agents[tt.rs].answerFault(tt.says, "drills are off")
			}
			err := <-done
			refusal, refused := errors.AsType[*affinity.Refusal](err)
			if (err == nil) != (tt.words == "") || err != nil && !strings.Contains(err.Error(), tt.words) || refused != tt.refused || refused && refusal.Reason != tt.reason {
				t.Errorf("%s, undo %t: %v; want %q", tt.rs, tt.order.Undo, err, tt.words)
			}
		}
	})
}
