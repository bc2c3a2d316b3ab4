package observe

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tunneldirector/director/agent"
)

// Errors of Fault.
var (
	// ErrSilent: no agent speaks for the real server.
	ErrSilent = errors.New("no agent speaks for it")
	// ErrNoAnswer: the agent speaks, and said nothing of the fault.
	ErrNoAnswer = errors.New("its agent did not answer")
)

const (
	// faultHeard is how long an agent may take to say that it heard of a fault: one that knows faults says so at once.
	faultHeard = 2 * time.Second
	// faultDone is how long it may take with it.
	faultDone = 15 * time.Second
)

// A faultWait is somebody who waits for what becomes of an order about a fault.
type faultWait struct {
	order agent.Order
	steps chan agent.Step
}

// Fault orders the agent that speaks for a real server to make a fault, or to undo one, and returns how that ended: OutcomeDone, or
// OutcomeFailed and why. A fault is made by an agent that speaks now. One is undone also if its agent is away: then, for as long as ctx
// lets it and faultDone at most, Fault waits for the agent to come back, since the fault itself may be what keeps it away.
func (b *Book) Fault(ctx context.Context, realServer string, o agent.FaultOrder) (agent.Step, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, faultDone, fmt.Errorf("%w within %v", ErrNoAnswer, faultDone))
	defer cancel()
	w, err := b.await(realServer, o)
	if err != nil {
		return agent.Step{}, err
	}
	defer b.abandon(w)
	heard := time.NewTimer(faultHeard)
	defer heard.Stop()
	if o.Undo {
		heard.Stop()
	}
	for {
		select {
		case s := <-w.steps:
			heard.Stop()
			if s.Outcome >= agent.OutcomeDone {
				return s, nil
			}
		case <-heard.C:
			return agent.Step{}, fmt.Errorf("%w within %v", ErrNoAnswer, faultHeard)
		case <-ctx.Done():
			return agent.Step{}, context.Cause(ctx)
		}
	}
}

// await sends an order about a fault, and notes who waits.
func (b *Book) await(realServer string, o agent.FaultOrder) (*faultWait, error) {
	w := &faultWait{order: agent.Order{RealServer: realServer, Kind: agent.OrderInject, Fault: &o}, steps: make(chan agent.Step, 8)}
	if o.Undo {
		w.order.Kind = agent.OrderUndo
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	s, ok := b.servers[realServer]
	speaks := ok && s.line != nil && s.line.open
	if !speaks && !o.Undo {
		return nil, ErrSilent
	}
	b.faults[w] = struct{}{}
	if speaks {
		s.line.put(agent.Message{Order: &w.order})
	}
	return w, nil
}

func (b *Book) abandon(w *faultWait) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.faults, w)
}

// faultSaid tells those who wait what an agent says of a fault. Under the Book's lock.
func (b *Book) faultSaid(p *agent.Progress) {
	for w := range b.faults {
		for _, s := range p.Tunnels {
			if w.order.RealServer == p.RealServer && w.order.Kind == p.Kind && w.order.Fault.ID == s.ID {
				select {
				case w.steps <- s:
				default: // it has had its answers
				}
			}
		}
	}
}

// resendFaults sends the orders to undo that somebody waits for to an agent that has come. Those to make are not sent again: what such a
// one was to make may be made and undone by now. Under the Book's lock.
func (b *Book) resendFaults(s *server) {
	for w := range b.faults {
		if w.order.RealServer == s.name && w.order.Kind == agent.OrderUndo {
			s.line.put(agent.Message{Order: &w.order})
		}
	}
}
