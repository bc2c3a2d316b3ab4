package observe

import (
	"fmt"
	"testing"
	"time"

	"tunneldirector/director/agent"
)

// What is wanted reaches the agent once when it changes, and once on each of its streams.
func TestClosed(t *testing.T) {
	s := newStand(t)
	want := func(what string, words ...string) {
		t.Helper()
		if got := s.sent(); fmt.Sprint(got) != fmt.Sprint(words) {
			t.Errorf("%s: sent %q, wanted %q", what, got, words)
		}
	}
	says := func(closed bool) {
		t.Helper()
		s.at = s.at.Add(time.Second)
		if err := s.note(s.line, &agent.Status{RealServer: "rs1", Closed: closed}); err != nil {
			t.Fatal(err)
		}
	}
	again := func(instance string) {
		t.Helper()
		s.at = s.at.Add(time.Second)
		s.join(instance)
		s.begin(s.line)
	}
	s.SetClosed("rs1", true)
	want("before the welcome")
	s.begin(s.line)
	want("at the beginning", "close")
	s.SetClosed("rs1", true)
	says(false) // the order is under way
	says(true)
	want("the same again")
	again("one")
	want("the stream broke", "close")
	says(true)
	s.SetClosed("rs1", false)
	want("opened", "accept")
	again("one")
	want("it said last that it is closed", "accept")
	says(false)
	again("two")
	says(false)
	want("nothing is closed")

	s.leave(s.line)
	s.line = nil
	s.SetClosed("rs1", true)
	s.SetClosed("rs1", false)
	again("three")
	want("closed and opened meanwhile")
	says(true) // by another director
	want("it comes closed", "accept")
	says(true)
	want("it stays closed, which another director may want")

	s.SetClosed("rs9", true)
	if _, known := s.Agent("rs9"); known {
		t.Error("what is wanted made an agent")
	}
}

// A director that has just begun does not open what it has not thought of.
func TestClosedIsNotSaidYet(t *testing.T) {
	s := newStand(t)
	s.begin(s.line)
	for range 2 {
		if err := s.note(s.line, &agent.Status{RealServer: "rs1", Closed: true}); err != nil {
			t.Fatal(err)
		}
	}
	if got := s.sent(); got != nil {
		t.Errorf("sent %q", got)
	}
	s.SetClosed("rs1", false)
	if got := s.sent(); fmt.Sprint(got) != "[accept]" {
		t.Errorf("sent %q", got)
	}
	s.leave(s.line)
	s.line = nil
	s.Forget("rs1")
	s.join("two")
	s.begin(s.line)
	if got := s.sent(); got != nil || len(s.closed) != 0 {
		t.Errorf("forgotten, and sent %q", got)
	}
}
