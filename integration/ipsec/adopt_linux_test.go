package ipsec

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tunneldirector/director/agent"
	"tunneldirector/integration/lab"
)

// settings are what the times depend on.
var settings = fmt.Sprintf("(strongSwan; site: DPD %s, gives up after %s more, close_action=start)", siteLiveness, retransmits.Patience())

// identities are what sites and the virtual IP prove who they are by.
var identities = []struct{ name, secret string }{{"secret", "not much of one"}, {"certificates", ""}}

// inherit is what a director orders of a successor.
func inherit(s *lab.Site, t agent.Tunnel) agent.Inherited {
	return agent.Inherited{ID: "order-" + s.Name, Peer: t.Peer, Local: t.Local, Endpoint: t.Endpoint, Subnets: t.Subnets}
}

// TestAdopt: the host of a real server dies with all it has. Its successor begins the tunnels itself, with sites whose
// configuration is none but a site's, in front of a NAT box and behind it. They stay through new keys, and the successor's
// configuration is what it was.
func TestAdopt(t *testing.T) {
	for _, identity := range identities {
		t.Run(identity.name, func(t *testing.T) {
			r := newRig(t, lab.Options{Sites: 3, BehindNAT: 1, IPv6: inGuest()}, identity.secret)
			orders := r.establishAt(r.RealServers[0])
			second := r.RealServers[1]
			before := r.connections(second)
			r.must("kill", r.KillRealServer(1))
			r.pin(second)
			for _, s := range r.Sites {
				began := time.Now()
				p := r.ping(s)
				r.must("adopt", r.drivers[second].Adopt(r.Context(), orders[s]))
				called := time.Since(began)
				r.flows(s, p, 30*time.Second)
				t.Logf("MEASURED adopted-to-first-packet %.3f s %s %s by %s; the call took %.3f s", time.Since(began).Seconds(), settings, s.Name, identity.name, called.Seconds())
				if told := r.up(second, s, 10*time.Second); told.Peer != orders[s].Peer || told.Endpoint != orders[s].Endpoint {
					t.Errorf("the tunnel is %v, it was %v", told, orders[s])
				}
			}
			if diff := cmp.Diff(before, r.connections(second)); diff != "" {
				t.Errorf("connections of the successor (-before +after):\n%s", diff)
			}
			r.renew(second)
			for _, s := range r.Sites {
				r.flows(s, r.ping(s), 10*time.Second)
			}
		})
	}
}

// TestWait is the same with nobody who adopts: the site has to find out.
func TestWait(t *testing.T) {
	r := newRig(t, lab.Options{Sites: 3, BehindNAT: 1, IPv6: inGuest()}, identities[0].secret)
	r.establishAt(r.RealServers[0])
	began := time.Now()
	r.must("kill", r.KillRealServer(1))
	r.pin(r.RealServers[1])
	pings := map[*lab.Site]*lab.Pinger{}
	for _, s := range r.Sites {
		pings[s] = r.ping(s)
	}
	for _, s := range r.Sites {
		r.flows(s, pings[s], time.Minute)
		t.Logf("MEASURED waited-to-first-packet %.3f s %s %s", time.Since(began).Seconds(), settings, s.Name)
	}
}

// TestRelease: the real server that gives a tunnel up tells the site, which calls again and comes to where the pin leads now.
// The other tunnels stay.
func TestRelease(t *testing.T) {
	r := newRig(t, lab.Options{Sites: 2, IPv6: inGuest()}, identities[0].secret)
	first, second := r.RealServers[0], r.RealServers[1]
	orders := r.establishAt(first)
	began := time.Now()
	r.pin(second)
	p := r.ping(r.Sites[0])
	r.must("release", r.drivers[first].Release(r.Context(), orders[r.Sites[0]]))
	r.flows(r.Sites[0], p, 30*time.Second)
	t.Logf("MEASURED released-to-first-packet %.3f s %s", time.Since(began).Seconds(), settings)
	r.has(first, orders[r.Sites[1]].Peer)
}

// TestAdoptMoved: a tunnel that moves while both real servers live: adopted by the one, then released by the other.
func TestAdoptMoved(t *testing.T) {
	r := newRig(t, lab.Options{Sites: 2, BehindNAT: 1, IPv6: inGuest()}, identities[0].secret)
	first, second := r.RealServers[0], r.RealServers[1]
	orders := r.establishAt(first)
	const often = 10 * time.Millisecond
	for _, s := range r.Sites {
		r.pin(second)
		ctx, cancel := context.WithCancel(t.Context())
		p, err := r.StartPing(ctx, r.Target.Namespace, r.target(s), s.Inside[0], often, 0)
		r.must("ping", err)
		r.must("adopt", r.drivers[second].Adopt(t.Context(), orders[s]))
		r.flows(s, p, 30*time.Second)
		r.must("release", r.drivers[first].Release(t.Context(), orders[s]))
		// The site hears of two tunnels and keeps the newer.
		r.rest(2 * time.Second)
		r.up(second, s, 10*time.Second)
		cancel()
		echoes, err := p.Stop()
		r.must("ping", err)
		echoes = echoes[slices.IndexFunc(echoes, func(e lab.Echo) bool { return !e.Lost() }):] // from when it was adopted on
		gap := lab.Outage(echoes, often)
		t.Logf("MEASURED moved-longest-gap %.3f s %s %s", gap.Seconds(), settings, s.Name)
		if gap > 5*time.Second {
			t.Errorf("%s had a gap of %s", s.Name, gap)
		}
	}
	r.has(first)
}
