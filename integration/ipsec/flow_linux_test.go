package ipsec

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/strongswan/govici/vici"

	"tunneldirector/director/agent"
	"tunneldirector/integration/guest/strongswan"
	"tunneldirector/integration/lab"
)

// packets are what sites want for packets: two of them with perfect forward secrecy.
var packets = []string{"aes128gcm16", "aes128gcm16-x25519", "aes256-sha256-modp2048"}

// establishAt lets all sites call a real server, and gives the orders for another one.
func (r *rig) establishAt(rs *lab.RealServer) map[*lab.Site]agent.Inherited {
	r.Helper()
	r.pin(rs)
	orders := map[*lab.Site]agent.Inherited{}
	for _, s := range r.Sites {
		r.call(s, packets[(s.Index-1)%len(packets)])
	}
	for _, s := range r.Sites {
		told := r.up(rs, s, 30*time.Second)
		behind := s.Local != s.Endpoint
		if told.Endpoint.Addr() != s.Endpoint || told.Local != s.VIP || !slices.Equal(told.Subnets, s.Subnets) || (told.Endpoint.Port() == 0) != (inGuest() && !behind) {
			r.Errorf("%s at %s is told of as %+v", s.Name, s.Endpoint, told)
		}
		orders[s] = inherit(s, told)
	}
	return orders
}

// up waits until a real server's driver tells of a site's tunnel.
func (r *rig) up(rs *lab.RealServer, s *lab.Site, d time.Duration) agent.Tunnel {
	r.Helper()
	var found agent.Tunnel
	r.until(d, "wait for "+s.Name+" at "+rs.Name, func() error {
		all, err := r.drivers[rs].Tunnels(r.Context())
		if err != nil {
			return err
		}
		i := slices.IndexFunc(all, func(t agent.Tunnel) bool { return strings.HasSuffix(t.Peer, " "+s.Name) })
		if i < 0 {
			return fmt.Errorf("it tells of %v", all)
		}
		found = all[i]
		return nil
	})
	return found
}

// has waits until a real server's driver tells of the tunnels of these peers alone.
func (r *rig) has(rs *lab.RealServer, peers ...string) {
	r.Helper()
	r.until(10*time.Second, "look at what "+rs.Name+" has", func() error {
		all, err := r.drivers[rs].Tunnels(r.Context())
		if err != nil {
			return err
		}
		if !slices.EqualFunc(all, peers, func(t agent.Tunnel, peer string) bool { return t.Peer == peer }) {
			return fmt.Errorf("it tells of %v, want %q alone", all, peers)
		}
		return nil
	})
}

// ping begins to send from the target into a site's tunnel, until the test's end.
func (r *rig) ping(s *lab.Site) *lab.Pinger {
	r.Helper()
	ctx, cancel := context.WithCancel(r.Context())
	p, err := r.StartPing(ctx, r.Target.Namespace, r.target(s), s.Inside[0], 20*time.Millisecond, 0)
	r.must("ping", err)
	r.Cleanup(func() {
		cancel()
		_, _ = p.Stop()
	})
	return p
}

// flows waits for an answer.
func (r *rig) flows(s *lab.Site, p *lab.Pinger, d time.Duration) {
	r.Helper()
	r.until(d, "wait for a packet of "+s.Name, func() error {
		if p.Received() == 0 {
			return fmt.Errorf("%d were sent", p.Sent())
		}
		return nil
	})
}

// target is the target's address in the family of a site's first inside address.
func (r *rig) target(s *lab.Site) netip.Addr {
	i := slices.IndexFunc(r.Target.Inner.Addrs, func(a netip.Addr) bool { return a.Is4() == s.Inside[0].Is4() })
	return r.Target.Inner.Addrs[i]
}

// renew has new keys made of all that a real server's tunnels have: asked for by site and by real server.
func (r *rig) renew(rs *lab.RealServer) {
	r.Helper()
	for _, s := range r.Sites {
		site, server := r.sites[s], r.servers[rs]
		for _, step := range []struct {
			who   *strongswan.Daemon
			rekey func(*strongswan.Daemon, strongswan.SA) error
		}{{site, (*strongswan.Daemon).RekeyChild}, {server, (*strongswan.Daemon).RekeyChild}, {site, (*strongswan.Daemon).RekeyIKE}, {server, (*strongswan.Daemon).RekeyIKE}} {
			at := func() (sa strongswan.SA, err error) {
				all, err := step.who.SAs()
				i := slices.IndexFunc(all, func(sa strongswan.SA) bool { return sa.Peer == s.Name || step.who == site })
				if err == nil && i < 0 {
					err = fmt.Errorf("no tunnel of %s", s.Name)
				}
				if err == nil {
					sa = all[i]
				}
				return sa, err
			}
			var old strongswan.SA
			r.until(30*time.Second, "ask for the tunnel of "+s.Name, func() (err error) { old, err = at(); return err })
			r.must("rekey", step.rekey(step.who, old))
			r.until(30*time.Second, "new keys for "+s.Name, func() error {
				sa, err := at()
				if err == nil && sa.SPI == old.SPI && sa.Number == old.Number {
					err = fmt.Errorf("it has %+v, it had %+v", sa, old)
				}
				return err
			})
		}
	}
}

// connections are what a real server's charon has loaded.
func (r *rig) connections(rs *lab.RealServer) []string {
	r.Helper()
	s, err := vici.NewSession(vici.WithAddr("unix", r.servers[rs].Socket()))
	r.must("dial", err)
	defer s.Close()
	all, err := s.StreamedCommandRequest("list-conns", "list-conn", nil)
	r.must("list connections", err)
	var out []string
	for _, m := range all {
		out = append(out, lines("", m)...)
	}
	return out
}

// lines are a message's values with their paths.
func lines(path string, m *vici.Message) []string {
	var out []string
	for _, key := range m.Keys() {
		if inner, ok := m.Get(key).(*vici.Message); ok {
			out = append(out, lines(path+key+".", inner)...)
		} else {
			out = append(out, fmt.Sprint(path, key, " ", m.Get(key)))
		}
	}
	return out
}

// warmUp makes the guest's kernel load what IPsec takes: it does so at the first SA, for seconds.
func (r *rig) warmUp() {
	r.Helper()
	if !inGuest() {
		return
	}
	r.must("load IPsec", r.Router.Run(func() error { return strongswan.WarmUp(r.VIPs) }))
}

// rest lets packets flow for a while: the wires have no virtual time.
func (r *rig) rest(d time.Duration) {
	select {
	case <-time.After(d):
	case <-r.Context().Done():
	}
}
