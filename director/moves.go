package director

import (
	"net/netip"
	"slices"
	"time"

	"tunneldirector/affinity"
	"tunneldirector/director/agent"
	"tunneldirector/director/observe"
)

// A moved tunnel is established anew by the successor, and given up by its real server before:
//
//	pins moved (in the kernel) ─▶ adopt ordered at the successor ─▶ its agent says how it went, or releaseAfter ─▶ release ordered at the old one
//
// The pin comes first: a site that is told to dial again would else meet the old one. The release comes last, so that a
// protocol that can make before it breaks does; where the successor cannot begin, the release is what makes the site dial.

// A move is a group's change of primary, or that of one tunnel of it that was pinned apart.
type move struct {
	group    affinity.GroupID
	apart    string // the tunnel's id; "": all that the group's pin holds for
	from, to affinity.Index
}

// A release waits until the successor has the tunnel.
type release struct {
	from, to string // real servers
	tunnel   agent.Inherited
	due      time.Time
}

// releaseAfter is how long the old real server keeps a tunnel that the successor is still trying to get.
const releaseAfter = 3 * time.Second

// endedLately is how long after its end a tunnel is still taken for one that ended with its real server.
const endedLately = time.Minute

// hand orders successors to adopt, once the plane sends them the packets: while it refuses, moves wait.
func (d *Director) hand(moves []move) {
	if d.o.Agents == nil {
		return
	}
	moves = append(d.waiting, moves...)
	if d.waiting = nil; d.planeErr != nil {
		d.waiting = moves
		return
	}
	if len(moves) == 0 {
		return
	}
	adopt, back := map[string][]agent.Inherited{}, map[string][]agent.Inherited{}
	now := d.o.Now()
	for _, m := range moves {
		from, to := d.work.NameAt(m.from), d.work.NameAt(m.to)
		pin, ok := d.work.Pin(m.group)
		if to == "" || !ok || pin.Primary != m.to {
			continue
		}
		list, all := d.inherited(m, now)
		back[to] = append(back[to], all...)
		if _, speaks := d.o.Agents.Agent(to); speaks {
			adopt[to] = append(adopt[to], list...)
			d.paid(m)
		} else if len(list) > 0 {
			d.owe(m, now)
		}
		if from == "" || from == to {
			continue
		}
		for _, t := range list {
			d.releases = append(d.releases, release{from, to, t, now.Add(releaseAfter)})
		}
	}
	for to, tunnels := range back {
		d.o.Agents.Cancel(to, tunnels)
	}
	for to, tunnels := range adopt {
		d.o.Agents.Order(to, agent.OrderAdopt, tunnels)
		d.o.Log.Info("adopt ordered", "real_server", to, "tunnels", len(tunnels))
	}
	d.releaseDue()
}

// inherited are the tunnels of a move that the successor has to establish, and the ids of all that were moved. One peer that several
// tunnels of the group may be is one.
func (d *Director) inherited(m move, at time.Time) (list, all []agent.Inherited) {
	told := map[string]bool{} // peers of the group
	for _, tun := range d.work.PlacedBy(m.group) {
		if m.apart != "" && m.apart != tun.ID {
			continue
		}
		all = append(all, agent.Inherited{ID: tun.ID})
		t, up := d.inherit(tun, d.work.NameAt(m.from), d.work.NameAt(m.to), at)
		if up && !told[t.Peer] {
			told[t.Peer] = t.Peer != ""
			list = append(list, t)
		}
	}
	return list, all
}

// inherit is what a successor has to know of a tunnel that was moved at a time. Nothing, if the tunnel was not up then, or is
// established at the successor already, or was meanwhile and has ended by itself.
func (d *Director) inherit(tun *affinity.Tunnel, from, to string, at time.Time) (agent.Inherited, bool) {
	out := agent.Inherited{ID: tun.ID, Subnets: tun.Subnets, Bandwidth: tun.Bandwidth}
	var last *observe.Sighting
	for _, s := range d.sightings(d.work, tun, true) { // the newest establishment first
		switch {
		case s.RealServer == to && s.Gone.IsZero() && d.fresh(s):
			if last == nil {
				return out, false
			} // else a stale one, older than what is to be adopted
		case s.RealServer == to && s.Gone.After(at):
			return out, false
		case !s.Gone.IsZero() && at.Sub(s.Gone) > endedLately: // it ended by itself
		case last == nil, last.RealServer != from && s.RealServer == from:
			last = &s
		}
	}
	if last != nil {
		out.Peer, out.Local, out.Endpoint = last.Peer, last.Local, last.Endpoint
		if len(out.Subnets) == 0 {
			out.Subnets = last.Subnets
		}
	}
	if !out.Endpoint.IsValid() { // no agent told of it
		if len(tun.Endpoints) == 0 || !d.evidence(d.work, tun).Up {
			return out, false
		}
		out.Endpoint = tun.Endpoints[0]
	}
	if s, ok := d.work.Service(tun.Service); ok && !out.Local.IsValid() {
		if i := slices.IndexFunc(s.VIPs, func(vip netip.Addr) bool { return vip.Is4() == out.Endpoint.Addr().Is4() }); i >= 0 {
			out.Local = s.VIPs[i]
		}
	}
	return out, true
}

// releaseDue orders the releases whose time has come.
func (d *Director) releaseDue() {
	if len(d.releases) == 0 {
		return
	}
	now, orders := d.o.Now(), map[string][]agent.Inherited{}
	d.releases = slices.DeleteFunc(d.releases, func(r release) bool {
		if e, ok := d.o.Agents.Errand(r.to, agent.OrderAdopt, r.tunnel.ID); ok && !e.Final() && now.Before(r.due) {
			return false
		}
		e, ordered := d.o.Agents.Errand(r.from, agent.OrderRelease, r.tunnel.ID)
		if _, ok := d.o.Agents.Agent(r.from); ok && d.movedOff(r) && (!ordered || e.Final()) { // one that is silent is told when it comes back
			orders[r.from] = append(orders[r.from], r.tunnel)
		}
		return true
	})
	for from, tunnels := range orders {
		d.o.Agents.Order(from, agent.OrderRelease, tunnels)
		d.o.Log.Info("release ordered", "real_server", from, "tunnels", len(tunnels))
	}
}

// movedOff tells whether a tunnel is still pinned elsewhere than where it is to be released.
func (d *Director) movedOff(r release) bool {
	tun, ok := d.work.Tunnel(r.tunnel.ID)
	if !ok {
		return true // deleted
	}
	p, _ := d.work.PinOf(tun)
	return d.work.NameAt(d.work.Serving(p)) != r.from
}

// releaseStale has a tunnel given up where it was established before it was established where it is pinned. Such a real
// server, which was cut off perhaps and has come back, would speak to the site as if it still had the tunnel.
func (d *Director) releaseStale(tun *affinity.Tunnel) {
	p, _ := d.work.PinOf(tun)
	serving := d.work.NameAt(d.work.Serving(p))
	list := d.sightings(d.work, tun, false)
	if len(list) < 2 || list[0].RealServer != serving {
		return
	}
	for _, s := range list[1:] {
		a, ok := d.o.Agents.Agent(s.RealServer)
		e, ordered := d.o.Agents.Errand(s.RealServer, agent.OrderRelease, tun.ID)
		if s.RealServer != serving && s.Since.Before(list[0].Since) && ok && a.Connected && (!ordered || e.Final()) {
			d.o.Agents.Order(s.RealServer, agent.OrderRelease, []agent.Inherited{{ID: tun.ID, Peer: s.Peer, Local: s.Local, Endpoint: s.Endpoint, Subnets: s.Subnets}})
			d.o.Log.Info("a stale tunnel is released", "tunnel", tun.ID, "real_server", s.RealServer, "established_at", serving)
		}
	}
}
