package realserver

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"tunneldirector/director/agent"
)

// Options are what an Agent is made of.
type Options struct {
	Host      string // the name in its certificate
	Version   string
	Instances []Instance
	Directors []string // address:port of each
	// Dial connects to a director; the connection's ends have proved who they are when it returns.
	Dial func(ctx context.Context, address string) (net.Conn, error)
	// Answer is told what a real server's probes are answered with, at each change and whenever the terminator was looked at: who is
	// told nothing for longer than a few times Look knows that nobody looks. It must not block.
	Answer func(realServer string, s State)
	// Flooded tells whether more probes come for a real server than are answered; directors are told. It must not block. Nil: never.
	Flooded func(realServer string) bool
	// Tend keeps the host as it has to be; it is called at the start and every minute. Nil: nobody does.
	Tend func(ctx context.Context) error
	// Examine tells what is wrong with the host, by real server, after each Tend; directors are told. Nil: nobody looks.
	Examine func(ctx context.Context) map[string][]agent.Finding
	Faults  Faults        // for drills; nil: orders to make any are refused
	Look    time.Duration // between looks at a terminator; 0: 5 s
	Adopt   Pace          // also of releases; zero: 20 a second, 50 at once, asked again twice
	Log     *slog.Logger
}

// GCPercent is what a program that runs an Agent sets: the heap is small and seldom grows, and memory is what an agent must not take
// from the terminators beside it. With 10,000 tunnels of strongSwan 10 takes 2.7 MiB less than 20, and about 0.1 % of a core more: it is at
// rest for most of the time, and a collection takes 5 ms. A limit (debug.SetMemoryLimit) would be one for some number of
// tunnels: with more it collects without end.
const GCPercent = 10

// tendEvery is how long what somebody else changes on the host stays so.
const tendEvery = time.Minute

// An Agent looks after the real servers of a host, and tells directors of them.
type Agent struct {
	o         Options
	started   time.Time
	instances []*instance
	streams   []*stream
	faults    chan faultOrder
	unready   atomic.Pointer[string] // what is wrong with the host; nil: nothing that is known
}

// New makes an Agent. It touches nothing before Run.
func New(o Options) *Agent {
	if o.Look == 0 {
		o.Look = 5 * time.Second
	}
	if o.Adopt == (Pace{}) {
		o.Adopt = Pace{Rate: 100, Burst: 100, Retries: 2}
	}
	a := &Agent{o: o, started: time.Now(), faults: make(chan faultOrder, faultsOpen)}
	for _, i := range o.Instances {
		a.instances = append(a.instances, newInstance(i, &a.o, a.news, a.progress))
	}
	life := rand.Text()
	for _, d := range o.Directors {
		a.streams = append(a.streams, newStream(a, d, life))
	}
	return a
}

// Run looks after the real servers until ctx ends, and returns nil then. It leaves everything as it is.
func (a *Agent) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, in := range a.instances {
		g.Go(func() error { return in.run(ctx) })
	}
	for _, s := range a.streams {
		g.Go(func() error { return s.run(ctx) })
	}
	g.Go(func() error { return a.carryOutFaults(ctx) })
	if a.o.Tend != nil || a.o.Examine != nil {
		g.Go(func() error { return a.tend(ctx) })
	}
	return g.Wait()
}

// tend keeps the host in order.
func (a *Agent) tend(ctx context.Context) error {
	tick := time.NewTicker(tendEvery)
	defer tick.Stop()
	told := ""
	for {
		var err error
		if a.o.Tend != nil {
			err = a.o.Tend(ctx)
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			told = ""
			a.unready.Store(nil)
		case err.Error() != told:
			now := err.Error()
			told = now
			a.unready.Store(&now)
			a.o.Log.Warn("the host is not as it has to be", "error", err)
		}
		a.examine(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// examine looks what is wrong with the host, for directors to know.
func (a *Agent) examine(ctx context.Context) {
	if a.o.Examine == nil {
		return
	}
	found := a.o.Examine(ctx)
	for _, in := range a.instances {
		list := found[in.Name]
		in.change(false, func(s *agent.Status) { s.Found = list[:min(len(list), agent.MaxFound)] })
	}
}

// news tells all streams that there is something to tell.
func (a *Agent) news() {
	for _, s := range a.streams {
		poke(s.wake)
	}
}

// progress is told to every director: the one that ordered may be gone, and another one goes on.
func (a *Agent) progress(p agent.Progress) {
	for _, s := range a.streams {
		s.progress(p)
	}
}

// order hands an order to its real server, if it is one of ours.
func (a *Agent) order(director string, o *agent.Order) {
	for _, in := range a.instances {
		if in.Name != o.RealServer {
			continue
		}
		switch o.Kind {
		case agent.OrderAccept, agent.OrderClose:
			in.wantAccept(o.Kind == agent.OrderAccept)
		case agent.OrderAdopt, agent.OrderRelease, agent.OrderForget:
			in.queue.order(time.Now(), o)
		case agent.OrderInject, agent.OrderUndo:
			a.fault(director, in, o)
		default:
			a.o.Log.Warn("an order of a kind that this agent does not know", "director", director, "realserver", o.RealServer, "kind", uint8(o.Kind))
		}
		return
	}
	a.o.Log.Warn("an order for a real server that is not here", "director", director, "realserver", o.RealServer, "kind", o.Kind.String())
}
