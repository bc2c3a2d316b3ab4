package main

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"tunneldirector/director/api"
	"tunneldirector/director/drill/fault"
)

// Effects on the daemon itself, and on its ways to the others.

// crash kills the daemon, which whoever runs it starts again.
type crash struct{ made }

func (*crash) Name() string { return "crash" }

// Do kills it soon.
func (e *crash) Do(_ context.Context, id string, _ time.Duration) error {
	e.o.soon(id, func() { e.kill(syscall.SIGKILL) })
	return nil
}

// Undo is called by the next run.
func (e *crash) Undo(_ context.Context, id string) error {
	e.o.callOff(id)
	e.undone(id)
	return nil
}

// kill sends this process a signal.
func (m *made) kill(s syscall.Signal) {
	if err := syscall.Kill(os.Getpid(), s); err != nil {
		m.o.log.Error("a failure could not be made", "kind", m.Kind, "error", err)
	}
}

// restart stops the daemon as a service manager does, and has it start again.
type restart struct{ made }

func (*restart) Name() string { return "restart" }

// Do stops it soon.
func (e *restart) Do(_ context.Context, id string, _ time.Duration) error {
	e.o.soon(id, e.o.again)
	return nil
}

// Undo is called by the next run, or while this one stops.
func (e *restart) Undo(_ context.Context, id string) error {
	e.o.callOff(id)
	e.undone(id)
	return nil
}

// leave has this director go, as it does when it stops, while it runs on.
type leave struct{ made }

func (*leave) Name() string { return "leave" }

// Do leaves.
func (e *leave) Do(ctx context.Context, _ string, _ time.Duration) error {
	e.o.mu.Lock()
	peers := e.o.peers
	e.o.left = true
	e.o.mu.Unlock()
	if err := peers.Leave(ctx); err != nil && !errors.Is(err, api.ErrLeft) {
		return err
	}
	return nil
}

// Undo has the daemon start again, unless it has done so since.
func (e *leave) Undo(_ context.Context, id string) error {
	e.o.mu.Lock()
	left := e.o.left
	e.o.left = false
	e.o.mu.Unlock()
	if left {
		e.o.again()
	}
	e.undone(id)
	return nil
}

// cutOff cuts this director off from the others.
type cutOff struct {
	made
	fault.Cut
	over atomic.Bool // it is undone, also what the timer makes still
}

func (*cutOff) Name() string { return "cut-off" }

// cutOff names all addresses at which others are, alive or not.
func (o *ownFaults) cutOff(m made) *cutOff {
	var others []netip.Addr
	for _, x := range o.peers.j.gossip.Members() {
		if x.Name == o.cfg.Name {
			continue
		}
		others = append(others, x.Stream.Addr())
		for _, b := range x.Beats {
			others = append(others, b.Addr())
		}
	}
	for _, r := range o.peers.j.memory.all() {
		if r.Gossip.IsValid() {
			others = append(others, r.Gossip.Addr())
		}
	}
	slices.SortFunc(others, netip.Addr.Compare)
	return &cutOff{made: m, Cut: *fault.Partition(slices.Compact(others)...)}
}

// nobody has this address, which is for packets that are to be lost (RFC 6666).
var nobody = netip.MustParseAddr("100::1")

// Do cuts soon. Whether it can is tried at once, with nobody: later there is nobody to tell.
func (e *cutOff) Do(ctx context.Context, id string, lasts time.Duration) error {
	try := fault.Partition(nobody)
	if err := errors.Join(try.Do(ctx, id+"-try", time.Second), try.Undo(ctx, id+"-try")); err != nil {
		return err
	}
	e.o.soon(id, func() {
		ctx, cancel := context.WithTimeout(context.Background(), cutWithin)
		defer cancel()
		if err := e.Cut.Do(ctx, id, lasts); err != nil {
			e.o.log.Error("a failure could not be made", "kind", e.Kind, "error", err)
		}
		if e.over.Load() { // meanwhile; else the cut ends by itself
			_ = e.Cut.Undo(ctx, id)
		}
	})
	return nil
}

const cutWithin = 5 * time.Second

// Undo takes the cut away.
func (e *cutOff) Undo(ctx context.Context, id string) error {
	e.over.Store(true)
	e.o.callOff(id)
	if err := e.Cut.Undo(ctx, id); err != nil {
		return err
	}
	e.undone(id)
	return nil
}

// fill fills the file system of the table.
type fill struct {
	made
	fault.Ballast
}

func (*fill) Name() string { return "fill" }

// Undo makes room again.
func (e *fill) Undo(ctx context.Context, id string) error {
	if err := e.Ballast.Undo(ctx, id); err != nil {
		return err
	}
	e.undone(id)
	return nil
}
