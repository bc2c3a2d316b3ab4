package director

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tunneldirector/affinity"
	"tunneldirector/director/agent"
)

// What an agent says that is old, of somebody else, or a lie does no harm to tunnels that are up.

// upAt is a tunnel as a terminator reports it that has a peer of its own name there.
func upAt(tun *affinity.Tunnel, peer, ep string) agent.Tunnel {
	u := up(tun)
	u.Peer, u.Endpoint = peer, netip.MustParseAddrPort(ep)
	return u
}

// handed are the tunnels of an order that came so far, each with the peer that it is said to be.
func (h *host) handed(kind agent.OrderKind) (words []string) {
	for _, o := range h.got {
		if o.Kind == kind {
			for _, t := range o.Tunnels {
				words = append(words, t.ID+" is "+t.Peer)
			}
		}
	}
	slices.Sort(words)
	return words
}

// The subnets tell who is who; where a terminator does not tell any, at least nobody is handed over as two.
func TestGroupBehindOneAddressIsHandedOver(t *testing.T) {
	for _, c := range []struct {
		name string
		told bool
	}{{"subnets told", true}, {"no subnets told", false}} {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.base(2)
				a, b := site(1), site(2)
				a.Group, b.Group, b.Endpoints = "g", "g", a.Endpoints
				w.must(put(a), put(b))
				w.must(affinity.Repin{By: operator, Group: a.GroupID(), To: "rs1"})
				ua, ub := upAt(a, "a", "203.0.0.1:4500"), upAt(b, "b", "203.0.0.1:4501")
				ua.Since = ub.Since.Add(-time.Second)
				if !c.told {
					ua.Subnets, ub.Subnets = nil, nil
				}
				one, two := w.agentOf("rs1", ua, ub), w.agentOf("rs2")
				w.must(affinity.Repin{By: operator, Group: a.GroupID(), To: "rs2"})
				w.settle()
				adopted, released := two.handed(agent.OrderAdopt), one.handed(agent.OrderRelease)
				if !slices.Equal(adopted, released) {
					t.Errorf("the successor was told %q, and the old real server %q", adopted, released)
				}
				if want := []string{"site-0001 is a", "site-0002 is b"}; c.told && !slices.Equal(adopted, want) {
					t.Errorf("the successor was told %q, wanted %q", adopted, want)
				}
				if n := strings.Count(fmt.Sprint(adopted), "is b"); n != 1 {
					t.Errorf("the successor was told %q: peer b %d times", adopted, n)
				}
			})
		})
	}
}

// The successor had the tunnel once, and has not noticed that it left.
func TestSuccessorWithAStaleTunnelAdopts(t *testing.T) {
	inWorld(t, func(w *world) {
		w.base(2)
		w.pinTo(site(1), "rs1")
		two := w.agentOf("rs2", up(site(1)))
		time.Sleep(time.Minute)
		one := w.agentOf("rs1", up(site(1)))
		time.Sleep(time.Hour)
		_ = one.conn.Close()
		synctest.Wait()
		w.verdict("rs1", false)
		w.settle()
		if got := two.orders(agent.OrderAdopt); !slices.Equal(got, []string{"site-0001"}) {
			t.Errorf("adopted %v; what was established there an hour before passes for the tunnel", got)
		}
	})
}

// The neighbour holds a port of the address that the moved tunnel holds.
func TestMoveReleasesNoNeighbour(t *testing.T) {
	inWorld(t, func(w *world) {
		w.base(2)
		other := site(2)
		other.Endpoints = []affinity.Endpoint{netip.AddrPortFrom(site(1).Endpoints[0].Addr(), 2000)}
		w.pinTo(site(1), "rs1")
		w.pinTo(other, "rs1")
		one, two := w.agentOf("rs1", up(other)), w.agentOf("rs2")
		w.must(affinity.Repin{By: operator, Group: "site-0001", To: "rs2"})
		w.settle()
		if a, r := two.handed(agent.OrderAdopt), one.handed(agent.OrderRelease); len(a)+len(r) > 0 {
			t.Errorf("adopted %q, released %q, though only the neighbour is up, which stays at rs1", a, r)
		}
	})
}

// A real server was told to release a tunnel, did not, and gets the tunnel back.
func TestReleaseIsTakenBack(t *testing.T) {
	inWorld(t, func(w *world) {
		w.base(2)
		w.pinTo(site(1), "rs1")
		one := w.agentOf("rs1", up(site(1)))
		w.agentOf("rs2")
		w.must(affinity.Repin{By: operator, Group: "site-0001", To: "rs2"})
		time.Sleep(releaseAfter + 2*time.Second)
		synctest.Wait()
		if got := one.orders(agent.OrderRelease); len(got) != 1 {
			t.Fatalf("released %v", got)
		}
		_ = one.conn.Close()
		synctest.Wait()
		w.must(affinity.Repin{By: operator, Group: "site-0001", To: "rs1"})
		time.Sleep(20 * time.Second)
		one.got = nil
		one.dial("another instance")
		w.settle()
		if got := one.orders(agent.OrderRelease); len(got) != 0 {
			t.Errorf("told again to release %v, which is pinned to %s", got, w.pinned("site-0001"))
		}
	})
}

// An agent says that it has everybody, so that they are placed there.
func TestDrainedGetsNoPinsByItsAgentsWord(t *testing.T) {
	inWorld(t, func(w *world) {
		w.base(4)
		var all []agent.Tunnel
		for i := range 20 {
			all = append(all, up(site(i+1)))
		}
		w.agentOf("rs3", all...)
		w.must(affinity.SetAdmin{By: operator, Name: "rs3", Admin: affinity.Drained})
		for i := range 20 {
			w.must(put(site(i + 1)))
		}
		if got := w.on("rs3"); got != 0 {
			t.Errorf("%d of 20 new tunnels were placed on a drained real server", got)
		}
	})
}

// The agent that said so has ended; the next one has not looked yet, and then finds that all is well.
func TestNewAgentIsNotHeadlessByTheOldWord(t *testing.T) {
	inWorld(t, func(w *world) {
		w.base(2)
		for i := range 40 {
			w.pinTo(site(i+1), "rs1")
		}
		one := w.agentOf("rs1", up(site(1)))
		w.agentOf("rs2")
		one.status(agent.HealthHeadless, false)
		time.Sleep(10 * time.Second)
		_ = one.conn.Close()
		synctest.Wait()
		time.Sleep(time.Minute)
		one.dial("another instance")
		time.Sleep(900 * time.Millisecond)
		synctest.Wait()
		one.status(agent.HealthWorking, false)
		w.settle()
		if got := w.on("rs1"); got != 40 {
			t.Errorf("%d of 40 tunnels were moved by the word of an agent that has ended", 40-got)
		}
	})
}

// A clock that is set must not end all drains at once. No virtual time: that has no monotonic clock.
func TestDrainDeadlineIsMonotonic(t *testing.T) {
	d := &Director{deadlines: map[string]deadline{}}
	now := time.Now()
	by := now.Add(2 * time.Hour)
	rs := &affinity.RealServer{Name: "rs1", Drain: &affinity.Drain{By: affinity.NewStamp(by, 0)}}
	at := d.deadline(rs, now)
	if at == at.Round(0) {
		t.Errorf("the deadline %v is by the wall clock", at)
	}
	if late := at.Sub(by); late.Abs() > time.Second {
		t.Errorf("the deadline is %v late", late)
	}
	rs.Drain.By = affinity.NewStamp(by.Add(time.Hour), 0)
	if late := d.deadline(rs, now).Sub(by); late < 59*time.Minute {
		t.Errorf("put off by an hour, it is %v later", late)
	}
}
