package director

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"tunneldirector/affinity"
	"tunneldirector/director/agent"
	"tunneldirector/director/api"
	"tunneldirector/director/observe"
)

// What agents see that the table does not say: tunnels that roamed, and tunnels that nobody announced.

// learnedPrefix begins the ids of learned tunnels.
const learnedPrefix = "learned:"

// learnedLives is how long a learned tunnel stays after it was last seen, and learnedMost how many there are at most.
const (
	learnedLives = 30 * time.Minute
	learnedMost  = 50_000
	againMost    = 10_000 // sightings that are kept while the disk refuses
)

// learn follows tunnels to where they roamed, and takes up unknown ones where their service says so.
func (d *Director) learn(ctx context.Context) {
	news := append(d.again, d.o.Agents.News()...)
	if d.again = nil; len(news) == 0 {
		return
	}
	tx := d.begin()
	for _, s := range news {
		tx.seen(s)
	}
	if err := d.commit(ctx, tx); err != nil {
		d.o.Log.Warn("take up what agents see", "error", err)
		d.again = news[:min(len(news), againMost)]
		return
	}
	for _, s := range tx.strays {
		d.fetch(s)
	}
}

// A stray is a tunnel that roamed to where another real server than its own got its packets, and was established there.
type stray struct {
	tunnel string
	at     observe.Sighting
}

// fetch has a stray established at its own real server, now that its packets go there.
func (d *Director) fetch(s stray) {
	tun, ok := d.work.Tunnel(s.tunnel)
	if !ok {
		return
	}
	p, _ := d.work.PinOf(tun)
	to := d.work.NameAt(d.work.Serving(p))
	t := agent.Inherited{ID: tun.ID, Peer: s.at.Peer, Local: s.at.Local, Endpoint: s.at.Endpoint, Subnets: tun.Subnets, Bandwidth: tun.Bandwidth}
	if _, speaks := d.o.Agents.Agent(to); !speaks || to == s.at.RealServer {
		return
	}
	d.o.Log.Info("a tunnel that roamed elsewhere is fetched", "tunnel", tun.ID, "from", s.at.RealServer, "to", to)
	d.o.Agents.Order(to, agent.OrderAdopt, []agent.Inherited{t})
	d.releases = append(d.releases, release{s.at.RealServer, to, t, d.o.Now().Add(releaseAfter)})
}

// seen makes the table fit one new sighting, if it has to.
func (x *tx) seen(s observe.Sighting) {
	rs, ok := x.t.RealServer(s.RealServer)
	if !ok {
		return
	}
	for _, vip := range x.vipsFor(rs, s) {
		svc, h, known := x.heldAt(rs, vip, s.Endpoint)
		switch {
		case known:
			if tun, ok := x.t.Tunnel(h.Tunnel); ok {
				x.backHome(tun, s)
				if !x.looked[tun.ID] { // once for all that is news of a tunnel
					if x.looked == nil {
						x.looked = map[string]bool{}
					}
					x.looked[tun.ID] = true
					x.d.releaseStale(tun)
				}
			}
			return
		case svc == nil:
			continue
		}
		if tun := x.roamer(rs, svc, s); tun != nil {
			p, _ := x.t.PinOf(tun)
			if x.roam(tun, vip, s) && x.t.NameAt(x.t.Serving(p)) != rs.Name {
				x.strays = append(x.strays, stray{tun.ID, s})
			}
			return
		}
		if svc.Learn {
			x.takeUp(rs, svc, vip, s)
			return
		}
	}
}

// vipsFor are the VIPs at which a sighting may be.
func (x *tx) vipsFor(rs *affinity.RealServer, s observe.Sighting) []netip.Addr {
	if s.Local.IsValid() {
		return []netip.Addr{s.Local}
	}
	return slices.DeleteFunc(vipsOf(x.t, rs), func(vip netip.Addr) bool { return vip.Is4() != s.Endpoint.Addr().Is4() })
}

// heldAt is who holds an endpoint at a VIP, and, if nobody does, the real server's service there.
func (x *tx) heldAt(rs *affinity.RealServer, vip netip.Addr, ep affinity.Endpoint) (svc *affinity.Service, h affinity.Holding, held bool) {
	for _, port := range slices.Compact([]uint16{ep.Port(), 0}) {
		if h, held = x.t.AtEndpoint(affinity.EndpointKey{VIP: vip, Addr: ep.Addr(), Port: port}); held && !h.PortsOnly {
			return nil, h, true
		}
	}
	for _, name := range rs.Services {
		if s, ok := x.t.Service(name); ok && slices.Contains(s.VIPs, vip) {
			return s, h, false
		}
	}
	return nil, h, false
}

// roamer is the tunnel that a sighting at an unknown endpoint is: the one whose endpoint that peer had before at this real
// server, or else the one that has just these subnets, wherever it is served.
func (x *tx) roamer(rs *affinity.RealServer, svc *affinity.Service, s observe.Sighting) *affinity.Tunnel {
	of := func(id string) *affinity.Tunnel {
		tun, ok := x.t.Tunnel(id)
		if p, placed := x.t.PinOf(tun); !ok || tun.Service != svc.Name || !placed || x.t.Serving(p) == 0 {
			return nil
		}
		return tun
	}
	served := func(id string) *affinity.Tunnel {
		tun := of(id)
		if tun == nil {
			return nil
		}
		if p, _ := x.t.PinOf(tun); x.t.NameAt(x.t.Serving(p)) != rs.Name {
			return nil
		}
		return tun
	}
	if s.Before.IsValid() {
		for _, vip := range x.vipsFor(rs, s) {
			if _, h, held := x.heldAt(rs, vip, s.Before); held {
				if tun := served(h.Tunnel); tun != nil {
					return tun
				}
			}
		}
	}
	var found *affinity.Tunnel
	for _, p := range s.Subnets {
		var one *affinity.Tunnel
		for _, n := range x.t.Tenants() {
			if h, held := x.t.AtSubnet(affinity.SubnetKey{Tenant: n.Num, Prefix: p}); held && one == nil {
				one = of(h.Tunnel)
			}
		}
		if one == nil || found != nil && found.ID != one.ID {
			return nil
		}
		found = one
	}
	return found
}

// roam makes a tunnel hold the endpoint at which it was seen, too; false: it does already, or may not.
func (x *tx) roam(tun *affinity.Tunnel, vip netip.Addr, s observe.Sighting) bool {
	ep := s.Endpoint
	if !slices.ContainsFunc(tun.Endpoints, func(e affinity.Endpoint) bool { return e.Port() != 0 }) && !x.t.PortsAt(vip, ep.Addr()) {
		ep = netip.AddrPortFrom(ep.Addr(), 0) // as it was announced: whatever it sends from there
	}
	if slices.Contains(tun.Roamed, ep) {
		return false
	}
	next := *tun
	next.Roamed = append([]affinity.Endpoint{ep}, x.alive(tun, tun.Roamed)...)
	why := ""
	if len(next.Roamed) > affinity.MaxRoamed {
		why = fmt.Sprintf("it is up at %d others already", len(next.Roamed)-1)
	} else {
		why = x.putSeen(tun, &next, vip, ep)
	}
	if why != "" {
		x.d.o.Log.Warn("a tunnel roamed, and is not followed", "tunnel", tun.ID, "to", endpointWords(ep), "real_server", s.RealServer, "why", why)
		return false
	}
	x.event("tunnel-put", tun.ID, func(e *api.Event) {
		e.To, e.Why = s.RealServer, "roamed to "+endpointWords(ep)+", as "+s.RealServer+" sees it"
	})
	return true
}

// seenAt tells whether a sighting is at an endpoint, whatever the port if that names none.
func seenAt(s *observe.Sighting, e affinity.Endpoint) bool {
	return e.Addr() == s.Endpoint.Addr() && (e.Port() == 0 || e.Port() == s.Endpoint.Port())
}

// alive are those of a tunnel's endpoints at which an agent sees it.
func (x *tx) alive(tun *affinity.Tunnel, list []affinity.Endpoint) (out []affinity.Endpoint) {
	seen := x.d.sightings(x.t, tun, false)
	for _, e := range list {
		if slices.ContainsFunc(seen, func(s observe.Sighting) bool { return seenAt(&s, e) && x.d.fresh(s) }) {
			out = append(out, e)
		}
	}
	return out
}

// backHome forgets where a tunnel had roamed to when it is seen at an endpoint of its own again.
func (x *tx) backHome(tun *affinity.Tunnel, s observe.Sighting) {
	own := func(e affinity.Endpoint) bool { return seenAt(&s, e) }
	if len(tun.Roamed) == 0 || slices.ContainsFunc(tun.Roamed, own) || !slices.ContainsFunc(tun.Endpoints, own) {
		return
	}
	p, _ := x.t.PinOf(tun)
	list := x.d.sightings(x.t, tun, false)
	if x.t.NameAt(x.t.Serving(p)) != s.RealServer || len(list) == 0 || list[0].RealServer != s.RealServer || list[0].Endpoint != s.Endpoint {
		return // an old real server that has not noticed
	}
	next := *tun
	if next.Roamed = x.alive(tun, tun.Roamed); len(next.Roamed) == len(tun.Roamed) {
		return // it is up there, too
	}
	next.Header = x.header(affinity.KindTunnel, next.ID)
	x.t.PutTunnel(&next)
	x.event("tunnel-put", tun.ID, func(e *api.Event) { e.Why = "back at " + endpointWords(s.Endpoint) })
}

// putSeen stores a tunnel with an endpoint that an agent saw, or says why not.
func (x *tx) putSeen(old, next *affinity.Tunnel, vip netip.Addr, ep affinity.Endpoint) (why string) {
	if h, held := x.t.AtEndpoint(affinity.EndpointKey{VIP: vip, Addr: ep.Addr(), Port: ep.Port()}); held && !h.PortsOnly && h.Tunnel != next.ID {
		return "tunnel " + h.Tunnel + " holds it"
	}
	seen := *next
	seen.Endpoints = []affinity.Endpoint{ep}
	if faults := x.t.EndpointFaults(&seen, x.d.local.reserved); len(faults) > 0 {
		return faults[0].Problem
	}
	if r := x.room(old, next); r != nil {
		return r.Error()
	}
	next.Header = x.header(affinity.KindTunnel, next.ID)
	x.t.PutTunnel(next)
	return ""
}

// takeUp makes a tunnel of a sighting that nobody announced, pinned where it is.
func (x *tx) takeUp(rs *affinity.RealServer, svc *affinity.Service, vip netip.Addr, s observe.Sighting) {
	life, alive := x.t.LifeOf(rs.Name)
	if !alive || !life.Alive || x.d.learned >= learnedMost {
		return
	}
	sum := sha256.Sum256([]byte(svc.Name + "\x00" + vip.String() + "\x00" + s.Peer))
	ep := netip.AddrPortFrom(s.Endpoint.Addr(), 0)
	if svc.Method == affinity.Masq || x.t.PortsAt(vip, ep.Addr()) {
		ep = s.Endpoint
	}
	next := &affinity.Tunnel{ID: learnedPrefix + hex.EncodeToString(sum[:12]), Service: svc.Name, Owner: affinity.LearnedOwner,
		Endpoints: []affinity.Endpoint{ep}, Subnets: x.freeSubnets(s.Subnets), Labels: map[string]string{"seen-at": rs.Name}}
	if old, exists := x.t.Tunnel(next.ID); exists {
		next.Created = old.Created
		for _, o := range x.d.sightings(x.t, old, false) {
			if o.RealServer != rs.Name && x.d.fresh(o) {
				return // somebody of that name is up elsewhere
			}
		}
		if why := x.putSeen(old, next, vip, ep); why != "" {
			return
		}
		if p, ok := x.t.PinOf(next); ok && x.t.NameAt(x.t.Serving(p)) != rs.Name {
			x.pin(affinity.Pin{Group: next.GroupID(), Primary: life.Index, Why: affinity.WhyPlaced, Note: "established there"})
			x.backup(next.GroupID(), life.Index, affinity.WhyBackup)
		}
		x.event("tunnel-put", next.ID, func(e *api.Event) { e.Why = "learned: now at " + endpointWords(ep) })
		return
	}
	next.Created = x.d.clock.Next(x.now, 0)
	if why := x.putSeen(&affinity.Tunnel{}, next, vip, ep); why != "" {
		return
	}
	x.d.learned++
	x.pin(affinity.Pin{Group: next.GroupID(), Primary: life.Index, Why: affinity.WhyPlaced, Note: "established there"})
	x.backup(next.GroupID(), life.Index, affinity.WhyBackup)
	x.event("tunnel-put", next.ID, func(e *api.Event) {
		e.Why = fmt.Sprintf("learned: %s is established at %s", endpointWords(ep), rs.Name)
	})
}

// freeSubnets are those of a terminator's that the default tenant covers and nobody holds.
func (x *tx) freeSubnets(list []netip.Prefix) (out []netip.Prefix) {
	tenant, ok := x.t.Tenant("")
	if !ok {
		return nil
	}
	for _, p := range list {
		covered := slices.ContainsFunc(tenant.Covers, func(c netip.Prefix) bool { return c.Bits() <= p.Bits() && c.Contains(p.Addr()) })
		_, _, held := x.t.LongestMatch(tenant.Num, p.Addr()) // what is inside another's would take its traffic
		if covered && !held && p == p.Masked() && len(out) < affinity.MaxSubnets {
			out = append(out, p)
		}
	}
	return out
}

// countLearned counts learned tunnels anew: between two counts only those that are taken up are added.
func (d *Director) countLearned() {
	d.learned = 0
	d.begin().eachLearned(func(*affinity.Tunnel) { d.learned++ })
}

func (x *tx) eachLearned(f func(*affinity.Tunnel)) {
	x.t.Tunnels(learnedPrefix, func(tun *affinity.Tunnel) bool {
		if !strings.HasPrefix(tun.ID, learnedPrefix) {
			return false
		}
		if tun.Learned() {
			f(tun)
		}
		return true
	})
}

// unlearn deletes learned tunnels that nobody has seen for long.
func (d *Director) unlearn(ctx context.Context) {
	if d.o.Agents == nil || d.o.Now().Sub(d.started) < learnedLives {
		return
	}
	tx := d.begin()
	var old []*affinity.Tunnel
	tx.eachLearned(func(tun *affinity.Tunnel) {
		for _, s := range d.sightings(d.work, tun, true) {
			last := s.Gone
			if last.IsZero() {
				last = s.Heard
			}
			if a, ok := d.o.Agents.Agent(s.RealServer); ok && a.Connected && s.Gone.IsZero() || d.o.Now().Sub(last) < learnedLives {
				return
			}
		}
		if d.o.Now().Sub(tun.Header.Stamp.Time()) >= learnedLives && !d.mayBeUp(d.work, tun) {
			old = append(old, tun)
		}
	})
	for _, tun := range old[:min(len(old), maxOps/2)] {
		tx.bury(tun, "learned, and not seen any more")
	}
	if err := d.commit(ctx, tx); err != nil {
		d.o.Log.Warn("forget learned tunnels", "error", err)
	}
}

// makeWay takes from another tunnel what it only learned, for one that is announced.
func (x *tx) makeWay(next, other *affinity.Tunnel, deleted bool) {
	if deleted {
		x.bury(other, "learned, and now announced as "+next.ID)
		return
	}
	changed := *other
	changed.Header = x.header(affinity.KindTunnel, other.ID)
	x.t.PutTunnel(&changed)
	x.event("tunnel-put", other.ID, func(e *api.Event) { e.Why = "gives way to tunnel " + next.ID })
}

// bury deletes a tunnel that the director itself had made.
func (x *tx) bury(tun *affinity.Tunnel, why string) {
	tomb := *tun
	tomb.Header = x.header(affinity.KindTunnel, tun.ID)
	x.t.DeleteTunnel(&tomb)
	x.leave(tun)
	x.event("tunnel-deleted", tun.ID, func(e *api.Event) { e.Why = why })
}

func endpointWords(ep affinity.Endpoint) string {
	if ep.Port() == 0 {
		return ep.Addr().String()
	}
	return ep.String()
}
