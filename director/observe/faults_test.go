package observe

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tunneldirector/director/agent"
)

// answers make a peer say these outcomes of each fault that it is ordered, and none of what it does not know.
func (p *peer) answers(why string, outcomes ...agent.Outcome) {
	go func() {
		for {
			m, err := p.conn.Receive()
			if err != nil {
				return
			}
			if m.Order == nil || m.Order.Fault == nil {
				continue
			}
			for i, o := range outcomes {
				if i > 0 {
					select {
					case <-time.After(time.Second):
					case <-p.t.Context().Done():
						return
					}
				}
				step := agent.Step{ID: m.Order.Fault.ID, Outcome: o, Why: why}
				if p.conn.Send(agent.Message{Progress: &agent.Progress{RealServer: m.Order.RealServer, Kind: m.Order.Kind, Tunnels: []agent.Step{step}}}) != nil {
					return
				}
			}
		}
	}()
}

func TestFault(t *testing.T) {
	inject := agent.FaultOrder{ID: "f1", Kind: "terminator-crash", Millis: 10_000}
	undo := agent.FaultOrder{ID: "f1", Kind: "terminator-crash", Undo: true}
	for _, tt := range []struct {
		name     string
		order    agent.FaultOrder
		outcomes []agent.Outcome // that the agent says, a second apart
		want     agent.Outcome
		err      error
		after    time.Duration
	}{
		{"done at once", inject, []agent.Outcome{agent.OutcomeDone}, agent.OutcomeDone, nil, 0},
		{"done in a while", inject, []agent.Outcome{agent.OutcomeTrying, agent.OutcomeTrying, agent.OutcomeTrying, agent.OutcomeTrying, agent.OutcomeDone}, agent.OutcomeDone, nil, 4 * time.Second},
		{"refused", inject, []agent.Outcome{agent.OutcomeTrying, agent.OutcomeFailed}, agent.OutcomeFailed, nil, time.Second},
		{"an old agent", inject, nil, 0, ErrNoAnswer, faultHeard},
		{"it hangs", inject, []agent.Outcome{agent.OutcomeTrying}, 0, ErrNoAnswer, faultDone},
		{"undone", undo, []agent.Outcome{agent.OutcomeTrying, agent.OutcomeDone}, agent.OutcomeDone, nil, time.Second},
		{"not undone", undo, nil, 0, ErrNoAnswer, faultDone},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inTalk(t, func(b *talk) {
				p, _ := b.hail("one", "rs1")
				p.speak()
				p.answers("because", tt.outcomes...)
				other, _ := b.hail("two", "rs2") // has a fault of the same ID
				other.speak()
				other.answers("of another", agent.OutcomeFailed)
				synctest.Wait() // welcome is said before orders are taken
				go func() {
					time.Sleep(time.Millisecond)
					_, _ = b.Fault(b.t.Context(), "rs2", tt.order)
				}()
				from := time.Now()
				s, err := b.Fault(b.t.Context(), "rs1", tt.order)
				if s.Outcome != tt.want || !errors.Is(err, tt.err) || time.Since(from) != tt.after || tt.want > 0 && s.Why != "because" {
					t.Errorf("%+v, %v after %v; want %v, %v after %v", s, err, time.Since(from), tt.want, tt.err, tt.after)
				}
				time.Sleep(time.Second)
				b.mu.Lock()
				defer b.mu.Unlock()
				if len(b.faults) > 0 {
					t.Errorf("%d wait on", len(b.faults))
				}
			})
		})
	}
}

// A fault is not made where nobody speaks; one that keeps its agent away is undone when that comes back.
func TestFaultOfSilent(t *testing.T) {
	inTalk(t, func(b *talk) {
		undo := agent.FaultOrder{ID: "f1", Kind: "host-loss", Undo: true}
		if _, err := b.Fault(b.t.Context(), "rs1", agent.FaultOrder{ID: "f1", Kind: "host-loss", Millis: 1000}); !errors.Is(err, ErrSilent) {
			t.Errorf("made where nobody speaks: %v", err)
		}
		short, cancel := context.WithTimeout(b.t.Context(), 3*time.Second)
		defer cancel()
		if _, err := b.Fault(short, "rs1", undo); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("undone where nobody speaks: %v", err)
		}
		done := make(chan string)
		go func() {
			s, err := b.Fault(b.t.Context(), "rs1", undo)
			done <- strings.TrimSpace(s.Outcome.String() + " " + s.Why)
			if err != nil {
				t.Error(err)
			}
		}()
		time.Sleep(5 * time.Second)
		p, _ := b.hail("one", "rs1")
		p.speak()
		p.answers("it has ended", agent.OutcomeDone)
		if got := <-done; got != "done it has ended" {
			t.Errorf("got %q", got)
		}
	})
}

// An agent that is lost while it makes a fault is not told to make it again when it comes back.
func TestFaultOnce(t *testing.T) {
	inTalk(t, func(b *talk) {
		p, _ := b.hail("one", "rs1")
		p.speak()
		p.answers("", agent.OutcomeTrying)
		synctest.Wait()
		done := make(chan error)
		go func() {
			s, err := b.Fault(b.t.Context(), "rs1", agent.FaultOrder{ID: "f1", Kind: "terminator-crash", Millis: 60_000})
			if s.Outcome != 0 {
				t.Errorf("it is %v", s.Outcome)
			}
			done <- err
		}()
		time.Sleep(time.Second)
		_ = p.conn.Close()
		time.Sleep(time.Second)
		again, _ := b.hail("one", "rs1")
		again.speak()
		again.answers("again", agent.OutcomeDone)
		if err := <-done; !errors.Is(err, ErrNoAnswer) {
			t.Errorf("got %v", err)
		}
	})
}
