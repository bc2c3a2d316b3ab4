package observe

import (
	"testing"
	"time"

	"tunneldirector/director/agent"
)

// What is heard of a real server is its status, on the stream of now, and whether its probes are flooded is of the same.
func TestFlooded(t *testing.T) {
	s := newStand(t)
	heard := func(what string, at time.Time, flooded bool) {
		t.Helper()
		if got := s.Heard("rs1"); !got.Equal(at) || s.Flooded("rs1") != flooded {
			t.Errorf("%s: heard at %v, flooded %v", what, got, s.Flooded("rs1"))
		}
	}
	status := func(flooded bool) {
		t.Helper()
		if err := s.note(s.line, &agent.Status{RealServer: "rs1", Flooded: flooded}); err != nil {
			t.Fatal(err)
		}
	}
	heard("nothing said", time.Time{}, false)
	status(true)
	at := s.at
	heard("flooded", at, true)
	s.at = s.at.Add(time.Second)
	s.whole(tunnel(1))
	heard("a report says nothing of it", at, true)
	s.join("one")
	heard("another stream", time.Time{}, false)
	status(false)
	heard("not flooded", s.at, false)
	status(true)
	s.leave(s.line)
	heard("silent", time.Time{}, false)
	s.line = nil
}

// Of a new instance of an agent nothing is known until it says so; the same one has said it.
func TestStatusOfAnEarlierRun(t *testing.T) {
	s := newStand(t)
	if err := s.note(s.line, &agent.Status{RealServer: "rs1", Health: agent.HealthDead, Closed: true}); err != nil {
		t.Fatal(err)
	}
	s.join("one")
	if a, _ := s.Agent("rs1"); a.Status.Health != agent.HealthDead || a.Heard.IsZero() {
		t.Errorf("the same instance: %+v", a)
	}
	s.join("two")
	if a, _ := s.Agent("rs1"); a.Status.Health != agent.HealthUnknown || a.Status.Closed || !a.Heard.IsZero() {
		t.Errorf("a new instance inherits %+v", a)
	}
}
