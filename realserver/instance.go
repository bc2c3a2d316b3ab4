package realserver

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"tunneldirector/director/agent"
	"tunneldirector/realserver/terminator"
)

// An Instance is one real server of this host.
type Instance struct {
	agent.Server
	Terminator terminator.Terminator
	Meter      Meter // nil: load is not measured
}

// A Meter measures the load of a terminator. It is called each second.
type Meter interface {
	Sample(ctx context.Context, work terminator.Work, tunnels uint32) (agent.Load, error)
}

// A State is what the probe's answer says of a real server.
type State struct {
	Health  agent.Health
	Full    bool
	Closed  bool
	Tunnels uint32
}

// An instance is a real server at work.
type instance struct {
	Instance
	o     *Options
	log   *slog.Logger
	book  *book
	queue *queue
	asked door   // by looks that somebody waits for
	news  func() // pokes the streams

	changed chan struct{} // look soon
	urgent  chan struct{} // look now
	accept  chan struct{} // what is wanted of accepting changed

	mu     sync.Mutex // guards what follows
	now    agent.Status
	work   terminator.Work
	closed bool // wanted
	looked time.Time
	odd    int // tunnels that cannot be reported, in the last look
}

func newInstance(i Instance, o *Options, news func(), tell func(agent.Progress)) *instance {
	in := &instance{Instance: i, o: o, news: news, log: o.Log.With("realserver", i.Name), book: newBook(),
		changed: make(chan struct{}, 1), urgent: make(chan struct{}, 1), accept: make(chan struct{}, 1),
		now: agent.Status{RealServer: i.Name, Since: time.Now(), Cause: "was not asked yet"}}
	in.queue = newQueue(in.book, o.Adopt, func(k agent.OrderKind, s []agent.Step) {
		tell(agent.Progress{RealServer: i.Name, Kind: k, Tunnels: s})
	})
	return in
}

// run looks after the real server until ctx ends. It changes nothing when it ends.
func (in *instance) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return in.lookAfter(ctx) })
	g.Go(func() error { return in.measure(ctx) })
	g.Go(func() error { return in.carryOut(ctx, agent.OrderAdopt, in.adopt) })
	g.Go(func() error { return in.carryOut(ctx, agent.OrderRelease, in.release) })
	g.Go(func() error { return in.obeyAccept(ctx) })
	if w, ok := in.Terminator.(terminator.Watcher); ok {
		g.Go(func() error { return in.watch(ctx, w) })
	}
	if w, ok := in.Terminator.(terminator.Worker); ok {
		g.Go(func() error { return in.guard(ctx, w) })
	}
	return g.Wait()
}

// status is the real server's as it is told to directors.
func (in *instance) status() agent.Status {
	in.mu.Lock()
	defer in.mu.Unlock()
	s := in.now
	s.Load.Parts = slices.Clone(s.Load.Parts)
	s.Flooded = in.o.Flooded != nil && in.o.Flooded(in.Name)
	s.Found = in.found(s.Found)
	return s
}

// change changes the status. Directors are told at once if what matters for pins changed, and the responder if its answer does, or
// if it was looked at the terminator: then what was said holds on.
func (in *instance) change(looked bool, f func(*agent.Status)) {
	in.mu.Lock()
	before := stateOf(&in.now)
	f(&in.now)
	after := stateOf(&in.now)
	if (looked || before != after) && in.o.Answer != nil {
		in.o.Answer(in.Name, after) // under the lock, so that the last one told is the last one
	}
	in.mu.Unlock()
	before.Tunnels = after.Tunnels
	if before != after {
		in.news()
	}
}

func stateOf(s *agent.Status) State {
	return State{Health: s.Health, Full: s.Load.Full, Closed: s.Closed, Tunnels: s.Tunnels}
}

// health is the last verdict about the terminator.
func (in *instance) health() agent.Health {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.now.Health
}
