package probe

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"tunneldirector/affinity"
)

func TestSnapshot(t *testing.T) {
	play(t, affinity.Check{Proto: 17, Port: wireguard}, func(s *stage, p *Prober) {
		from := time.Now()
		check := func(what string, want ...State) {
			t.Helper()
			got := p.Snapshot()
			for i := range got {
				if one, ok := p.StateOf(got[i].Name); !ok || one != got[i] {
					t.Errorf("%s: alone %v %+v, among all %+v", what, ok, one, got[i])
				}
				if got[i].Since.Before(from) || got[i].Since.After(time.Now()) {
					t.Errorf("%s: since %v", what, got[i].Since)
				}
				got[i].Since = time.Time{}
			}
			if d := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); d != "" {
				t.Errorf("%s: %s", what, d)
			}
		}
		if _, ok := p.StateOf("nobody"); ok {
			t.Error("nobody has a state")
		}
		time.Sleep(time.Second)
		hops := [2]Hop{{rs4, [6]byte(rs)}} // who answered last is known, whether it answers still or not
		check("at first", State{Index: 7, Name: "rs1", Cause: "udp to 198.51.100.1:51820: it is not known yet whether the port is closed", Hops: hops})
		expect(t, p, true, 3*time.Second, "ARP")
		up := State{Index: 7, Name: "rs1", Known: true, Alive: true, RTT: time.Millisecond, Cause: "ARP for 192.0.2.11 answered", Hops: hops}
		check("alive", up)

		from = p.Snapshot()[0].Since
		s.now(func() { s.arp = false })
		time.Sleep(400 * time.Millisecond)
		up.Cause = "no answer to ARP for 192.0.2.11 on rs0"
		check("in trouble, still alive", up)
		if at := p.Snapshot()[0].Since; !at.Equal(from) {
			t.Errorf("since %v though the verdict is that of %v", at, from)
		}
		expect(t, p, false, time.Second, "no answer")
		down := up
		down.Alive = false
		check("dead", down)
		if at := p.Snapshot()[0].Since; !at.After(from) {
			t.Errorf("dead since %v, alive since %v", at, from)
		}

		from = time.Now()
		p.Set([]Target{{Index: 8, Name: "rs2", Addrs: []netip.Addr{rs4}}, {Index: 9, Name: "rs3"}})
		time.Sleep(time.Millisecond)
		check("before the first round", State{Index: 8, Name: "rs2", Cause: notAsked}, State{Index: 9, Name: "rs3", Cause: notAsked})
		for range 2 {
			<-p.Events()
		}
		check("never alive", State{Index: 8, Name: "rs2", Known: true, Cause: "no answer to ARP for 192.0.2.11 on rs0", Hops: hops},
			State{Index: 9, Name: "rs3", Known: true, Cause: "nothing to ask: the real server has no address"})
		s.now(func() { s.arp, s.sendErr = true, errBusy })
		time.Sleep(time.Second)
		if c := p.Snapshot()[0].Cause; c != "not asked: no room to send" {
			t.Errorf("cause %q while nothing can be sent", c)
		}
	})
}
