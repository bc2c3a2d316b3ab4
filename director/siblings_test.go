package director

import (
	"fmt"
	"testing"
	"time"

	"tunneldirector/affinity"
	"tunneldirector/director/agent"
	"tunneldirector/director/observe"
)

// apart has d1, the assigner, place some sites early in a cut, and d2 the same ones late in it, and ends the cut. The sites are
// established where d1 placed them. It gives where that is, and those that d2 placed elsewhere.
func (h *hub) apart(late func(d2 *node)) (at map[int]string, elsewhere []int) {
	h.t.Helper()
	d1, d2 := h.nodes["d1"], h.nodes["d2"]
	d1.end()
	d1.agents = observe.NewBook(time.Now)
	d1.begin()
	time.Sleep(20 * time.Second)
	h.base(3)
	h.cut(true, [2]string{"d1", "d2"})
	time.Sleep(10 * time.Second)
	at = map[int]string{}
	tunnels := map[string][]agent.Tunnel{}
	for i := range 20 {
		d1.must(put(wide(i)))
		at[i] = d1.pinned(site(i).ID)
		tunnels[at[i]] = append(tunnels[at[i]], up(wide(i)))
	}
	for rs, list := range tunnels {
		d1.agentOf(rs, list...)
	}
	time.Sleep(50 * time.Second)
	for i := range 5 {
		d2.must(put(wide(300 + i)))
	}
	for i := range 20 {
		d2.must(put(wide(i)))
		if d2.pinned(site(i).ID) != at[i] {
			elsewhere = append(elsewhere, i)
		}
	}
	late(d2)
	time.Sleep(time.Minute)
	h.cut(false, [2]string{"d1", "d2"})
	return at, elsewhere
}

func TestLatePlacementsOfACutGiveWay(t *testing.T) {
	inHub(t, 2, func(h *hub) {
		at, elsewhere := h.apart(func(*node) {})
		if len(elsewhere) == 0 {
			t.Fatal("both placed all alike")
		}
		d1 := h.nodes["d1"]
		d1.disk.refuse(errFull) // it is tried again
		time.Sleep(5 * time.Second)
		d1.disk.refuse(nil)
		h.nodes["d2"].must(put(wide(400))) // by which d1 finds out
		time.Sleep(30 * time.Second)
		for i := range 20 {
			if got := d1.pinned(site(i).ID); got != at[i] {
				t.Errorf("site %d is established at %s, and pinned to %s", i, at[i], got)
			}
		}
		h.equal()
	})
}

// What an operator moved on the other side stays where it was moved to, though the site is not there yet.
func TestMovesOfACutHold(t *testing.T) {
	inHub(t, 2, func(h *hub) {
		to := ""
		at, _ := h.apart(func(d2 *node) {
			to = map[string]string{"rs1": "rs2", "rs2": "rs3", "rs3": "rs1"}[d2.pinned(site(1).ID)]
			for to == h.nodes["d1"].pinned(site(1).ID) {
				to = map[string]string{"rs1": "rs2", "rs2": "rs3", "rs3": "rs1"}[to]
			}
			d2.must(affinity.Repin{By: operator, Group: affinity.GroupID(site(1).ID), To: to, Why: affinity.WhyRepinned})
		})
		time.Sleep(30 * time.Second)
		if got := h.nodes["d1"].pinned(site(1).ID); got != to {
			t.Errorf("moved to %s by an operator, established at %s, and pinned to %s", to, at[1], got)
		}
		h.equal()
	})
}

// A group that was placed before a cut, and moved in it, was not placed twice.
func TestFailoverInACutIsNotContested(t *testing.T) {
	inHub(t, 2, func(h *hub) {
		h.base(3)
		d1, d2 := h.nodes["d1"], h.nodes["d2"]
		for i := range 10 {
			d1.must(put(site(i)))
		}
		time.Sleep(10 * time.Minute)
		h.cut(true, [2]string{"d1", "d2"})
		time.Sleep(10 * time.Second)
		d2.world.verdict("rs1", false)
		time.Sleep(30 * time.Second)
		h.cut(false, [2]string{"d1", "d2"})
		time.Sleep(10 * time.Second)
		for _, n := range h.all() {
			for _, e := range n.kept.events {
				if e.Kind == "contested" {
					t.Errorf("%s: %s", n.member.Name, fmt.Sprint(e.Object, ": ", e.Why))
				}
			}
		}
	})
}

// What is pushed again while a director cannot be reached is written again, once. One that left, or was forgotten, is not waited for.
func TestWhoLeftIsNotCutOff(t *testing.T) {
	inHub(t, 3, func(h *hub) {
		h.base(1)
		d1 := h.nodes["d1"]
		d1.must(put(site(1)), put(site(2)))
		again := func() bool { return d1.must(put(site(1)))[0].Changed }
		if err := h.nodes["d3"].d.Leave(h.t.Context()); err != nil {
			t.Error(err)
		}
		time.Sleep(2 * time.Second)
		h.nodes["d3"].end()
		time.Sleep(5 * time.Second)
		if again() {
			t.Error("it is written again after d3 left")
		}
		h.nodes["d2"].end()
		time.Sleep(5 * time.Second)
		if !again() || again() {
			t.Error("it is not written again, once, while d2 cannot be reached")
		}
		h.mu.Lock()
		h.nodes["d3"].forgotten, h.nodes["d2"].forgotten = true, true
		h.mu.Unlock()
		h.pokeAll()
		time.Sleep(2 * time.Second)
		if d1.must(put(site(2)))[0].Changed || len(d1.d.joint.cuts) != 0 {
			t.Errorf("it is written again after d2 was forgotten: %v", d1.d.joint.cuts)
		}
	})
}
