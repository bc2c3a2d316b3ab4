package director

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"tunneldirector/affinity"
	"tunneldirector/director/agent"
	"tunneldirector/director/observe"
)

// dead has rs1, where site 1 was established, die while nobody has ever spoken for rs2, its successor.
func (w *world) dead(more ...*affinity.Tunnel) {
	w.t.Helper()
	w.base(2)
	w.pinTo(site(1), "rs1")
	one := w.agentOf("rs1", up(site(1)))
	for _, tun := range more {
		w.pinTo(tun, "rs1")
	}
	_ = one.conn.Close()
	w.verdict("rs1", false)
	w.settle()
	if got := w.pinned("site-0001"); got != "rs2" {
		w.t.Fatalf("site-0001 is at %q", got)
	}
}

// What was to be adopted when the successor's agent had not dialled in yet.
func TestAdoptIsMadeUpFor(t *testing.T) {
	for _, c := range []struct {
		name string
		does func(w *world) *host
		want []string
	}{
		{"the agent dials in a minute later", func(w *world) *host {
			time.Sleep(time.Minute)
			return w.agentOf("rs2")
		}, []string{"site-0001"}},
		{"what was never up is left alone", func(w *world) *host {
			w.must(put(site(2)), affinity.Repin{By: operator, Group: "site-0002", To: "rs2"})
			return w.agentOf("rs2")
		}, []string{"site-0001"}},
		{"it has established itself there", func(w *world) *host { return w.agentOf("rs2", up(site(1))) }, nil},
		{"it is established there since before, by a clock that is behind", func(w *world) *host {
			time.Sleep(20 * time.Second)
			there := up(site(1))
			there.Since = there.Since.Add(-2 * time.Minute)
			return w.agentOf("rs2", there)
		}, nil},
		{"it was moved back", func(w *world) *host {
			w.verdict("rs1", true)
			w.must(affinity.Repin{By: operator, Group: "site-0001", To: "rs1"})
			return w.agentOf("rs2")
		}, nil},
		{"it was deleted", func(w *world) *host {
			w.must(affinity.DeleteTunnel{By: operator, ID: "site-0001"})
			return w.agentOf("rs2")
		}, nil},
		{"the agent dials in when it is of no use any more", func(w *world) *host {
			time.Sleep(overdueLives)
			return w.agentOf("rs2")
		}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.dead()
				two := c.does(w)
				time.Sleep(2 * time.Second)
				synctest.Wait()
				if got := two.orders(agent.OrderAdopt); !slices.Equal(got, c.want) {
					t.Errorf("within 2 s it was told to adopt %v; wanted %v", got, c.want)
				}
				time.Sleep(overdueLives)
				synctest.Wait()
				if got := two.orders(agent.OrderAdopt); !slices.Equal(got, c.want) {
					t.Errorf("at last it was told to adopt %v; wanted %v", got, c.want)
				}
				if n := len(w.d.overdue); n > 0 {
					t.Errorf("moves to %d real servers are still overdue", n)
				}
			})
		})
	}
}

// Before the agent has told of all that is established it is not known what it has to be told.
func TestAdoptWaitsForTheWholeReport(t *testing.T) {
	inWorld(t, func(w *world) {
		w.dead()
		two := &host{w: w, rs: "rs2"}
		two.dial("instance of rs2")
		time.Sleep(5 * time.Second)
		if got := two.orders(agent.OrderAdopt); len(got) != 0 {
			t.Errorf("it had told nothing, and was told to adopt %v", got)
		}
		two.tell(nil)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if got := two.orders(agent.OrderAdopt); !slices.Equal(got, []string{"site-0001"}) {
			t.Errorf("it was told to adopt %v", got)
		}
	})
}

// A director that starts again has forgotten what it ordered, and what agents said; the table tells when a group was moved, and the NMS
// what is up.
func TestAdoptIsMadeUpForAfterARestart(t *testing.T) {
	for _, c := range []struct {
		name string
		rest time.Duration
		want []string
	}{
		{"soon", 10 * time.Second, []string{"site-0002"}},
		{"when it is of no use any more", overdueLives, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				known := site(2)
				known.State = affinity.StateUp
				w.dead(known)
				w.agents = observe.NewBook(nil)
				time.Sleep(c.rest)
				w.restart(false)
				two := w.agentOf("rs2")
				time.Sleep(2 * time.Second)
				synctest.Wait()
				if got := two.orders(agent.OrderAdopt); !slices.Equal(got, c.want) {
					t.Errorf("it was told to adopt %v; wanted %v", got, c.want)
				}
			})
		})
	}
}

// The assigner dies after it has moved the tunnels of a dead real server, and before it could tell the successor's agent.
func TestAdoptIsMadeUpForByTheNextAssigner(t *testing.T) {
	for _, c := range []struct {
		name string
		does func(two *host) // before the assigner dies
		want []string
	}{
		{"nobody has begun it", func(*host) {}, []string{"site-0001"}},
		{"it is established by then", func(two *host) { two.change([]agent.Tunnel{up(site(1))}) }, nil},
		{"it was established, and has ended by itself", func(two *host) {
			two.change([]agent.Tunnel{up(site(1))})
			two.change(nil, up(site(1)).Peer)
		}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			inHub(t, 2, func(h *hub) {
				d1, d2 := h.nodes["d1"], h.nodes["d2"]
				for _, n := range h.all() {
					n.end()
					n.agents = observe.NewBook(nil)
					n.begin()
				}
				time.Sleep(20 * time.Second)
				h.base(2)
				d1.pinTo(site(1), "rs1")
				time.Sleep(time.Second)
				one, other := d1.agentOf("rs1", up(site(1))), d2.agentOf("rs1", up(site(1)))
				two := d2.agentOf("rs2") // it does not reach d1
				_, _ = one.conn.Close(), other.conn.Close()
				h.reports("rs1", false)
				time.Sleep(5 * time.Second)
				if got := d2.pinned("site-0001"); got != "rs2" {
					t.Fatalf("site-0001 is at %q", got)
				}
				c.does(two)
				if got := two.orders(agent.OrderAdopt); len(got) != 0 {
					t.Errorf("who does not assign ordered to adopt %v", got)
				}
				d1.end()
				time.Sleep(5 * time.Second)
				synctest.Wait()
				if got := two.orders(agent.OrderAdopt); !slices.Equal(got, c.want) {
					t.Errorf("the next assigner ordered to adopt %v; wanted %v", got, c.want)
				}
			})
		})
	}
}
