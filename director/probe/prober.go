package probe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// A host is the machine that is probed from. All but Watch belongs to one goroutine.
type host interface {
	// Watch pokes Changed when the interfaces may have changed, until ctx ends.
	Watch(ctx context.Context) error
	Changed() <-chan struct{}
	network
}

// A network is what the probes go by.
type network interface {
	// Look reads the interfaces' state and the ways to addrs, and opens what is needed to send by them.
	Look(addrs []netip.Addr) (view, error)
	// Send sends a frame by an interface that Look told of.
	Send(iface string, frame []byte) error
	// Receive calls f for each answer that has come in, and does not wait for more.
	Receive(f func(answer))
	Close() error
}

// errBusy is wrapped by Send if a frame was not sent for a fault of our own, which says nothing about a real server.
var errBusy = errors.New("no room to send")

// A Prober measures real servers.
type Prober struct {
	cfg    Config
	host   host
	log    *slog.Logger
	set    chan []Target
	events chan Event
	links  chan Link
	counts atomic.Uint64 // answering << 32 | targets
	boards atomic.Pointer[[]*board]
}

// Open prepares to probe from the network namespace of the calling thread. Nothing is sent before Run.
// Where packet sockets cannot be had, its error wraps plane.ErrUnsupported and says what is missing.
func Open(cfg Config, log *slog.Logger) (*Prober, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, fmt.Errorf("open prober: %w", err)
	}
	h, err := openHost(cfg)
	if err != nil {
		return nil, fmt.Errorf("open prober: %w", err)
	}
	return newProber(cfg, h, log), nil
}

func newProber(cfg Config, h host, log *slog.Logger) *Prober {
	return &Prober{cfg: cfg, host: h, log: log, set: make(chan []Target, 1), events: make(chan Event), links: make(chan Link)}
}

// Set makes targets all that is probed, from now on. What is measured of a target that was there, unchanged but
// for its agent, goes on.
// It does not block, may come before Run, and is called from one goroutine.
func (p *Prober) Set(targets []Target) {
	select {
	case <-p.set: // not taken yet, and out of date
	default:
	}
	p.set <- targets
}

// Answering counts the targets that are alive and answered one of their last two rounds, of how many. When one is found
// dead, those that fell silent together with it do not count any more. It may be called from any goroutine.
func (p *Prober) Answering() (answering, targets int) {
	n := p.counts.Load()
	return int(n >> 32), int(uint32(n))
}

// Events brings changes of verdicts, in order. They wait, in memory, for a reader.
func (p *Prober) Events() <-chan Event { return p.events }

// Links brings the state of Config.Interfaces: once at the start, then each change.
func (p *Prober) Links() <-chan Link { return p.links }

// Run probes until ctx ends, and lets go of everything that Open took.
func (p *Prober) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return p.host.Watch(ctx) })
	g.Go(func() error { return newLoop(p).run(ctx) })
	return errors.Join(g.Wait(), p.host.Close())
}
