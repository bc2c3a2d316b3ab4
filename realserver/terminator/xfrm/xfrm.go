package xfrm

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"tunneldirector/director/agent"
	"tunneldirector/realserver/space"
	"tunneldirector/realserver/terminator"
)

// Options say whose SAs.
type Options struct {
	Space space.Space
	VIPs  []netip.Addr // outer addresses of the real server; others' SAs are none of its
}

// A Driver reads the SAs of one network namespace. It is a terminator.Terminator, Watcher, Worker and DataPath.
type Driver struct {
	o Options

	mu    sync.Mutex // guards what follows
	known map[netip.AddrPort]life
}

// A life is a tunnel over as many keys as it takes: while one SA stays until others have come, it is the same.
type life struct {
	spis    []uint32
	since   time.Time
	packets uint64    // from the site, of these SAs
	last    time.Time // when there were fewer
}

var (
	_ terminator.Terminator = (*Driver)(nil)
	_ terminator.Watcher    = (*Driver)(nil)
	_ terminator.Worker     = (*Driver)(nil)
	_ terminator.DataPath   = (*Driver)(nil)
)

// New makes a driver and touches nothing.
func New(o Options) (*Driver, error) {
	if len(o.VIPs) == 0 {
		return nil, errors.New("no VIPs: whose SAs are the real server's cannot be told")
	}
	return &Driver{o: o}, nil
}

// A state is an SA as the kernel has it.
type state struct {
	src, dst     netip.Addr
	sport, dport uint16 // of ESP in UDP; 0: none
	spi, reqid   uint32
	added        time.Time
	packets      uint64
	bytes        uint64
}

// A policy is one that sends what is for a network through an SA.
type policy struct {
	network  netip.Prefix
	src, dst netip.Addr // of the SA
	reqid    uint32     // 0: any
}

// A pair is the SAs of a tunnel, both ways.
type pair struct {
	vip      netip.Addr
	endpoint netip.AddrPort
	in, out  []state
}

// Tunnels lists the pairs of SAs. What is counted is counted from the last keys on.
func (d *Driver) Tunnels(ctx context.Context) ([]agent.Tunnel, error) {
	states, err := d.states(ctx)
	if err != nil {
		return nil, err
	}
	policies, err := d.policies(ctx)
	if err != nil {
		return nil, err
	}
	behind := networks(policies)
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	lives := map[netip.AddrPort]life{}
	var all []agent.Tunnel
	for _, p := range pairs(states, d.o.VIPs) {
		t, l := p.tunnel(d.known[p.endpoint], now)
		t.Subnets = p.behind(behind)
		if old, twice := lives[p.endpoint]; twice && old.since.After(l.since) { // the same site at two VIPs: the newer one
			continue
		} else if twice {
			all = slices.DeleteFunc(all, func(other agent.Tunnel) bool { return other.Peer == t.Peer })
		}
		lives[p.endpoint] = l
		all = append(all, t)
	}
	d.known = lives
	return all, nil
}

// Carries counts the pairs of SAs.
func (d *Driver) Carries(ctx context.Context) (int, error) {
	states, err := d.states(ctx)
	return len(pairs(states, d.o.VIPs)), err
}

// pairs are the tunnels that have an SA either way, in a fixed order.
func pairs(states []state, vips []netip.Addr) []pair {
	type ends struct {
		vip      netip.Addr
		endpoint netip.AddrPort
	}
	all := map[ends]*pair{}
	at := func(vip, site netip.Addr, port uint16) *pair {
		e := ends{vip, netip.AddrPortFrom(site, port)}
		if all[e] == nil {
			all[e] = &pair{vip: vip, endpoint: e.endpoint}
		}
		return all[e]
	}
	for _, s := range states {
		switch {
		case slices.Contains(vips, s.dst):
			p := at(s.dst, s.src, s.sport)
			p.in = append(p.in, s)
		case slices.Contains(vips, s.src):
			p := at(s.src, s.dst, s.dport)
			p.out = append(p.out, s)
		}
	}
	var out []pair
	for _, p := range all {
		if len(p.in) > 0 && len(p.out) > 0 {
			out = append(out, *p)
		}
	}
	slices.SortFunc(out, func(a, b pair) int {
		if c := a.endpoint.Compare(b.endpoint); c != 0 {
			return c
		}
		return a.vip.Compare(b.vip)
	})
	return out
}

// tunnel is the pair as one, given what was known of it.
func (p pair) tunnel(old life, now time.Time) (agent.Tunnel, life) {
	t := agent.Tunnel{Peer: p.endpoint.String(), Local: p.vip, Endpoint: p.endpoint}
	if p.endpoint.Port() == 0 {
		t.Peer = p.endpoint.Addr().String()
	}
	l := life{since: p.in[0].added}
	same := false
	for _, s := range p.in {
		t.Rx += s.bytes
		l.packets += s.packets
		l.spis = append(l.spis, s.spi)
		same = same || slices.Contains(old.spis, s.spi)
		if s.added.Before(l.since) {
			l.since = s.added
		}
	}
	for _, s := range p.out {
		t.Tx += s.bytes
	}
	if same {
		l.since, l.last = old.since, old.last
		if l.packets != old.packets {
			l.last = now
		}
	}
	t.Since, t.Last = l.since, l.last
	return t, l
}

// A way is how policies tell SAs.
type way struct {
	src, dst netip.Addr
	reqid    uint32
}

// networks are what policies lead to, by SA.
func networks(policies []policy) map[way][]netip.Prefix {
	all := map[way][]netip.Prefix{}
	for _, p := range policies {
		w := way{p.src, p.dst, p.reqid}
		all[w] = append(all[w], p.network)
	}
	return all
}

// behind are the networks that policies lead to a tunnel. Several sites behind one address are told apart by the policies' numbers.
func (p pair) behind(all map[way][]netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	numbers := []uint32{0}
	for _, s := range p.out {
		if !slices.Contains(numbers, s.reqid) {
			numbers = append(numbers, s.reqid)
		}
	}
	for _, n := range numbers {
		out = append(out, all[way{p.vip, p.endpoint.Addr(), n}]...)
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	out = slices.Compact(out)
	return out[:min(len(out), agent.MaxSubnets)]
}

// Adopt cannot be: the kernel makes no keys.
func (d *Driver) Adopt(_ context.Context, t agent.Inherited) error {
	return fmt.Errorf("adopt %s: the kernel cannot begin a tunnel, and what daemon could is not known here: %w", t.ID, terminator.ErrWait)
}

// Release cannot be: the daemon would not know, nor the site.
func (d *Driver) Release(_ context.Context, t agent.Inherited) error {
	return fmt.Errorf("release %s: the kernel cannot tell the site, and SAs are their daemon's: %w", t.ID, terminator.ErrCannot)
}

// Accept cannot be.
func (d *Driver) Accept(context.Context, bool) error {
	return fmt.Errorf("the kernel takes whom its daemon takes: %w", terminator.ErrCannot)
}

// Work is the kernel's: it has no process.
func (d *Driver) Work(context.Context) (terminator.Work, error) { return terminator.Work{}, nil }
