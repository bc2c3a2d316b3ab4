package ipvs

import (
	"context"
	"errors"
	"iter"
	"net/netip"
	"sync"
	"time"

	"tunneldirector/director/plane"
	"tunneldirector/director/plane/ipvs/conntab"
	"tunneldirector/director/plane/ipvs/gate"
	"tunneldirector/director/plane/ipvs/inject"
	"tunneldirector/director/plane/ipvs/route"
)

// What the plane needs of the kernel. Each is a package below, or this one's file about moby/ipvs; tests have a kernel of
// their own.
type (
	// An injector puts connection entries into IPVS, in order; when it returns the kernel has them.
	injector interface {
		Send(ctx context.Context, conns []inject.Conn) error
		Close() error
	}
	// A balancer reads and changes IPVS's virtual services.
	balancer interface {
		Read() ([]virtual, error)
		Change(c change) error
		UDPTimeout() (time.Duration, error)
		Close() error
	}
	// A router holds nexthop objects, and routes and rules over them.
	router interface {
		SetNexthops(ctx context.Context, n []route.Nexthop) error
		DeleteNexthops(ctx context.Context, ids []uint32) error
		SetRoutes(ctx context.Context, r []route.Route) error
		DeleteRoutes(ctx context.Context, r []route.Route) error
		SetRules(ctx context.Context, r []route.Rule) error
		Nexthops() iter.Seq2[route.Nexthop, error]
		Routes(table uint32) iter.Seq2[route.Route, error]
		EnsureTunnel(v6 bool) error
		Close() error
	}
	// A gatekeeper filters what IPVS has no notion of.
	gatekeeper interface {
		Seal(ctx context.Context, ifname string) error
		Set(ctx context.Context, w gate.Wanted) (bool, error)
		Counters() (map[plane.Reason]uint64, plane.Traffic, error)
		Shows() error
		Close() error
	}
	// A sampler shows what the gate drops, from when it is bound, and what a watch fits.
	sampler interface {
		Bind() error
		Read(ctx context.Context, f func(plane.Sample)) error
		Watch(w plane.Watch, interfaces []string, lasts time.Duration) error
		Close() error
	}
	// A surveyor knows the way to real servers.
	surveyor interface {
		Survey() error // look again
		// Connected tells by which interface towards real servers an address is reached without a router.
		Connected(a netip.Addr) (link string, ok bool)
		// Leaves tells whether packets to an address leave by an interface towards real servers.
		Leaves(a netip.Addr) bool
		// Neighbours are the MAC addresses of those on the interfaces towards real servers, where they are known.
		Neighbours() (map[netip.Addr][6]byte, error)
		Watch(ctx context.Context, changed func()) error
		Close() error
	}
)

var (
	_ plane.Plane   = (*Plane)(nil)
	_ plane.Counter = (*Plane)(nil)
	_ plane.Checker = (*Plane)(nil)
	_ plane.Auditor = (*Plane)(nil)
	_ plane.Pairer  = (*Plane)(nil)
	_ plane.Sampler = (*Plane)(nil)
)

// A Plane is what the kernel was told.
type Plane struct {
	o      Options
	inject injector
	lvs    balancer
	routes router
	gate   gatekeeper
	log    sampler
	survey surveyor
	conns  func() iter.Seq2[conntab.Entry, error]
	reopen func() (injector, error)
	clock  func() time.Time // monotonic or not: minutes matter
	warned warned
	watch  watch

	mu       sync.Mutex // guards all below
	config   plane.Config
	servers  servers
	vips     map[netip.Addr]*vip
	subnets  *subnets
	book     *book
	services map[netip.AddrPort]*service
	graves   map[netip.Addr]map[netip.AddrPort]struct{} // by VIP: endpoints whose entries are still to be ended
	label    label                                      // the last that was given out
	paths    paths
	noport   map[gate.Source]struct{}
	macs     map[netip.Addr][6]byte // of real servers, as the gate was told
	due      bool                   // all is to be programmed anew: something failed half-way, or somebody took out what is ours
	guarded  bool                   // the gate was set once
	proof    proof
	traffic  traffic

	udpTimeout time.Duration // IPVS's, when it was last read
	looks      int           // of heal
	crowd      int           // the highest level of watchCrowds that the log has heard of
}

// parts are what a plane is made of.
type parts struct {
	inject injector
	lvs    balancer
	routes router
	gate   gatekeeper
	log    sampler
	survey surveyor
	conns  func() iter.Seq2[conntab.Entry, error]
	reopen func() (injector, error) // makes a new link to IPVS; nil: cannot
}

func newPlane(o Options, k parts, clock func() time.Time) *Plane {
	return &Plane{o: o, inject: k.inject, lvs: k.lvs, routes: k.routes, gate: k.gate, log: k.log, survey: k.survey, conns: k.conns, reopen: k.reopen, clock: clock,
		servers: servers{}, vips: map[netip.Addr]*vip{}, subnets: newSubnets(), book: newBook(o.Pairs4, o.Pairs6),
		services: map[netip.AddrPort]*service{}, graves: map[netip.Addr]map[netip.AddrPort]struct{}{}, noport: map[gate.Source]struct{}{}, traffic: newTraffic(),
		paths:  paths{nexthops: map[uint32]route.Nexthop{}, routes: map[netip.Addr]uint32{}, covers: map[route.Route]struct{}{}},
		proof:  proof{short: map[netip.AddrPort]map[dest]bool{}, surplus: map[netip.AddrPort]map[dest]time.Time{}, renewed: map[netip.AddrPort]time.Time{}},
		warned: warned{said: map[string]string{}}, watch: watch{there: true},
	}
}

// serviceKey is where packets to a port of a VIP go.
func serviceKey(v *vip, port uint16) netip.AddrPort { return netip.AddrPortFrom(v.addr, port) }

// warned is what fails at the moment, by what was tried.
type warned struct {
	sync.Mutex
	said map[string]string
}

// Close lets go of the kernel. What forwards goes on forwarding, each entry until its timeout.
func (p *Plane) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return errors.Join(p.inject.Close(), p.lvs.Close(), p.routes.Close(), p.gate.Close(), p.log.Close(), p.survey.Close())
}
