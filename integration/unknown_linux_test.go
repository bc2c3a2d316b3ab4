package integration

import (
	"fmt"
	"maps"
	"net/netip"
	"testing"
	"time"

	"tunneldirector/integration/daemon"
	"tunneldirector/integration/lab"
)

// TestUnknownEndpointIsDropped: an address nobody pushed reaches no real server, until it is pushed; a site that roams to
// it then reaches the real server of its tunnel.
func TestUnknownEndpointIsDropped(t *testing.T) {
	t.Parallel()
	r := newRig(t, lab.Options{Sites: 2}, "")
	const n = 20
	s := r.Sites[0]
	roamed := netip.MustParseAddr("203.0.113.200")
	r.must("roam", s.NS.Hold("outer", netip.PrefixFrom(roamed, 24)))
	send := func(from netip.Addr, port uint16) {
		t.Helper()
		r.must("send", s.NS.SendUDP(netip.AddrPortFrom(from, 40000), netip.AddrPortFrom(s.VIP, port), n))
	}
	captures := map[string]*lab.Capture{}
	for _, rs := range r.RealServers {
		c, err := rs.NS.Capture(rs.DR)
		r.must("capture", err)
		defer c.Close()
		captures[rs.Name] = c
	}
	// arrived are datagrams of SendUDP, told by its source port, whose first byte is 0x9c.
	arrived := func() map[string]int {
		at := map[string]int{}
		for name, c := range captures {
			for _, p := range c.Seen() {
				if p.Dst == s.VIP && (p.Src == roamed || p.Src == s.Endpoint) && p.Type == 40000>>8 {
					at[name]++
				}
			}
		}
		return at
	}
	dropped := func(reason string) uint64 { return r.status().Plane.Dropped[reason] }

	for _, tt := range []struct {
		name, reason string
		from         netip.Addr
		port         uint16
	}{
		{"unknown address", "unknown-endpoint", roamed, lab.WireGuardPort},
		{"port of no service", "no-service", s.Endpoint, 9},
	} {
		before := dropped(tt.reason)
		send(tt.from, tt.port)
		if got := dropped(tt.reason) - before; got != n {
			t.Errorf("%s: counted %d packets as %s, want %d", tt.name, got, tt.reason, n)
		}
		if at := arrived(); len(at) > 0 {
			t.Errorf("%s: packets reached %v", tt.name, at)
		}
	}

	tunnel := daemon.Tunnel(s)
	tunnel.Endpoints = append(tunnel.Endpoints, roamed.String())
	a, err := r.d.Client.PutTunnel(r.ctx, tunnel)
	r.must("push the new endpoint", err)
	before := dropped("unknown-endpoint")
	send(roamed, lab.WireGuardPort)
	want := map[string]int{a.Placement.RealServer: n}
	r.until(10*time.Second, "after the push", func() error { return differ(want, arrived()) })
	r.must("push the old endpoint alone", r.d.Push(r.ctx, s))
	send(roamed, lab.WireGuardPort)
	if got := dropped("unknown-endpoint") - before; got != n {
		t.Errorf("an endpoint taken away: counted %d packets, want %d", got, n)
	}
	if err := differ(want, arrived()); err != nil {
		t.Errorf("an endpoint taken away: %v", err)
	}
}

func differ(want, got map[string]int) error {
	if maps.Equal(want, got) {
		return nil
	}
	return fmt.Errorf("packets reached %v, want %v", got, want)
}
