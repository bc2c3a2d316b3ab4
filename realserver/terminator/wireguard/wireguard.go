// Package wireguard drives WireGuard: a device of the kernel's, or one in user space by its configuration socket.
//
// A terminator has a key of its own and its sites as peers; all terminators of a service have the same. WireGuard knows no
// established tunnels, only handshakes: a peer is one while its last handshake is younger than the keys that came of it may live.
//
// WireGuard refuses a handshake whose time is not later than that of the last one of the same key. Adopt thus reaches a site
// only from a terminator whose clock is not behind that of the one before, by more than the time since its last handshake.
package wireguard

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"tunneldirector/director/agent"
	"tunneldirector/realserver/space"
	"tunneldirector/realserver/terminator"
)

// lifetime is how long the keys of a handshake are used at most: REJECT_AFTER_TIME of the protocol.
const lifetime = 180 * time.Second

// Options say which WireGuard, and where.
type Options struct {
	Device string       // its name
	Socket string       // of the configuration protocol, for a device in user space; "": the device is the kernel's
	Space  space.Space  // where the device is
	VIPs   []netip.Addr // that sites dial it at

	// SendsFromVIP: what the software sends on its own account leaves from the VIP whatever the routes say. The kernel's device
	// and wireguard-go go by the route, so Adopt looks at it first.
	SendsFromVIP bool
}

// A Terminator is one WireGuard device.
type Terminator struct {
	opts Options
	dev  control
	seen history        // Tunnels' own
	list []agent.Tunnel // of the last time, the same
}

// control is a device, of either kind.
type control interface {
	// each calls f for every peer, which is good until f returns, and tells the rest of the device.
	each(ctx context.Context, f func(*peer)) (device, error)
	// anew removes a peer and adds it again as p says, in one step where the device sees it as one; with begin it sends a handshake.
	anew(ctx context.Context, p peer, begin bool) error
	// processes are those that the device runs in.
	processes(ctx context.Context) ([]int, error)
}

// A device is what WireGuard says of itself, but for its key.
type device struct {
	port  uint16
	mark  uint32
	peers []peer
}

// A peer is what WireGuard knows of one.
type peer struct {
	key       wgtypes.Key
	shared    wgtypes.Key    // secret; zero: none
	endpoint  netip.AddrPort // zero: none
	allowed   []netip.Prefix
	keepalive time.Duration
	handshake time.Time // the last; zero: none
	rx, tx    uint64
}

// read is a device with its peers.
func read(ctx context.Context, c control) (device, error) {
	var peers []peer
	d, err := c.each(ctx, func(p *peer) { peers = append(peers, p.clone()) })
	d.peers = peers
	return d, err
}

func (p *peer) clone() peer {
	c := *p
	c.allowed = slices.Clone(p.allowed)
	return c
}

// New returns a terminator. It touches nothing.
func New(opts Options) *Terminator {
	t := &Terminator{opts: opts, seen: history{lives: map[wgtypes.Key]*life{}}}
	if opts.Socket != "" {
		t.dev = uapi{socket: opts.Socket}
	} else {
		t.dev = kernel{name: opts.Device, in: opts.Space}
	}
	return t
}

// Tunnels lists peers with a handshake in the last 180 s. Since is the first handshake of an unbroken series as far as
// this Terminator saw it, Last when it saw the peer's bytes grow.
func (t *Terminator) Tunnels(ctx context.Context) ([]agent.Tunnel, error) {
	now := time.Now()
	t.list = terminator.Room(t.list)
	t.seen.begin()
	_, err := t.dev.each(ctx, func(p *peer) {
		l := t.seen.look(now, p)
		if l == nil || !p.endpoint.IsValid() {
			return
		}
		t.list = append(t.list, agent.Tunnel{
			Peer: l.name, Local: terminator.OnlyVIP(t.opts.VIPs, p.endpoint.Addr()), Endpoint: p.endpoint, Subnets: l.subnets,
			Since: l.since, Last: l.last, Rx: p.rx, Tx: p.tx,
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read WireGuard device %s: %w", t.opts.Device, err)
	}
	t.seen.end()
	return t.list, nil
}

// Adopt makes the peer anew with the inherited endpoint, which clears what keys it had, and sends it a handshake. The peer
// is found by its key or, if the terminator before told none, by its subnets; all else of its configuration is kept.
func (t *Terminator) Adopt(ctx context.Context, in agent.Inherited) error {
	d, err := read(ctx, t.dev)
	if err != nil {
		return fmt.Errorf("adopt %s: read WireGuard device %s: %w", in.ID, t.opts.Device, err)
	}
	p, err := find(d.peers, in)
	if err != nil {
		return fmt.Errorf("adopt %s: device %s: %w: %w", in.ID, t.opts.Device, err, terminator.ErrWait)
	}
	if !in.Endpoint.Addr().IsValid() || in.Endpoint.Port() == 0 {
		return fmt.Errorf("adopt %s: peer %s: the site's address and port are not known: %w", in.ID, p.key, terminator.ErrWait)
	}
	if !t.opts.SendsFromVIP {
		if err := t.leaves(d.mark, in.Endpoint.Addr(), in.Local); err != nil {
			return fmt.Errorf("adopt %s: peer %s: %w", in.ID, p.key, err)
		}
	}
	p.endpoint = in.Endpoint
	if err := t.dev.anew(ctx, p, true); err != nil {
		return fmt.Errorf("adopt %s: set peer %s of %s: %w", in.ID, p.key, t.opts.Device, err)
	}
	return nil
}

// leaves tells whether a handshake would leave from the VIP. From another address the site would take that for the service's
// new one, and go on without the director.
func (t *Terminator) leaves(mark uint32, site, vip netip.Addr) error {
	var from netip.Addr
	err := t.opts.Space.Do(func() (err error) {
		from, err = source(mark, site)
		return err
	})
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		return err
	case err != nil:
		return fmt.Errorf("look up the route to %s: %w", site, err)
	case vip.IsValid() && from != vip, !vip.IsValid() && !slices.Contains(t.opts.VIPs, from):
		return fmt.Errorf("what WireGuard sends to %s would leave from %s, not from the VIP (the route needs the VIP as its source): %w",
			site, from, terminator.ErrWait)
	}
	return nil
}

// Release makes the peer anew without endpoint: nothing more is sent to the site, and what it sends is not answered, so that
// it looks for another handshake. WireGuard has no way to tell the site.
func (t *Terminator) Release(ctx context.Context, in agent.Inherited) error {
	d, err := read(ctx, t.dev)
	if err != nil {
		return fmt.Errorf("release %s: read WireGuard device %s: %w", in.ID, t.opts.Device, err)
	}
	p, err := find(d.peers, in)
	if err != nil || p.handshake.IsZero() && !p.endpoint.IsValid() {
		return nil // it is not there
	}
	p.endpoint = netip.AddrPort{}
	if err := t.dev.anew(ctx, p, false); err != nil {
		return fmt.Errorf("release %s: set peer %s of %s: %w", in.ID, p.key, t.opts.Device, err)
	}
	return nil
}

// Accept is not WireGuard's to do.
func (t *Terminator) Accept(context.Context, bool) error {
	return fmt.Errorf("WireGuard device %s: take new tunnels or not: %w", t.opts.Device, terminator.ErrCannot)
}

// Work is the device, its sockets and, in user space, its process.
func (t *Terminator) Work(ctx context.Context) (terminator.Work, error) {
	d, err := t.dev.each(ctx, func(*peer) {})
	if err != nil {
		return terminator.Work{}, fmt.Errorf("read WireGuard device %s: %w", t.opts.Device, err)
	}
	w := terminator.Work{Devices: []string{t.opts.Device}}
	if d.port != 0 {
		w.Sockets = []netip.AddrPort{netip.AddrPortFrom(netip.IPv4Unspecified(), d.port), netip.AddrPortFrom(netip.IPv6Unspecified(), d.port)}
	}
	if w.Processes, err = t.dev.processes(ctx); err != nil {
		return terminator.Work{}, fmt.Errorf("find the process of WireGuard device %s: %w", t.opts.Device, err)
	}
	return w, nil
}
