package director

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tunneldirector/affinity"
	"tunneldirector/director/agent"
	"tunneldirector/director/api"
)

// host is the agent of a real server, by hand.
type host struct {
	w    *world
	rs   string
	conn *agent.Conn
	seq  uint64

	mu      sync.Mutex
	got     []agent.Order
	welcome *agent.Welcome
	verdict agent.Verdict // the last one
	refused string
}

// agentOf makes the agent of a real server of the same host name speak.
func (w *world) agentOf(rs string, up ...agent.Tunnel) *host {
	w.t.Helper()
	h := &host{w: w, rs: rs}
	h.dial("instance of " + rs)
	h.tell(up)
	h.status(agent.HealthWorking, false)
	return h
}

func (h *host) dial(instance string) {
	near, far := net.Pipe()
	h.conn = agent.NewConn(near)
	go func() { _ = h.w.agents.Talk(h.w.t.Context(), far, h.rs, h.w.d.AgentOptions()) }()
	h.send(agent.Message{Hello: &agent.Hello{Format: agent.Format, Instance: instance,
		RealServers: []agent.Server{{Name: h.rs, Terminator: "test", ProbePort: agent.DefaultProbe}}}})
	go h.hear(h.conn)
	go func(c *agent.Conn) {
		for c.Send(agent.Message{}) == nil {
			select {
			case <-time.After(agent.Patience / 3):
			case <-h.w.t.Context().Done():
				_ = c.Close()
				return
			}
		}
	}(h.conn)
	h.w.beat()
}

// beat lets the director hear what agents have said: it does at its next tick.
func (w *world) beat() { time.Sleep(60 * time.Millisecond); synctest.Wait() }

func (h *host) hear(c *agent.Conn) {
	for {
		m, err := c.Receive()
		if err != nil {
			return
		}
		h.mu.Lock()
		switch {
		case m.Welcome != nil:
			h.welcome = m.Welcome
		case m.Refused != nil:
			h.refused = m.Refused.Why
		case m.Order != nil:
			h.got = append(h.got, *m.Order)
		case m.Verdict != nil:
			h.verdict = *m.Verdict
		}
		h.mu.Unlock()
	}
}

func (h *host) send(m agent.Message) {
	h.w.t.Helper()
	if err := h.conn.Send(m); err != nil {
		h.w.t.Fatalf("send as the agent of %s: %v", h.rs, err)
	}
}

// tell reports all that is established.
func (h *host) tell(up []agent.Tunnel) {
	h.seq++
	h.send(agent.Message{Report: &agent.Report{RealServer: h.rs, Seq: h.seq, Whole: true, First: true, Last: true, Up: up}})
	h.w.beat()
}

func (h *host) change(up []agent.Tunnel, down ...string) {
	h.seq++
	h.send(agent.Message{Report: &agent.Report{RealServer: h.rs, Seq: h.seq, Up: up, Down: down}})
	h.w.beat()
}

func (h *host) status(health agent.Health, full bool) {
	h.send(agent.Message{Status: &agent.Status{RealServer: h.rs, Health: health, Cause: "test", Since: time.Now(), Load: agent.Load{Full: full, Permille: 1000}}})
	h.w.beat()
}

// orders are the ids of an order's tunnels that came so far.
func (h *host) orders(kind agent.OrderKind) (ids []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, o := range h.got {
		if o.Kind == kind {
			for _, t := range o.Tunnels {
				ids = append(ids, t.ID)
			}
		}
	}
	return ids
}

// up is a tunnel as a terminator reports it.
func up(tun *affinity.Tunnel) agent.Tunnel {
	return agent.Tunnel{Peer: "peer " + tun.ID, Local: netip.MustParseAddr("192.0.2.10"), Endpoint: tun.Endpoints[0], Subnets: tun.Subnets, Since: time.Now()}
}

// pinned is the name of the real server that serves a tunnel.
func (w *world) pinned(id string) string {
	w.t.Helper()
	t := w.d.Table()
	tun, ok := t.Tunnel(id)
	if !ok {
		w.t.Fatalf("no tunnel %s", id)
	}
	p, _ := t.PinOf(tun)
	return t.NameAt(t.Serving(p))
}

// pinTo pushes a tunnel and pins it.
func (w *world) pinTo(tun *affinity.Tunnel, rs string) {
	w.t.Helper()
	w.must(put(tun), affinity.Repin{By: operator, Group: tun.GroupID(), To: rs})
}

func TestDeathIsFollowedByAdopt(t *testing.T) {
	inWorld(t, func(w *world) {
		w.base(2)
		w.pinTo(site(1), "rs1")
		w.pinTo(site(2), "rs1") // never established
		seen := up(site(1))
		seen.Endpoint = netip.AddrPortFrom(seen.Endpoint.Addr(), 4501)
		one, two := w.agentOf("rs1", seen), w.agentOf("rs2")
		_ = one.conn.Close() // the host is gone
		synctest.Wait()
		w.verdict("rs1", false)
		w.settle()
		if got := two.orders(agent.OrderAdopt); !slices.Equal(got, []string{"site-0001"}) {
			t.Fatalf("adopted %v; wanted what was established, and nothing else", got)
		}
		if got := two.got[0].Tunnels[0]; got.Endpoint != seen.Endpoint || got.Peer != seen.Peer || got.Local != seen.Local || got.Bandwidth != 1_000_000 {
			t.Errorf("the successor was told %+v", got)
		}
		if e, ok := w.agents.Errand("rs2", agent.OrderAdopt, "site-0001"); !ok || e.Final() {
			t.Errorf("the order: %+v", e)
		}
	})
}

func TestRepinReleasesAfterAdopt(t *testing.T) {
	inWorld(t, func(w *world) {
		w.base(2)
		w.pinTo(site(1), "rs1")
		one, two := w.agentOf("rs1", up(site(1))), w.agentOf("rs2")
		w.must(affinity.Repin{By: operator, Group: "site-0001", To: "rs2"})
		synctest.Wait()
		if a, r := two.orders(agent.OrderAdopt), one.orders(agent.OrderRelease); len(a) != 1 || len(r) != 0 {
			t.Fatalf("adopted %v, released %v; wanted to adopt first", a, r)
		}
		two.change([]agent.Tunnel{up(site(1))})
		two.send(agent.Message{Progress: &agent.Progress{RealServer: "rs2", Kind: agent.OrderAdopt, Tunnels: []agent.Step{{ID: "site-0001", Outcome: agent.OutcomeDone}}}})
		w.beat()
		if r := one.orders(agent.OrderRelease); !slices.Equal(r, []string{"site-0001"}) {
			t.Errorf("released %v once the successor had it", r)
		}
	})
}

func TestReleaseDoesNotWaitForEver(t *testing.T) {
	inWorld(t, func(w *world) {
		w.base(2)
		w.pinTo(site(1), "rs1")
		one := w.agentOf("rs1", up(site(1)))
		w.agentOf("rs2") // never answers
		w.must(affinity.Repin{By: operator, Group: "site-0001", To: "rs2"})
		time.Sleep(releaseAfter + 2*time.Second)
		synctest.Wait()
		if r := one.orders(agent.OrderRelease); len(r) != 1 {
			t.Errorf("released %v", r)
		}
	})
}

func TestOrdersAreSentAgain(t *testing.T) {
	inWorld(t, func(w *world) {
		w.base(2)
		w.pinTo(site(1), "rs1")
		w.agentOf("rs1", up(site(1)))
		two := w.agentOf("rs2")
		_ = two.conn.Close()
		synctest.Wait()
		w.must(affinity.Repin{By: operator, Group: "site-0001", To: "rs2"})
		time.Sleep(time.Minute)
		two.dial("instance of rs2")
		if age := time.Duration(two.got[0].Tunnels[0].AgeMillis) * time.Millisecond; age < time.Minute || age > 2*time.Minute {
			t.Errorf("an order of a minute ago was sent as one of %v ago", age)
		}
		if got := two.orders(agent.OrderAdopt); !slices.Equal(got, []string{"site-0001"}) {
			t.Errorf("after the agent came back it was told to adopt %v", got)
		}
		if two.welcome.Known["rs2"] != two.seq {
			t.Errorf("reports are known up to %d, and %d were sent", two.welcome.Known["rs2"], two.seq)
		}
	})
}

func TestAgentOfAnotherHost(t *testing.T) {
	inWorld(t, func(w *world) {
		w.base(2)
		h := &host{w: w, rs: "rs1"}
		near, far := net.Pipe()
		h.conn = agent.NewConn(near)
		go h.hear(h.conn)
		done := make(chan error, 1)
		go func() { done <- w.agents.Talk(w.t.Context(), far, "elsewhere", w.d.AgentOptions()) }()
		h.send(agent.Message{Hello: &agent.Hello{Format: 1, Instance: "i", RealServers: []agent.Server{{Name: "rs1"}}}})
		if err := <-done; err == nil {
			t.Error("the agent of another host was let in")
		}
		synctest.Wait()
		if h.refused == "" {
			t.Error("it was not told why")
		}
		if a, ok := w.agents.Agent("rs1"); ok && a.Connected {
			t.Errorf("it speaks: %+v", a)
		}
	})
}

func TestTwoAgentsWithOneName(t *testing.T) {
	inWorld(t, func(w *world) {
		w.base(1)
		w.agentOf("rs1", up(site(1)))
		second := &host{w: w, rs: "rs1"}
		second.dial("another instance")
		if second.refused == "" {
			t.Error("the second one was not refused")
		}
		if a, _ := w.agents.Agent("rs1"); !a.Connected || a.Tunnels != 1 {
			t.Errorf("the first one: %+v", a)
		}
	})
}

func TestAgentsSayIsEvidence(t *testing.T) {
	inWorld(t, func(w *world) {
		w.base(2)
		w.pinTo(site(1), "rs1")
		tun, _ := w.d.Table().Tunnel("site-0001")
		if e := w.d.evidence(w.d.Table(), tun); e.Up {
			t.Fatalf("up without cause: %+v", e)
		}
		one := w.agentOf("rs1", up(site(1)))
		if e := w.d.evidence(w.d.Table(), tun); !e.Up || e.By != api.ByAgent || e.At != "rs1" {
			t.Errorf("the agent's word: %+v", e)
		}
		if r := w.do(affinity.Repin{By: operator, Group: "site-0001", To: "rs2", Idle: true}); r[0].Err == nil {
			t.Error("a tunnel that the agent calls up was moved as idle")
		}
		_ = one.conn.Close()
		time.Sleep(upWindow - 10*time.Second)
		if e := w.d.evidence(w.d.Table(), tun); !e.Up {
			t.Error("the agent fell silent, and its word was forgotten at once")
		}
		time.Sleep(20 * time.Second)
		if e := w.d.evidence(w.d.Table(), tun); e.Up {
			t.Errorf("a word of %v ago still counts", upWindow)
		}
	})
}

func TestFullGetsNoPins(t *testing.T) {
	for _, c := range []struct {
		name   string
		health agent.Health
		full   bool
		taken  bool
	}{
		{"working", agent.HealthWorking, false, true},
		{"full", agent.HealthWorking, true, false},
		{"headless", agent.HealthHeadless, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.base(2)
				w.agentOf("rs1").status(c.health, c.full)
				w.agentOf("rs2")
				taken := false
				for i := range 8 {
					w.must(put(site(i + 1)))
					taken = taken || w.pinned(site(i+1).ID) == "rs1"
				}
				if taken != c.taken {
					t.Errorf("rs1 got new pins: %v", taken)
				}
			})
		})
	}
}

func TestHeadlessIsEmptiedAfterItsGrace(t *testing.T) {
	inWorld(t, func(w *world) {
		w.base(2)
		for i := range 40 {
			w.pinTo(site(i+1), "rs1")
		}
		one := w.agentOf("rs1", up(site(1)))
		w.agentOf("rs2")
		one.status(agent.HealthHeadless, false)
		time.Sleep(headlessGrace - time.Second)
		synctest.Wait()
		if got := w.on("rs1"); got != 40 {
			t.Fatalf("%d tunnels left before the grace was over", 40-got)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if got := w.on("rs1"); got == 40 || got < 40-2*headlessPer {
			t.Errorf("%d of 40 tunnels left after a second; wanted a few, paced", 40-got)
		}
		one.status(agent.HealthWorking, false)
		left := w.on("rs1")
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if got := w.on("rs1"); got != left {
			t.Errorf("it works again, and %d more tunnels left it", left-got)
		}
	})
}

// on counts the tunnels whose primary a real server is.
func (w *world) on(rs string) uint32 {
	life, _ := w.d.Table().LifeOf(rs)
	return w.d.Table().Load(life.Index).Tunnels
}

func TestDrain(t *testing.T) {
	inWorld(t, func(w *world) {
		w.base(3)
		var all []agent.Tunnel
		for i := range 30 {
			w.pinTo(site(i+1), "rs1")
			if i >= 10 {
				all = append(all, up(site(i+1)))
			}
		}
		one, two := w.agentOf("rs1", all...), w.agentOf("rs2")
		w.agentOf("rs3")
		w.must(affinity.SetAdmin{By: operator, Name: "rs1", Admin: affinity.Drained, Drain: &affinity.Drain{Milli: 2000, By: affinity.NewStamp(time.Now().Add(10*time.Second), 0)}})
		time.Sleep(4 * time.Second)
		synctest.Wait()
		if got := w.on("rs1"); got < 20 || got > 25 {
			t.Errorf("after 4 s at 2 tunnels a second %d of 30 are left", got)
		}
		if got := len(two.orders(agent.OrderAdopt)); got != 0 {
			t.Errorf("%d established tunnels were moved while idle ones were left", got)
		}
		st, _ := w.d.View().Status(w.t.Context())
		if d := st.RealServers[0].Drain; d == nil || d.Of != 30 || d.ETA == nil || d.Left != w.on("rs1") {
			t.Errorf("progress: %+v", d)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if got := w.on("rs1"); got != 0 {
			t.Errorf("%d tunnels are left after the deadline", got)
		}
		time.Sleep(releaseAfter + time.Second)
		synctest.Wait()
		if got := len(one.orders(agent.OrderRelease)); got != 20 {
			t.Errorf("%d of 20 established tunnels were released", got)
		}
	})
}

func TestUndrainStops(t *testing.T) {
	inWorld(t, func(w *world) {
		w.base(2)
		for i := range 20 {
			w.pinTo(site(i+1), "rs1")
		}
		w.must(affinity.SetAdmin{By: operator, Name: "rs1", Admin: affinity.Drained, Drain: &affinity.Drain{Milli: 1000}})
		time.Sleep(5 * time.Second)
		w.must(affinity.SetAdmin{By: operator, Name: "rs1", Admin: affinity.Active})
		left := w.on("rs1")
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if got := w.on("rs1"); left == 20 || left == 0 || got != left {
			t.Errorf("%d were left at undrain, %d later", left, got)
		}
	})
}

func TestMaxUnavailable(t *testing.T) {
	inWorld(t, func(w *world) {
		w.base(3)
		s, _ := w.d.Table().Service("ipsec")
		next := *s
		next.MaxUnavailable = 1
		w.must(affinity.PutService{By: operator, Service: &next}, affinity.SetAdmin{By: operator, Name: "rs1", Admin: affinity.Drained})
		r := w.do(affinity.SetAdmin{By: operator, Name: "rs2", Admin: affinity.Drained})
		if r[0].Err == nil {
			t.Fatal("one drain too many was accepted")
		}
		w.must(affinity.SetAdmin{By: operator, Name: "rs1", Admin: affinity.Active})
		w.verdict("rs3", false)
		if r := w.do(affinity.SetAdmin{By: operator, Name: "rs2", Admin: affinity.Drained}); r[0].Err == nil {
			t.Error("a drain was accepted while another real server is dead")
		}
	})
}

func TestRoamedTunnelIsFollowed(t *testing.T) {
	inWorld(t, func(w *world) {
		w.base(2)
		w.pinTo(site(1), "rs1")
		one := w.agentOf("rs1", up(site(1)))
		away := up(site(1))
		away.Endpoint = netip.MustParseAddrPort("203.0.9.9:0")
		one.change([]agent.Tunnel{away})
		moved := site(1)
		moved.Endpoints = []affinity.Endpoint{away.Endpoint}
		if in, out := w.ways(moved); in != "rs1" || out != "rs1" {
			t.Errorf("from its new address it goes to %q, back to %q", in, out)
		}
		w.must(put(site(1))) // the NMS says again what it said
		if in, _ := w.ways(moved); in != "rs1" {
			t.Error("the NMS's word on the tunnel made it forget where it roamed to")
		}
		other := site(2)
		other.Endpoints = moved.Endpoints
		w.must(put(other))
		tun, _ := w.d.Table().Tunnel("site-0001")
		if len(tun.Roamed) != 0 {
			t.Error("what it roamed to displaces what was announced")
		}
		one.change([]agent.Tunnel{up(site(1))})
		if tun, _ := w.d.Table().Tunnel("site-0001"); len(tun.Roamed) != 0 || len(tun.Endpoints) != 1 {
			t.Errorf("back home: %+v", tun)
		}
	})
}

func TestUnknownTunnelIsLearned(t *testing.T) {
	inWorld(t, func(w *world) {
		w.base(2)
		w.agentOf("rs1", up(site(7)))
		if n := w.d.Table().Len(); n != 0 {
			t.Fatalf("%d tunnels were learned though the service does not say so", n)
		}
		s, _ := w.d.Table().Service("ipsec")
		next := *s
		next.Learn = true
		w.must(affinity.PutService{By: operator, Service: &next})
		w.beat()
		if in, out := w.ways(site(7)); in != "rs1" || out != "rs1" {
			t.Errorf("what was established before the service learned: in by %q, out by %q", in, out)
		}
		two := w.agentOf("rs2", up(site(8)))
		if in, out := w.ways(site(8)); in != "rs2" || out != "rs2" {
			t.Fatalf("learned: in by %q, out by %q", in, out)
		}
		w.must(put(site(8)))
		if n := w.d.Table().Len(); n != 2 {
			t.Errorf("%d tunnels after it was announced; wanted it and the other learned one", n)
		}
		if got := w.pinned("site-0008"); got != "rs2" {
			t.Errorf("announced, it is pinned to %s and established at rs2", got)
		}
		two.change([]agent.Tunnel{up(site(9))})
		if n := w.d.Table().Len(); n != 3 {
			t.Fatalf("%d tunnels; wanted the announced one and two learned ones", n)
		}
		two.change(nil, up(site(9)).Peer)
		time.Sleep(2 * learnedLives)
		synctest.Wait()
		if n := w.d.Table().Len(); n != 2 {
			t.Errorf("%d tunnels an hour after the learned one ended", n)
		}
	})
}

func TestSeenAgainstWanted(t *testing.T) {
	inWorld(t, func(w *world) {
		w.base(2)
		w.pinTo(site(1), "rs1")
		w.pinTo(site(2), "rs1")
		down := site(3)
		down.State = affinity.StateUp
		w.pinTo(down, "rs1")
		w.agentOf("rs1", up(site(1)))
		w.agentOf("rs2", up(site(2)), up(site(8)))
		got := map[string]string{}
		view := w.d.View().(api.Observed)
		err := view.Seen(w.t.Context(), []string{api.SeenRight, api.SeenWrong, api.SeenUnknown, api.SeenNot}, func(s api.SeenTunnel) bool {
			got[s.State] += s.Tunnel + "@" + s.At + ";"
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]string{api.SeenRight: "site-0001@rs1;", api.SeenWrong: "site-0002@rs2;", api.SeenUnknown: "@rs2;", api.SeenNot: "site-0003@;"}
		for state, words := range want {
			if got[state] != words {
				t.Errorf("%s: %q, wanted %q", state, got[state], words)
			}
		}
	})
}

func TestStaleTunnelIsReleased(t *testing.T) {
	inWorld(t, func(w *world) {
		w.base(2)
		w.pinTo(site(1), "rs1")
		old := up(site(1))
		one, two := w.agentOf("rs1", old), w.agentOf("rs2")
		_ = one.conn.Close() // a cable is pulled
		synctest.Wait()
		w.verdict("rs1", false)
		w.settle()
		two.change([]agent.Tunnel{up(site(1))})
		time.Sleep(time.Minute)
		one.dial("instance of rs1") // and put back: nothing has changed there
		time.Sleep(time.Second)
		synctest.Wait()
		if got := one.orders(agent.OrderRelease); !slices.Equal(got, []string{"site-0001"}) {
			t.Errorf("the real server that came back was told to release %v", got)
		}
		if got := two.orders(agent.OrderRelease); len(got) != 0 {
			t.Errorf("the successor was told to release %v", got)
		}
	})
}
