package strongswan

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"time"

	"tunneldirector/director/agent"
	"tunneldirector/realserver/terminator"
)

// A look is what was seen when charon listed its SAs.
type look struct {
	at      time.Time
	tunnels []agent.Tunnel
	// By name: all IKE SAs of it, whatever their state.
	sas map[string][]session
	// By connection: the IKE SAs that have yet to become something.
	begun map[string][]uint64
	// By connection, and "" for any: what the newest IKE SA was negotiated to.
	suites map[string]suite
}

// A session is an IKE SA of a name that sites may share.
type session struct {
	id     uint64
	remote netip.AddrPort
}

// A life is a tunnel from establishment to its end, over as many keys as it takes. charon counts from the last keys: while
// a CHILD_SA stays or the IKE SA does, it is the same tunnel.
type life struct {
	ike      uint64
	children []uint64  // by SPI
	keyed    time.Time // since when the IKE SA is
	since    time.Time // since when the tunnel is
}

// jitter is how much a time may differ from the same time when it was worked out before: charon counts in whole seconds.
const jitter = 2 * time.Second

// Tunnels lists what is established. While events are heard (Watch) and none came, the last list serves for Refresh, and charon
// is asked for no more than a sign of life.
func (d *Driver) Tunnels(ctx context.Context) ([]agent.Tunnel, error) {
	d.mu.Lock()
	last, fresh := d.last, d.heard && !d.dirty && time.Since(d.last.at) < d.o.Refresh
	d.mu.Unlock()
	if !fresh || last.at.IsZero() {
		var err error
		if last, err = d.look(ctx); err != nil {
			return nil, err
		}
	} else if err := d.call(ctx, "version", nil, "", nil); err != nil {
		return nil, err
	}
	return last.tunnels, nil
}

// look has charon list its SAs.
func (d *Driver) look(ctx context.Context) (look, error) {
	d.mu.Lock()
	d.dirty = false // an event that comes while charon lists is about what it may have listed already
	s := seen{known: d.known, best: make(map[string][]best, len(d.known)), look: look{
		at: time.Now(), sas: make(map[string][]session, len(d.last.sas)), begun: map[string][]uint64{}, suites: maps.Clone(d.last.suites),
	}}
	d.mu.Unlock()
	if s.suites == nil {
		s.suites = map[string]suite{}
	}
	err := d.call(ctx, "list-sas", nil, "list-sa", func(m message) error {
		one, err := readSA(m)
		if err == nil && terminator.Matches(d.o.Connections, original(one.connection)) {
			s.add(one)
		}
		return err
	})
	if err != nil {
		return look{}, err
	}
	if err := d.sweep(ctx); err != nil {
		return look{}, err
	}
	l := s.look
	l.tunnels = make([]agent.Tunnel, 0, len(s.best))
	lives := make(map[string][]life, len(s.best))
	peers := slices.AppendSeq(make([]string, 0, len(s.best)), maps.Keys(s.best))
	slices.Sort(peers)
	for _, peer := range peers {
		for _, b := range s.best[peer] {
			if len(s.best[peer]) > 1 {
				b.tunnel.Peer = terminator.NameAt(peer, b.tunnel.Endpoint)
			}
			l.tunnels, lives[peer] = append(l.tunnels, b.tunnel), append(lives[peer], b.life)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last, d.known = l, lives
	return l, nil
}

// seen gathers a list.
type seen struct {
	look
	known map[string][]life
	best  map[string][]best // by name, in the order of their endpoints
}

// A best is the newest SA of a peer at one endpoint that carries packets.
type best struct {
	tunnel agent.Tunnel
	life   life
}

func (s *seen) add(one sa) {
	if one.identity == "" || one.identity == "%any" {
		s.begun[one.connection] = append(s.begun[one.connection], one.id)
		return
	}
	peer := peerName(one.connection, one.identity)
	s.sas[peer] = append(s.sas[peer], session{one.id, one.remote})
	if !one.up {
		s.begun[one.connection] = append(s.begun[one.connection], one.id)
	}
	t, children := one.tunnel(peer, s.at)
	if len(children) == 0 || !t.Endpoint.Addr().IsValid() {
		return
	}
	i, there := slices.BinarySearchFunc(s.best[peer], t.Endpoint, func(b best, at netip.AddrPort) int { return b.tunnel.Endpoint.Compare(at) })
	if there && s.best[peer][i].life.ike > one.id {
		return
	}
	l := one.life(one.earlier(s.known[peer], children), children, s.at)
	t.Since = l.since
	if there {
		s.best[peer][i] = best{tunnel: t, life: l}
	} else {
		s.best[peer] = slices.Insert(s.best[peer], i, best{tunnel: t, life: l})
	}
	s.suites[original(one.connection)], s.suites[""] = one.suite, one.suite
}

// earlier is the life, of those known of a name, that the SA goes on with.
func (one sa) earlier(known []life, children []uint64) life {
	for _, l := range known {
		if l.ike == one.id || shares(l.children, children) {
			return l
		}
	}
	return life{}
}

func shares(a, b []uint64) bool {
	return slices.ContainsFunc(a, func(spi uint64) bool { return slices.Contains(b, spi) })
}

// life tells since when, given what was known of the peer.
func (one sa) life(old life, children []uint64, now time.Time) life {
	keyed := now // with its monotonic reading, since charon's clock is one
	if one.established >= 0 {
		keyed = now.Add(-time.Duration(one.established) * time.Second)
	}
	l := life{ike: one.id, children: children, keyed: keyed, since: keyed}
	same := old.ike == one.id && (one.established < 0 || keyed.Sub(old.keyed).Abs() <= jitter)
	rekeyed := shares(children, old.children)
	if same {
		l.keyed = old.keyed
	}
	if same || rekeyed {
		l.since = old.since
	}
	return l
}

// tunnel is the SA as a tunnel, and the CHILD_SAs that carry it, by their SPIs.
func (one sa) tunnel(peer string, now time.Time) (agent.Tunnel, []uint64) {
	t := agent.Tunnel{Peer: peer, Local: one.local, Endpoint: netip.AddrPortFrom(one.remote.Addr(), 0)}
	var children []uint64
	var behind []netip.Prefix
	if !one.up {
		return t, nil
	}
	for _, c := range one.children {
		if !c.up {
			continue
		}
		children = append(children, c.spi)
		if c.encap {
			t.Endpoint = one.remote
		}
		if !c.transport {
			behind = append(behind, c.remote...)
		}
		t.Rx, t.Tx = t.Rx+c.in, t.Tx+c.out
		if last := now.Add(-time.Duration(c.idle) * time.Second); c.idle >= 0 && last.After(t.Last) {
			t.Last = last
		}
	}
	t.Subnets = merge(behind)
	return t, children
}
