package director

import (
	"context"
	"errors"
	"iter"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tunneldirector/affinity"
	"tunneldirector/director/agent"
	"tunneldirector/director/plane"
)

func TestOldWordOfARestartedAgentIsNoEvidence(t *testing.T) {
	inWorld(t, func(w *world) {
		w.base(2)
		w.pinTo(site(1), "rs1")
		one := w.agentOf("rs1", up(site(1)))
		_ = one.conn.Close()
		synctest.Wait()
		one.dial("after the host's reboot") // its terminator is not asked yet: it reports nothing
		time.Sleep(2 * upWindow)
		tun, _ := w.d.Table().Tunnel("site-0001")
		if e := w.d.evidence(w.d.Table(), tun); e.Up {
			t.Errorf("up by the word of an agent that ended %v ago: %+v", 2*upWindow, e)
		}
	})
}

func TestQuietAgentThatFallsSilentIsEvidence(t *testing.T) {
	inWorld(t, func(w *world) {
		w.base(2)
		w.pinTo(site(1), "rs1")
		one := w.agentOf("rs1", up(site(1)))
		time.Sleep(10 * time.Minute)
		_ = one.conn.Close()
		synctest.Wait()
		tun, _ := w.d.Table().Tunnel("site-0001")
		if e := w.d.evidence(w.d.Table(), tun); !e.Up {
			t.Error("not up the moment its agent fell silent")
		}
	})
}

func TestNeighbourBehindOneAddress(t *testing.T) {
	inWorld(t, func(w *world) {
		w.base(2)
		w.pinTo(site(1), "rs1") // holds the whole address
		other := site(2)
		other.Endpoints = []affinity.Endpoint{netip.AddrPortFrom(site(1).Endpoints[0].Addr(), 4501)}
		w.pinTo(other, "rs2") // holds a port of it
		x := up(other)
		two := w.agentOf("rs2", x)
		time.Sleep(time.Second)
		mine := up(site(1))
		mine.Endpoint = netip.AddrPortFrom(mine.Endpoint.Addr(), 4500)
		w.agentOf("rs1", mine)
		time.Sleep(time.Second)
		synctest.Wait()
		if got := two.got; len(got) != 0 {
			t.Errorf("the neighbour's real server was told: %+v", got)
		}
	})
}

func TestStaleSightingDoesNotSendHome(t *testing.T) {
	inWorld(t, func(w *world) {
		w.base(2)
		w.pinTo(site(1), "rs1")
		one, two := w.agentOf("rs1", up(site(1))), w.agentOf("rs2")
		_ = one.conn.Close()
		synctest.Wait()
		w.verdict("rs1", false)
		w.settle()
		time.Sleep(time.Second)
		two.change([]agent.Tunnel{up(site(1))})
		away := up(site(1))
		away.Endpoint = netip.MustParseAddrPort("203.0.9.9:0")
		two.change([]agent.Tunnel{away})
		tun, _ := w.d.Table().Tunnel("site-0001")
		if len(tun.Roamed) != 1 {
			t.Fatalf("not followed: %+v", tun)
		}
		one.dial("instance of rs1")
		synctest.Wait()
		tun, _ = w.d.Table().Tunnel("site-0001")
		if len(tun.Roamed) != 1 {
			t.Errorf("the stale word of rs1 made it forget where the tunnel is: %+v", tun.Roamed)
		}
		time.Sleep(time.Second)
		if r := one.orders(agent.OrderRelease); len(r) != 1 {
			t.Errorf("released at rs1: %v", r)
		}
	})
}

func TestEndedTunnelIsNotAdopted(t *testing.T) {
	inWorld(t, func(w *world) {
		w.base(2)
		w.pinTo(site(1), "rs1")
		one, two := w.agentOf("rs1", up(site(1))), w.agentOf("rs2")
		one.change(nil, up(site(1)).Peer)
		time.Sleep(10 * time.Minute)
		w.must(affinity.Repin{By: operator, Group: "site-0001", To: "rs2"})
		synctest.Wait()
		if got := two.orders(agent.OrderAdopt); len(got) != 0 {
			t.Errorf("adopt of what ended 10 minutes ago: %v", got)
		}
	})
}

func TestSecondDeath(t *testing.T) {
	inWorld(t, func(w *world) {
		w.base(3)
		w.pinTo(site(1), "rs1")
		seen := up(site(1))
		seen.Endpoint = netip.AddrPortFrom(seen.Endpoint.Addr(), 4501)
		hosts := map[string]*host{"rs1": w.agentOf("rs1", seen), "rs2": w.agentOf("rs2"), "rs3": w.agentOf("rs3")}
		w.verdict("rs1", false)
		w.settle()
		second := w.pinned("site-0001")
		w.verdict(second, false)
		w.settle()
		third := w.pinned("site-0001")
		h := hosts[third]
		if len(h.orders(agent.OrderAdopt)) != 1 || h.got[0].Tunnels[0].Peer != seen.Peer || h.got[0].Tunnels[0].Endpoint != seen.Endpoint {
			t.Errorf("%s then %s; told %+v", second, third, h.got)
		}
	})
}

func TestComesBackBeforeAnyoneElse(t *testing.T) {
	inWorld(t, func(w *world) {
		w.base(1)
		w.pinTo(site(1), "rs1")
		one := w.agentOf("rs1", up(site(1)))
		one.change(nil, up(site(1)).Peer) // its terminator crashed
		w.verdict("rs1", false)
		w.settle()
		w.verdict("rs1", true)
		w.settle()
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if got := one.orders(agent.OrderAdopt); !slices.Equal(got, []string{"site-0001"}) {
			t.Errorf("pinned %q, adopted %v", w.pinned("site-0001"), got)
		}
	})
}

func TestReleaseFailedIsTriedAgain(t *testing.T) {
	inWorld(t, func(w *world) {
		w.base(2)
		w.pinTo(site(1), "rs1")
		one, two := w.agentOf("rs1", up(site(1))), w.agentOf("rs2")
		w.must(affinity.Repin{By: operator, Group: "site-0001", To: "rs2"})
		time.Sleep(releaseAfter + 2*time.Second)
		synctest.Wait()
		one.send(agent.Message{Progress: &agent.Progress{RealServer: "rs1", Kind: agent.OrderRelease, Tunnels: []agent.Step{{ID: "site-0001", Outcome: agent.OutcomeDone}}}})
		one.change(nil, up(site(1)).Peer)
		back := up(site(1)) // dialled meanwhile by a path of its own
		one.change([]agent.Tunnel{back})
		time.Sleep(time.Second)
		two.change([]agent.Tunnel{up(site(1))})
		time.Sleep(time.Second)
		synctest.Wait()
		if got := one.orders(agent.OrderRelease); len(got) != 2 {
			t.Errorf("released %v", got)
		}
	})
}

func TestStuckIsForgotten(t *testing.T) {
	inWorld(t, func(w *world) {
		w.base(1)
		w.pinTo(site(1), "rs1")
		w.must(affinity.SetAdmin{By: operator, Name: "rs1", Admin: affinity.Drained, Drain: &affinity.Drain{Milli: 2000}})
		time.Sleep(5 * time.Second)
		w.must(affinity.DeleteTunnel{By: operator, ID: "site-0001"})
		time.Sleep(5 * time.Second)
		synctest.Wait()
		st, _ := w.d.View().Status(t.Context())
		if d := st.RealServers[0].Drain; d != nil && d.Stuck != "" {
			t.Errorf("%d left, stuck: %s; alarms %q", d.Left, d.Stuck, st.Alarms)
		}
	})
}

func TestRemovedRealServerIsForgotten(t *testing.T) {
	inWorld(t, func(w *world) {
		w.base(2)
		two := w.agentOf("rs2", up(site(1)))
		_ = two.conn.Close()
		synctest.Wait()
		w.verdict("rs2", false)
		w.must(affinity.DeleteRealServer{By: operator, Name: "rs2"})
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if a, ok := w.agents.Agent("rs2"); ok {
			t.Errorf("still known: %+v", a)
		}
	})
}

func TestHeadlessByAnOldWord(t *testing.T) {
	inWorld(t, func(w *world) {
		w.base(2)
		for i := range 40 {
			w.pinTo(site(i+1), "rs1")
		}
		one := w.agentOf("rs1", up(site(1)))
		w.agentOf("rs2")
		one.status(agent.HealthHeadless, false)
		time.Sleep(time.Second)
		_ = one.conn.Close()
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if got := w.on("rs1"); got != 40 {
			t.Errorf("%d of 40 were moved by the word of an agent that is silent for 2 minutes", 40-got)
		}
	})
}

// refusing is a plane that refuses while a test says so.
type refusing struct {
	plane.Plane
	off atomic.Bool
}

func (r *refusing) Apply(ctx context.Context, u plane.Update) error {
	if r.off.Load() {
		return errors.New("no")
	}
	return r.Plane.Apply(ctx, u)
}

func (r *refusing) Replace(ctx context.Context, c plane.Config, e iter.Seq[plane.Entry]) error {
	if r.off.Load() {
		return errors.New("no")
	}
	return r.Plane.Replace(ctx, c, e)
}

// A successor is not told before its packets come to it.
func TestAdoptWaitsForThePlane(t *testing.T) {
	inWorld(t, func(w *world) {
		r := &refusing{Plane: w.plane}
		w.over = r
		w.restart(false)
		w.base(2)
		w.pinTo(site(1), "rs1")
		w.agentOf("rs1", up(site(1)))
		two := w.agentOf("rs2")
		r.off.Store(true)
		w.must(affinity.Repin{By: operator, Group: "site-0001", To: "rs2"})
		time.Sleep(5 * time.Second)
		if got := two.orders(agent.OrderAdopt); len(got) != 0 {
			t.Errorf("adopt of %v was ordered while the plane refuses", got)
		}
		r.off.Store(false)
		time.Sleep(2 * replaceRest)
		synctest.Wait()
		if got := two.orders(agent.OrderAdopt); !slices.Equal(got, []string{"site-0001"}) {
			t.Errorf("adopt of %v was ordered when the plane had it", got)
		}
	})
}
