// Package fastd drives fastd by its status socket.
//
// fastd has no means to begin or end the tunnel of one peer, but two habits that come to the same:
//
//   - Data from an address that it has no tunnel with makes it send a handshake there. Adopt sends such a packet to the VIP, inside
//     the host, with the site's address as its source.
//   - A peer that is configured twice is disabled, and loses its tunnel, until SIGHUP finds it once. What else SIGHUP does to
//     peers that have a tunnel is nothing. So a directory of the driver's own, which fastd includes peers from, suffices to
//     clear one peer (Options.Clear).
//
// A tunnel that the site has elsewhere by now stays at fastd for 90 s, and until then nothing that the site sends there is
// understood. Without Options.Clear there is no way out but to wait; SIGUSR2 would end the tunnels of all peers.
package fastd

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"tunneldirector/director/agent"
	"tunneldirector/realserver/space"
	"tunneldirector/realserver/terminator"
)

// Options say which fastd, and where.
type Options struct {
	Socket  string                    // its status socket
	Space   space.Space               // where it is bound to the VIPs
	VIPs    []netip.Addr              // that sites dial it at
	Port    uint16                    // of the VIPs
	Subnets map[string][]netip.Prefix // behind peers, by name or key: fastd, on layer 2, does not know
	// Clear is a directory of the driver's own, in which nothing else is, and which fastd's configuration includes peers from;
	// "": there is none, and no tunnel can be released or, while fastd has an old one of the peer, adopted.
	Clear string
}

// A Terminator is one fastd process.
type Terminator struct {
	opts Options
	seen history        // Tunnels' own
	list []agent.Tunnel // of the last time, the same

	mu    sync.Mutex // guards sweep
	swept bool
}

// New returns a terminator. It touches nothing.
func New(opts Options) *Terminator {
	return &Terminator{opts: opts, seen: history{lives: map[string]*life{}}}
}

// Tunnels lists peers that have a tunnel, by key. fastd counts payload only, so Last does not move by its keepalives.
func (t *Terminator) Tunnels(ctx context.Context) ([]agent.Tunnel, error) {
	now := time.Now()
	t.list = terminator.Room(t.list)
	t.seen.begin()
	s, err := t.status(ctx, func(key []byte, p *peer) {
		l := t.seen.look(now, key, p)
		at, known := p.endpoint()
		if l == nil || !known {
			return
		}
		t.list = append(t.list, agent.Tunnel{
			Peer: l.key, Local: terminator.OnlyVIP(t.opts.VIPs, at.Addr()), Endpoint: at, Subnets: t.subnets(l.key, p.Name), Since: l.since, Last: l.last,
			Rx: p.Connection.Rx, Tx: p.Connection.Tx,
		})
	})
	if err != nil {
		return nil, err
	}
	t.seen.end()
	_ = t.sweep(s.pid) // a directory that cannot be used says so when it is needed; fastd is none the worse for it
	return t.list, nil
}

func (t *Terminator) subnets(key string, name []byte) []netip.Prefix {
	s, ok := t.opts.Subnets[key]
	if !ok {
		s = t.opts.Subnets[string(name)]
	}
	return s[:min(len(s), agent.MaxSubnets)]
}

// Adopt clears what tunnel of the peer is there, and makes fastd send the site a handshake. A tunnel that is there since a moment
// is the one that is wanted: what the site sent was faster than the order.
func (t *Terminator) Adopt(ctx context.Context, in agent.Inherited) error {
	if in.Peer != "" {
		fresh, err := t.ready(ctx, in)
		if err != nil {
			return fmt.Errorf("adopt %s: %w", in.ID, err)
		}
		if fresh {
			return nil
		}
	}
	vip := in.Local
	if !vip.IsValid() {
		vip = terminator.OnlyVIP(t.opts.VIPs, in.Endpoint.Addr())
	}
	if !vip.IsValid() || !in.Endpoint.Addr().IsValid() || in.Endpoint.Port() == 0 {
		return fmt.Errorf("adopt %s: the VIP, or the site's address and port, are not known: %w", in.ID, terminator.ErrWait)
	}
	err := t.opts.Space.Do(func() error { return nudge(in.Endpoint, netip.AddrPortFrom(vip, t.opts.Port)) })
	if err != nil {
		return fmt.Errorf("adopt %s: send to %s as %s: %w", in.ID, vip, in.Endpoint, err)
	}
	return nil
}

// handshakes is how long after a handshake fastd takes no other one of the same peer (fastd 22, establish_handshake_timeout, of
// MIN_HANDSHAKE_INTERVAL). Who clears a tunnel that is younger has none for the rest of that time.
const handshakes = 15 * time.Second

// ready sees that the peer is known and has no tunnel, or a fresh one.
func (t *Terminator) ready(ctx context.Context, in agent.Inherited) (fresh bool, err error) {
	f, err := t.find(ctx, in.Peer)
	switch {
	case err != nil:
		return false, err
	case !f.there:
		return false, fmt.Errorf("peer %s is not configured: %w", in.Peer, terminator.ErrWait)
	case !f.connected:
		return false, nil
	case f.established < handshakes.Milliseconds():
		return true, nil
	case t.opts.Clear == "":
		return false, fmt.Errorf("peer %s: fastd has a tunnel with it already, which lasts for 90 s if the site forgot it: %w", in.Peer, terminator.ErrWait)
	}
	return false, t.clear(ctx, f.pid, in)
}

// A found is what fastd says of one peer.
type found struct {
	there       bool // it is configured
	connected   bool
	established int64 // ms
	pid         int   // fastd's
}

// find asks fastd about one peer.
func (t *Terminator) find(ctx context.Context, key string) (f found, err error) {
	s, err := t.status(ctx, func(k []byte, p *peer) {
		if string(k) == key {
			f = found{there: true, connected: p.Connected, established: p.Connection.Established}
		}
	})
	if err == nil {
		f.pid = s.pid
	}
	return f, err
}

// Release clears the peer: fastd forgets its tunnel, sends nothing more to the site, and answers what comes from there with a
// handshake. fastd has no way to tell the site.
func (t *Terminator) Release(ctx context.Context, in agent.Inherited) error {
	f, err := t.find(ctx, in.Peer)
	if err != nil {
		return fmt.Errorf("release %s: %w", in.ID, err)
	}
	if !f.connected {
		return nil // it is not there
	}
	if t.opts.Clear == "" {
		return fmt.Errorf("release %s: fastd ends the tunnels of all peers or none: %w", in.ID, terminator.ErrCannot)
	}
	if err := t.clear(ctx, f.pid, in); err != nil {
		return fmt.Errorf("release %s: %w", in.ID, err)
	}
	return nil
}

// Accept is not fastd's to do.
func (t *Terminator) Accept(context.Context, bool) error {
	return fmt.Errorf("fastd at %s: take new tunnels or not: %w", t.opts.Socket, terminator.ErrCannot)
}

// Work is one process with one thread.
func (t *Terminator) Work(ctx context.Context) (terminator.Work, error) {
	found := map[string]bool{}
	s, err := t.status(ctx, func(_ []byte, p *peer) { found[string(p.Interface)] = true })
	if err != nil {
		return terminator.Work{}, err
	}
	if s.pid == 0 {
		return terminator.Work{}, errors.New("the process of fastd is in a PID namespace that cannot be seen into")
	}
	w := terminator.Work{Processes: []int{s.pid}, Devices: s.devices(found), Threads: 1}
	for _, vip := range t.opts.VIPs {
		w.Sockets = append(w.Sockets, netip.AddrPortFrom(vip, t.opts.Port))
	}
	return w, nil
}
