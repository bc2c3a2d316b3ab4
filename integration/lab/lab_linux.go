package lab

import (
	"context"
	"crypto/ecdh"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.zx2c4.com/wireguard/device"
)

// MaxSites and MaxDirectors are how many of each the addresses suffice for.
const (
	MaxSites     = 240
	MaxDirectors = 8
)

// The virtual IPs, and the spaces that the subnets behind the sites are taken from.
var (
	VIP4 = netip.MustParseAddr("192.0.2.10")
	VIP6 = netip.MustParseAddr("2001:db8::10")

	Covers = []netip.Prefix{netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("2001:db8:64::/48")}
)

// Options say what a lab consists of.
type Options struct {
	Sites          int           // default 2, at most MaxSites
	SiteNamespaces int           // how many namespaces the sites share; default one each
	RealServers    int           // default 3, at most 32
	Directors      int           // default 1, at most MaxDirectors
	IPv6           bool          // IPv6 beside IPv4; every second site then dials the IPv6 VIP
	Keepalive      time.Duration // of the sites' WireGuard, whole seconds; 0: none
	OnLinkVIP      bool          // the router asks for the VIP's MAC address (ARP, ND), rather than routing it to the director's address; so it does with several directors
	Bare           bool          // no WireGuard: whoever builds the lab runs the tunnels' software
	BehindNAT      int           // so many of the sites, the last ones, share one public IPv4 address (NAT); Bare only
	Decapsulate    bool          // real servers take packets out of IPIP, for forwarding method tunnel

	// Prepare makes a real server, whose machine has been built, hold the VIPs; default: the lab does it.
	Prepare func(*Lab, *RealServer) error
	Logger  *slog.Logger // default: none
}

func (o *Options) complete() error {
	if o.Sites == 0 {
		o.Sites = 2
	}
	if o.SiteNamespaces == 0 || o.SiteNamespaces > o.Sites {
		o.SiteNamespaces = o.Sites
	}
	if o.RealServers == 0 {
		o.RealServers = 3
	}
	if o.Directors == 0 {
		o.Directors = 1
	}
	if o.BehindNAT > 0 && (!o.Bare || o.BehindNAT > o.Sites || o.SiteNamespaces != o.Sites) {
		return fmt.Errorf("a lab of %d sites in %d namespaces, %d of them behind NAT: only bare sites, each in a namespace of its own, can be",
			o.Sites, o.SiteNamespaces, o.BehindNAT)
	}
	if o.Prepare == nil {
		o.Prepare = holdVIPs
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Directors < 0 || o.Directors > MaxDirectors {
		return fmt.Errorf("a lab of %d directors: at most %d", o.Directors, MaxDirectors)
	}
	if o.Sites < 0 || o.Sites > MaxSites || o.RealServers < 0 || o.RealServers > 32 || o.SiteNamespaces < 0 {
		return fmt.Errorf("a lab of %d sites in %d namespaces and %d real servers: at most %d sites and 32 real servers",
			o.Sites, o.SiteNamespaces, o.RealServers, MaxSites)
	}
	return nil
}

// A Lab is the network. Its fields are written by New and only read from then on.
type Lab struct {
	VIPs        []netip.Addr
	Switch      *Namespace
	Router      *Router
	Director    *Director    // the first one
	Directors   []*Director  // all
	Gateways    []netip.Addr // which the target sends by what is for the subnets: with several directors addresses that nobody has yet
	Sites       []*Site
	RealServers []*RealServer
	Target      *Target
	NAT         *NAT // nil: none

	opts    Options
	name    string
	dir     *directory
	outlets int
	blocks  atomic.Int64 // that there were
	all     []*Namespace

	unhook func() bool
	close  func() error
	gone   chan struct{} // closed when all is torn down
	echoes []*echoServer

	mu        sync.Mutex // guards what follows
	processes map[*Process]struct{}
}

// A Router joins the sites' network, the way to the director and the real servers' network.
type Router struct {
	*Namespace
	Sites, Outer, RS Port
}

// A Director is the machine under test: three interfaces, addresses, a default route to the router, nothing else. Where there are
// several, each has a fourth, to a network of theirs.
type Director struct {
	*Namespace
	Title string // d1, d2 ...
	Sites Port   // "sites": from here sites' packets come
	RS    Port   // "rs": the real servers' network
	Inner Port   // "inner": the target's network; with one director its addresses are the target's gateways to the subnets
	Mgmt  Port   // "mgmt": the directors' own network; zero where there is one director
}

// A Site is one tunnel endpoint, and the subnets behind it.
type Site struct {
	Index    int // from 1
	Name     string
	NS       *Namespace
	Port     Port       // "outer"; of its addresses the site uses Endpoint
	Endpoint netip.Addr // from here it dials, as the director sees it
	Local    netip.Addr // from here it dials, as it sees it itself: not Endpoint if it is behind NAT
	VIP      netip.Addr // it dials this
	Subnets  []netip.Prefix
	Inside   []netip.Addr // its own address in each of Subnets

	wg      *device.Device
	bind    *bind
	service *ecdh.PublicKey
}

// A RealServer is one terminator: of WireGuard, unless the lab is bare.
type RealServer struct {
	Index int // from 1
	Name  string
	NS    *Namespace
	DR    Port // "dr": packets from the director come in here, answers to the sites go out
	Inner Port // "inner": the target's network

	lab    *Lab
	config wgConfig
	counts *counters
	gate   gate

	mu      sync.Mutex // guards what follows
	wg      *device.Device
	control net.Listener
}

// A Target is a host in the network behind the real servers.
type Target struct {
	*Namespace
	Inner Port
}

// Networks are those of its inner addresses, which the sites' tunnels lead to.
func (t *Target) Networks() []netip.Prefix {
	var out []netip.Prefix
	for _, a := range t.Inner.Addrs {
		bits := 25
		if a.Is6() {
			bits = 64
		}
		out = append(out, netip.PrefixFrom(a, bits).Masked())
	}
	return out
}

// New builds a lab and starts its tunnels, after it has removed what dead processes left behind. The end of ctx closes
// it, as Close does.
func New(ctx context.Context, o Options) (_ *Lab, err error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	if os.Geteuid() != 0 {
		return nil, errors.New("build lab: it needs root, for network namespaces, TUN devices and XDP")
	}
	if err := Sweep(); err != nil {
		return nil, err
	}
	l := &Lab{opts: o, unhook: func() bool { return true }, gone: make(chan struct{}), processes: map[*Process]struct{}{}, VIPs: []netip.Addr{VIP4}}
	if o.IPv6 {
		l.VIPs = append(l.VIPs, VIP6)
	}
	if l.dir, err = newDirectory(); err != nil {
		return nil, err
	}
	l.name = l.dir.name
	l.close = sync.OnceValue(l.tearDown)
	built := false
	defer func() { // also when a panic comes through
		if !built {
			err = errors.Join(err, l.Close())
		}
	}()
	if err := l.build(); err != nil {
		return nil, fmt.Errorf("build lab %s: %w", l.name, err)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("build lab %s: %w", l.name, err)
	}
	l.unhook = context.AfterFunc(ctx, func() {
		if err := l.close(); err != nil {
			o.Logger.Error("close lab", "lab", l.name, "error", err)
		}
	})
	built = true
	return l, nil
}

// Close ends all processes, tunnels and servers of the lab and removes its namespaces. It is idempotent.
func (l *Lab) Close() error {
	l.unhook()
	return l.close()
}

func (l *Lab) tearDown() error {
	defer close(l.gone)
	var errs []error
	for _, p := range l.running() {
		p.Kill()
	}
	for _, e := range l.echoes {
		errs = append(errs, e.close())
	}
	for _, s := range l.Sites {
		if s.wg != nil {
			s.wg.Close()
		}
	}
	for _, r := range l.RealServers {
		r.stop()
	}
	errs = append(errs, killStrays(l.name+"-"))
	for _, n := range l.all {
		errs = append(errs, n.remove())
	}
	errs = append(errs, l.dir.remove())
	return errors.Join(errs...)
}

// Done is closed when the lab is torn down.
func (l *Lab) Done() <-chan struct{} { return l.gone }

// Name is the prefix of the namespaces' names.
func (l *Lab) Name() string { return l.name }

func (l *Lab) namespace(role string) (*Namespace, error) {
	n, err := newNamespace(l.name+"-"+role, l.dir.of(role))
	if err == nil {
		l.all = append(l.all, n)
	}
	return n, err
}
