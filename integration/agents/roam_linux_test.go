package agents

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"tunneldirector/director/api"
	"tunneldirector/integration/daemon"
	"tunneldirector/integration/lab"
)

// hashing is WireGuard, whose unknown sites are spread.
type hashing struct{ wireGuard }

func (h hashing) service() daemon.VirtualService {
	s := h.wireGuard.service()
	s.Unknown = "hash"
	return s
}

// TestRoaming: a site that changes its port, and then its address, keeps its tunnel, and what is done with it later goes to where
// the site is.
func TestRoaming(t *testing.T) {
	t.Parallel()
	r := newRig(t, hashing{}, lab.Options{Sites: 2, RealServers: 2})
	s := r.Sites[0]
	at := r.placed(s)

	f := r.flow(s)
	r.must("roam", s.Roam(netip.AddrPortFrom(s.Local, 40001)))
	r.until(30*time.Second, "see the new port", func() error { return r.seenFrom(s, at, s.Local.String()+":40001") })
	r.rest(300 * time.Millisecond)
	f.measure("roam-port", time.Second)

	there := r.hashedTo(at)
	f = r.flow(s)
	r.must("roam", s.Roam(netip.AddrPortFrom(there, 40002)))
	r.until(30*time.Second, "follow it", func() error {
		state, err := r.d.Client.Tunnel(r.ctx, s.Name)
		if err == nil && (len(state.Roamed) != 1 || state.Roamed[0] != there.String()) {
			err = fmt.Errorf("it roamed to %q", state.Roamed)
		}
		return err
	})
	f.measure("roam-address", time.Second)

	to := r.other(s)
	f = r.flow(s)
	r.repin(s, to)
	r.until(30*time.Second, "see it at "+to.Name, func() error { return r.seenFrom(s, to, there.String()+":40002") })
	r.rest(300 * time.Millisecond)
	f.measure("repin-after-roam", 3*time.Second)
}

// TestRoamingElsewhere: a site whose new address unknown endpoints' packets from which go to another real server is established
// there, and fetched back: its subnets, and its pin, are where they were.
func TestRoamingElsewhere(t *testing.T) {
	t.Parallel()
	r := newRig(t, hashing{}, lab.Options{Sites: 2, RealServers: 2})
	s := r.Sites[1]
	at := r.placed(s)
	there := r.hashedTo(r.other(s))
	f := r.flow(s)
	r.must("roam", s.Roam(netip.AddrPortFrom(there, 40002)))
	r.until(60*time.Second, "see it at "+at.Name+" again", func() error { return r.seenFrom(s, at, there.String()+":40002") })
	r.rest(time.Second)
	f.measure("roam-elsewhere", 65*time.Second)
	if got := r.placed(s); got != at {
		t.Errorf("it moved to %s", got.Name)
	}
}

// seenFrom is an error unless a site's tunnel is seen at a real server, from an address, and is right there.
func (r *rig) seenFrom(s *lab.Site, rs *lab.RealServer, endpoint string) error {
	list, err := r.d.Client.Seen(r.ctx, api.SeenFilter{States: []string{api.SeenRight, api.SeenWrong, api.SeenUnknown}, Limit: 1000})
	if err != nil {
		return err
	}
	for _, x := range list.Seen {
		if x.Tunnel == s.Name && x.At == rs.Name && x.Endpoint == endpoint && x.State == api.SeenRight {
			return nil
		}
	}
	return fmt.Errorf("agents see %+v", list.Seen)
}

// hashedTo is an address of the sites' network that nobody has, and from which packets come to a real server.
func (r *rig) hashedTo(rs *lab.RealServer) netip.Addr {
	r.Helper()
	for a := netip.MustParseAddr("203.0.113.200"); a != netip.MustParseAddr("203.0.113.250"); a = a.Next() {
		e, err := r.d.Client.Lookup(r.ctx, api.Question{Src: a.String(), Dst: lab.VIP4.String(), Proto: "udp", SrcPort: 40002, DstPort: lab.WireGuardPort})
		r.must("look up", err)
		if e.RealServer == rs.Name {
			return a
		}
	}
	r.Fatalf("no address leads to %s", rs.Name)
	return netip.Addr{}
}
