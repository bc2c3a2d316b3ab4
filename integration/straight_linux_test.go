package integration

import (
	"testing"
	"time"

	"tunneldirector/director/api"
	"tunneldirector/integration/lab"
)

// TestPushToPackets: what was pushed by HTTP carries packets of real tunnels, v4 and v6 outside and inside, ICMP, UDP and
// TCP, both directions by one real server, which is the one that the director names.
func TestPushToPackets(t *testing.T) {
	t.Parallel()
	r := newRig(t, lab.Options{Sites: 4, IPv6: true}, "")
	total := uint64(0)
	for _, s := range r.Sites {
		before := r.counts(s)
		r.carry(s)
		at := r.placed(s)
		for name, c := range r.counts(s) {
			got := c.Sub(before[name])
			if name != at.Name && got != (lab.Counts{}) {
				t.Errorf("%s is at %s, but %s counted %+v", s.Name, at.Name, name, got)
			}
			// 2 families, each 20 pings and 10 datagrams, and TCP: in both directions.
			if name == at.Name && (got.InnerIn < 60 || got.InnerOut < 60 || got.OuterIn < 60 || got.OuterOut < 60) {
				t.Errorf("%s is at %s, which counted %+v, want at least 60 of each", s.Name, name, got)
			}
			total += got.OuterIn
		}
		r.explained(s, at)
	}
	st := r.status()
	if n := len(st.Services); n != 1 || st.Services[0].Traffic.Packets < total {
		t.Errorf("the director counts %+v, want at least %d packets", st.Services, total)
	}
	if st.Plane.SubnetSide.Packets == 0 || !st.Plane.InSync || len(st.Plane.Dropped) == 0 && len(st.Plane.Passed) == 0 {
		t.Errorf("the data plane says %+v", st.Plane)
	}
}

// carry sends pings, datagrams and a stream through a site's tunnel, both ways.
func (r *rig) carry(s *lab.Site) {
	r.Helper()
	for family, inside := range s.Inside {
		target := r.Target.Inner.Addrs[family]
		for _, way := range []struct {
			name     string
			ns       *lab.Namespace
			from, to int
		}{{"site to target", s.NS, 0, 1}, {"target to site", r.Target.Namespace, 1, 0}} {
			ends := [2]lab.Seen{{Src: inside, Dst: target}, {Src: target, Dst: inside}}[way.from]
			echoes, err := r.Ping(r.ctx, way.ns, ends.Src, ends.Dst, 5*time.Millisecond, 10)
			if err != nil || lab.CountLost(echoes) > 0 {
				r.Errorf("%s, %s, ping: %d of %d lost: %v", s.Name, way.name, lab.CountLost(echoes), len(echoes), err)
			}
			if good, err := r.EchoUDP(r.ctx, way.ns, ends.Src, ends.Dst, 5, 1200); err != nil || good != 5 {
				r.Errorf("%s, %s, UDP: %d of 5 datagrams came back: %v", s.Name, way.name, good, err)
			}
			if _, err := r.TransferTCP(r.ctx, way.ns, ends.Src, ends.Dst, 200_000); err != nil {
				r.Errorf("%s, %s, TCP: %v", s.Name, way.name, err)
			}
		}
	}
}

// explained insists that the director explains both directions as they are.
func (r *rig) explained(s *lab.Site, at *lab.RealServer) {
	r.Helper()
	questions := []api.Question{{Src: s.Endpoint.String(), Dst: s.VIP.String(), Proto: "udp", SrcPort: 40000, DstPort: lab.WireGuardPort}}
	for family, inside := range s.Inside {
		questions = append(questions, api.Question{Src: r.Target.Inner.Addrs[family].String(), Dst: inside.String()})
	}
	for _, q := range questions {
		e, err := r.d.Client.Lookup(r.ctx, q)
		r.must("look up", err)
		if !e.Agrees || e.Action != "forward" || e.RealServer != at.Name || e.Tunnel != s.Name || len(e.Words) == 0 {
			r.Errorf("%+v: explained as %+v, want %s at %s", q, e, s.Name, at.Name)
		}
	}
}
