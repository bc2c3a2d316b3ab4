package libreswan

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"tunneldirector/director/agent"
	"tunneldirector/realserver/terminator"
)

// An sa is a Child SA that owns its connection's policy, and all that whack tells of it.
type sa struct {
	number uint64
	peer   string
	traffic
	childState
	policy
}

// Tunnels lists what is established. What is counted is counted from the last keys on.
func (d *Driver) Tunnels(ctx context.Context) ([]agent.Tunnel, error) {
	all, err := d.list(ctx)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	lives := map[site]life{}
	bySite := map[site]*agent.Tunnel{}
	newest := map[site]uint64{}
	shared := map[string]int{} // sites by name
	for _, s := range all {    // by number, rising
		at := site{s.peer, s.endpoint()}
		t, l := s.tunnel(d.earlier(&s), now)
		if old := bySite[at]; old != nil && newest[at] == s.ike {
			// Another subnet of the same site.
			old.Subnets, old.Rx, old.Tx = append(old.Subnets, t.Subnets...), old.Rx+t.Rx, old.Tx+t.Tx
			l.rx += lives[at].rx
			old.Last, lives[at] = l.last, l
			continue
		} else if old == nil {
			shared[s.peer]++
		}
		bySite[at], lives[at], newest[at] = &t, l, s.ike
	}
	d.known = make(map[part]life, 2*len(lives))
	for at, l := range lives {
		d.known[part{at.peer, l.ike}], d.known[part{at.peer, l.child}] = l, l
	}
	var out []agent.Tunnel
	for _, at := range slices.SortedFunc(maps.Keys(bySite), site.compare) {
		t := *bySite[at]
		if shared[at.peer] > 1 {
			t.Peer = terminator.NameAt(at.peer, at.endpoint)
		}
		slices.SortFunc(t.Subnets, netip.Prefix.Compare)
		t.Subnets = slices.Compact(t.Subnets)
		t.Subnets = t.Subnets[:min(len(t.Subnets), agent.MaxSubnets)]
		out = append(out, t)
	}
	return out, nil
}

// earlier is the life, of those known, that a Child SA goes on with. The caller holds mu.
func (d *Driver) earlier(s *sa) life {
	if l, ok := d.known[part{s.peer, s.ike}]; ok {
		return l
	}
	return d.known[part{s.peer, s.number}]
}

// list asks for all that there is of each Child SA. What changes in between is left out until the next time.
func (d *Driver) list(ctx context.Context) ([]sa, error) {
	traffics, err := ask(ctx, d, parseTraffic, "--trafficstatus")
	if err != nil || len(traffics) == 0 {
		return nil, err
	}
	states, err := ask(ctx, d, parseStates, "--showstates")
	if err != nil {
		return nil, err
	}
	policies, err := d.policiesOf(ctx, traffics)
	if err != nil {
		return nil, err
	}
	var all []sa
	for _, number := range slices.Sorted(maps.Keys(traffics)) {
		s := sa{number: number, traffic: traffics[number], childState: states[number], policy: policies[number]}
		if s.at.IsValid() {
			s.remote = s.at
		}
		if !s.remote.IsValid() || s.ike == 0 || !terminator.Matches(d.o.Connections, s.traffic.connection) {
			continue
		}
		s.peer = peerName(s.traffic.connection, s.id)
		all = append(all, s)
	}
	return all, nil
}

// policiesOf are what Child SAs are for. Pluto is asked for all it knows of all connections, during which it does nothing else, if
// there is one of which it was never asked.
func (d *Driver) policiesOf(ctx context.Context, traffics map[uint64]traffic) (map[uint64]policy, error) {
	d.mu.Lock()
	known := maps.Clone(d.policies)
	again := time.Since(d.asked) > vain
	d.mu.Unlock()
	maps.DeleteFunc(known, func(number uint64, p policy) bool {
		t, there := traffics[number]
		return !there || p.connection != t.connection && (again || p.connection != "")
	})
	missing := false
	for number := range traffics {
		_, ok := known[number]
		missing = missing || !ok
	}
	if missing {
		told, err := ask(ctx, d, parsePolicies, "--status")
		if err != nil {
			return nil, err
		}
		known = map[uint64]policy{}
		for number := range traffics {
			known[number] = told[number]
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.policies = known; missing {
		d.asked = time.Now()
	}
	return maps.Clone(known), nil
}

func ask[T any](ctx context.Context, d *Driver, parse func(string) (T, error), args ...string) (T, error) {
	out, err := d.whack(ctx, args...)
	if err != nil {
		var none T
		return none, err
	}
	return parse(out)
}

// peerName is what a tunnel's peer is called; names are kept to what reports may hold, also with where the site is.
func peerName(connection, id string) string {
	name := connection + " " + id
	return name[:min(len(name), terminator.MaxName)]
}

// A site is told from others of its name by where it is.
type site struct {
	peer     string
	endpoint netip.AddrPort
}

func (s site) compare(o site) int {
	return cmp.Or(cmp.Compare(s.peer, o.peer), s.endpoint.Compare(o.endpoint))
}

// A part is one of the SAs of a name, by its number.
type part struct {
	peer   string
	number uint64
}

// endpoint is where packets come from: IKE leaves its port where there is NAT.
func (s sa) endpoint() netip.AddrPort {
	if s.port != 500 {
		return netip.AddrPortFrom(s.remote, s.port)
	}
	return netip.AddrPortFrom(s.remote, 0)
}

func (s sa) tunnel(old life, now time.Time) (agent.Tunnel, life) {
	t := agent.Tunnel{Peer: s.peer, Local: s.local, Endpoint: s.endpoint(), Rx: s.rx, Tx: s.tx}
	if s.behind.IsValid() {
		t.Subnets = []netip.Prefix{s.behind}
	}
	l := life{ike: s.ike, child: s.number, since: s.added, rx: s.rx}
	if age := now.Sub(s.added); age < 0 || age > 10*365*24*time.Hour { // not a date
		l.since = now
	}
	if old.ike == s.ike || old.child == s.number {
		l.since, l.last = old.since, old.last
		if s.rx != old.rx {
			l.last = now
		}
	}
	t.Since, t.Last = l.since, l.last
	return t, l
}

// Adopt begins the tunnel's connection towards the site.
func (d *Driver) Adopt(ctx context.Context, t agent.Inherited) error {
	connection, _, ok := strings.Cut(t.Peer, " ")
	switch {
	case !ok || !terminator.Matches(d.o.Connections, connection):
		return fmt.Errorf("adopt %s: nobody told which connection is that of %q: %w", t.ID, t.Peer, terminator.ErrWait)
	case t.Endpoint.Port() != 0:
		return fmt.Errorf("adopt %s: pluto begins nothing towards a port of a NAT box, as %s is: %w", t.ID, t.Endpoint, terminator.ErrWait)
	case !t.Endpoint.Addr().IsValid():
		return fmt.Errorf("adopt %s: where the site is, is not known: %w", t.ID, terminator.ErrWait)
	}
	if _, err := d.end(ctx, t); err != nil {
		return fmt.Errorf("adopt %s: clear what is stale: %w", t.ID, err)
	}
	_, err := d.whack(ctx, "--initiate", "--name", connection, "--remote-host", t.Endpoint.Addr().String(), "--asynchronous")
	if err != nil {
		for _, why := range []string{"no connection", "not orient", "no suitable", "PSK", "private key"} {
			if strings.Contains(err.Error(), why) {
				err = fmt.Errorf("%w: %w", terminator.ErrWait, err)
				break
			}
		}
		return fmt.Errorf("adopt %s: %w", t.ID, err)
	}
	return nil
}

// Release ends a peer's tunnel; pluto tells the site.
func (d *Driver) Release(ctx context.Context, t agent.Inherited) error {
	elsewhere, err := d.end(ctx, t)
	if err = errors.Join(err, elsewhere); err != nil {
		return fmt.Errorf("release %s: %w", t.ID, err)
	}
	return nil
}

// end deletes the IKE SAs of a peer, and with them all of its tunnel. Another site may have the same name: what comes from elsewhere
// than the order says is its, and elsewhere tells of it if there was nothing to end.
func (d *Driver) end(ctx context.Context, t agent.Inherited) (elsewhere, err error) {
	all, err := d.list(ctx)
	if err != nil {
		return nil, err
	}
	name := terminator.Here(t.Peer, func(name string) bool {
		return slices.ContainsFunc(all, func(s sa) bool { return s.peer == name })
	})
	ended := map[uint64]bool{}
	var others []netip.AddrPort
	for _, s := range all {
		switch {
		case s.peer != name || ended[s.ike]:
			continue
		case !terminator.IsAt(t.Endpoint, s.endpoint()):
			others = append(others, s.endpoint())
			continue
		}
		ended[s.ike] = true
		if _, err := d.whack(ctx, "--deletestate", strconv.FormatUint(s.ike, 10), "--asynchronous"); err != nil {
			return nil, err
		}
	}
	if len(ended) > 0 {
		return nil, nil
	}
	return terminator.Elsewhere(name, t.Endpoint, others), nil
}
