package director

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"tunneldirector/affinity"
	"tunneldirector/director/agent"
	"tunneldirector/director/api"
	"tunneldirector/director/plane"
	"tunneldirector/director/plane/mem"
)

// guided is a plane that keeps MAC addresses for itself.
type guided struct {
	*mem.Plane
	way plane.Way
}

func (g *guided) Way(affinity.Index, bool) (plane.Way, error) { return g.way, nil }

// explain asks what becomes of an ESP packet of a site.
func (w *world) explain(n int, from string) api.Explanation {
	w.t.Helper()
	e, err := w.d.View().Explain(w.t.Context(), api.Question{Src: site(n).Endpoints[0].Addr().String(), Dst: "192.0.2.10", Proto: "esp", SrcMAC: from})
	if err != nil {
		w.t.Fatal(err)
	}
	return e
}

func saying(t *testing.T, e api.Explanation, words ...string) {
	t.Helper()
	all := strings.Join(e.Words, "\n")
	for _, w := range words {
		if !strings.Contains(all, w) {
			t.Errorf("does not say %q:\n%s", w, all)
		}
	}
}

// Where packets leave for is told as the kernel, the plane and the wire have it, and where these differ.
func TestExplainNextHop(t *testing.T) {
	inWorld(t, func(w *world) {
		w.base(2)
		w.must(put(site(1)))
		saying(t, w.explain(1, ""), "is not known here: nobody looks at this machine's neighbours")

		good, bad := net.HardwareAddr{2, 0, 0, 0, 0, 1}, net.HardwareAddr{2, 0, 0, 0, 0, 0xbd}
		g := &guided{Plane: w.plane, way: plane.Way{Known: true, Interface: "rs", MAC: good}}
		w.stop()
		w.over = g
		w.start()
		hop := api.NextHop{Interface: "rs", MAC: good.String(), State: "reachable", WireMAC: good.String()}
		w.d.o.NextHop = func(_ string, a netip.Addr) api.NextHop { h := hop; h.Via = a.String(); return h }
		e := w.explain(1, "")
		saying(t, e, "it leaves by rs to MAC address "+good.String())
		if !e.Agrees || len(e.NextHops) != 1 || e.NextHops[0].PlaneMAC != good.String() || e.NextHops[0].RealServer != e.RealServer {
			t.Errorf("%+v", e)
		}
		for _, tt := range []struct {
			name, words string
			agrees      bool
			change      func()
		}{
			{"the plane has another than the kernel", "the kernel has another MAC address for it: " + good.String(), false, func() { g.way.MAC, hop.WireMAC = bad, "" }},
			{"the wire has another", "WRONG MAC: on the wire", false, func() { hop.MAC, g.way.MAC = bad.String(), bad }},
			{"by hand", "by hand (reachable)", true, func() { hop.Static = true }},
			{"the plane has none", "the data plane knows no MAC address", true, func() { g.way.Known = false }},
		} {
			way, was := g.way, hop
			tt.change()
			e := w.explain(1, "")
			saying(t, e, tt.words)
			if e.Agrees != tt.agrees {
				t.Errorf("%s: agrees %t", tt.name, e.Agrees)
			}
			g.way, hop = way, was
		}
	})
}

// A packet that the real server itself sent is a loop, by its name or by its MAC address.
func TestExplainLoop(t *testing.T) {
	inWorld(t, func(w *world) {
		w.base(2)
		w.must(put(site(1)))
		to := w.explain(1, "").RealServer
		w.d.o.NextHop = func(rs string, a netip.Addr) api.NextHop {
			return api.NextHop{Via: a.String(), MAC: map[string]string{"rs1": "02:00:00:00:00:01", "rs2": "02:00:00:00:00:02"}[rs]}
		}
		mac := map[string]string{"rs1": "02:00:00:00:00:01", "rs2": "02:00:00:00:00:02"}[to]
		for _, from := range []string{to, mac} {
			e := w.explain(1, from)
			if e.Action != "drop" || e.Reason != "loop" {
				t.Errorf("from %s: %+v", from, e)
			}
			saying(t, e, "it comes from real server "+to, "sending it there again would be a loop")
		}
		if e := w.explain(1, "02:00:00:00:00:99"); e.Action != "forward" {
			t.Errorf("somebody else's packet: %+v", e)
		}
		if _, err := w.d.View().Explain(t.Context(), api.Question{Src: "203.0.0.1", Dst: "192.0.2.10", Proto: "esp", SrcMAC: "no one"}); err == nil {
			t.Error("a packet of no one")
		}
	})
}

// What agents say is told beside what is decided.
func TestExplainAgents(t *testing.T) {
	inWorld(t, func(w *world) {
		w.base(2)
		w.must(put(site(1)))
		to := w.explain(1, "").RealServer
		other := map[string]string{"rs1": "rs2", "rs2": "rs1"}[to]
		e := w.explain(1, "")
		saying(t, e, "no agent sees tunnel site-0001 established", "if "+to+" died now: "+other)
		h := w.agentOf(to, agent.Tunnel{Peer: "one", Local: netip.MustParseAddr("192.0.2.10"), Endpoint: site(1).Endpoints[0], Since: time.Now()})
		h.send(agent.Message{Status: &agent.Status{RealServer: to, Health: agent.HealthWorking, Cause: "it answers", Since: time.Now(),
			Found: []agent.Finding{{ID: "rp-filter", What: "strict", Causes: "dropped", Remedy: "loosen it", Severity: "breaks"}}}})
		w.beat()
		e = w.explain(1, "")
		saying(t, e, "agent of "+to+": terminator", "is working: it answers", "the agent of "+to+" sees it established since", "the agent finds on "+to+": strict; dropped; mend: loosen it")
		if len(e.Established) != 1 || e.Established[0].State != api.SeenRight || e.Agent == "" {
			t.Errorf("%+v", e)
		}
		w.verdict(to, false)
		e = w.explain(1, "")
		saying(t, e, "yet its data path is dead: test", "the agent of "+to+" sees it established since")
		if e.RealServer != other {
			t.Errorf("%+v", e)
		}
	})
}

// compared is a plane whose kernel holds something else than it was told.
type compared struct {
	*mem.Plane
	have plane.Difference
	slow bool
}

func (c *compared) Compare(ctx context.Context, p plane.Packet, f func(plane.Difference)) error {
	if c.slow {
		<-ctx.Done()
		return ctx.Err()
	}
	c.have.Key = p.Src.String()
	f(c.have)
	return nil
}

// A stale entry in the kernel's table is told where its packet is asked for.
func TestExplainStaleEntry(t *testing.T) {
	inWorld(t, func(w *world) {
		w.base(2)
		w.must(put(site(1)))
		c := &compared{Plane: w.plane, have: plane.Difference{Want: "rs1", Have: "rs9"}}
		w.stop()
		w.over = c
		w.start()
		e := w.explain(1, "")
		saying(t, e, "STALE: the kernel has for 203.0.0.1: rs9; it should have: rs1")
		if e.Agrees {
			t.Error("it agrees")
		}
		c.slow = true
		e = w.explain(1, "")
		saying(t, e, "is not known: context deadline exceeded; director audit")
		if !e.Agrees {
			t.Error("what is not known is no difference")
		}
	})
}
