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
	// By connection: the IKE SAs that have yet to become something.
	begun map[string][]uint64
	// By connection, and "" for any: what the newest IKE SA was negotiated to.
	suites map[string]suite
}

// A site is what is known of a name, which sites may share. It stays from look to look: with 10,000 of them two lists at once would be what
// most memory goes to.
type site struct {
	peer  string // the name
	round uint64 // of the look that found it last
	known found  // by the last look that came to its end
	next  found  // by the one that is made, or that broke off
}

// A found is what a look found of a name.
type found struct {
	sas   []session // all IKE SAs of it, whatever their state
	lives []life    // one for each endpoint: the newest SA that carries packets
}

// A session is an IKE SA of a name that sites may share.
type session struct {
	id     uint64
	remote netip.AddrPort
}

// A life is a tunnel from establishment to its end, over as many keys as it takes. charon counts from the last keys: while
// a CHILD_SA stays or the IKE SA does, it is the same tunnel.
type life struct {
	tunnel   int // which one of its look's it is
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
	last, fresh := d.last, d.heard && !d.dirty && time.Since(d.last.at) < d.o.Refresh && !d.last.at.IsZero()
	if !fresh {
		d.last.at, d.last.tunnels = time.Time{}, nil // the list that is made now takes its place in memory
	}
	d.mu.Unlock()
	if !fresh {
		var err error
		if last, err = d.look(ctx, terminator.Room(last.tunnels)); err != nil {
			return nil, err
		}
	} else if err := d.call(ctx, "version", nil, "", nil); err != nil {
		return nil, err
	}
	return last.tunnels, nil
}

// look has charon list its SAs, for one caller at a time. The tunnels go into memory that nobody else reads.
func (d *Driver) look(ctx context.Context, into []agent.Tunnel) (look, error) {
	select {
	case d.turn <- struct{}{}:
		defer func() { <-d.turn }()
	case <-ctx.Done():
		return look{}, context.Cause(ctx)
	}
	d.mu.Lock()
	d.dirty = false // an event that comes while charon lists is about what it may have listed already
	d.round++
	s := seen{sites: d.sites, round: d.round, look: look{at: time.Now(), tunnels: into, begun: map[string][]uint64{}, suites: maps.Clone(d.last.suites)}}
	d.mu.Unlock()
	if s.suites == nil {
		s.suites = map[string]suite{}
	}
	var one sa
	err := d.call(ctx, "list-sas", nil, "list-sa", func(m message) (err error) {
		one, err = readSA(m, one)
		if err == nil && terminator.Matches(d.o.Connections, original(one.connection)) {
			d.mu.Lock()
			defer d.mu.Unlock()
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
	d.mu.Lock()
	defer d.mu.Unlock()
	s.end()
	d.last = s.look
	return s.look, nil
}

// seen gathers a list. Who calls it holds the Driver's mu.
type seen struct {
	look
	sites map[string]*site // the Driver's
	round uint64
}

// site is that of a name. What a look found that broke off does not count.
func (s *seen) site(name string) *site {
	x := s.sites[name]
	if x == nil {
		x = &site{peer: name}
		s.sites[name] = x
	}
	if x.round != s.round {
		x.round, x.next = s.round, found{}
	}
	return x
}

// end forgets who was not seen, and tells those of one name apart.
func (s *seen) end() {
	for name, x := range s.sites {
		if x.round != s.round {
			delete(s.sites, name)
			continue
		}
		x.known, x.next = x.next, found{}
		for _, l := range x.known.lives {
			if t := &s.tunnels[l.tunnel]; len(x.known.lives) > 1 {
				t.Peer = terminator.NameAt(name, t.Endpoint)
			}
		}
	}
}

func (s *seen) add(one sa) {
	if one.identity == "" || one.identity == "%any" {
		s.begun[one.connection] = append(s.begun[one.connection], one.id)
		return
	}
	at := s.site(peerName(one.connection, one.identity))
	x := &at.next
	x.sas = append(x.sas, session{one.id, one.remote})
	if !one.up {
		s.begun[one.connection] = append(s.begun[one.connection], one.id)
	}
	t, children := one.tunnel(at.peer, s.at)
	if len(children) == 0 || !t.Endpoint.Addr().IsValid() {
		return
	}
	i := slices.IndexFunc(x.lives, func(l life) bool { return s.tunnels[l.tunnel].Endpoint == t.Endpoint })
	if i >= 0 && x.lives[i].ike > one.id {
		return
	}
	l := one.life(one.earlier(at.known.lives, children), children, s.at)
	t.Since = l.since
	if i >= 0 {
		l.tunnel = x.lives[i].tunnel
		s.tunnels[l.tunnel], x.lives[i] = t, l
	} else {
		l.tunnel = len(s.tunnels)
		s.tunnels, x.lives = append(s.tunnels, t), append(x.lives, l)
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
