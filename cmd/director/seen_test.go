package main

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"tunneldirector/cmd/console"
	"tunneldirector/cmd/console/consoletest"
	"tunneldirector/director/agent"
)

// agentOf makes the agent of a real server speak: it reports tunnels by their endpoints, and answers no order.
func (w *world) agentOf(rs, host string, load agent.Load, up ...string) {
	w.t.Helper()
	near, far := net.Pipe()
	go func() { _ = w.agents.Talk(w.t.Context(), far, host, w.d.AgentOptions()) }()
	c := agent.NewConn(near)
	w.t.Cleanup(func() { _ = c.Close() })
	go func() {
		for {
			if _, err := c.Receive(); err != nil {
				return
			}
		}
	}()
	var list []agent.Tunnel
	for _, ep := range up {
		list = append(list, agent.Tunnel{Peer: "peer " + ep, Local: netip.MustParseAddr("192.0.2.10"), Endpoint: netip.MustParseAddrPort(ep), Since: time.Now().Add(-time.Minute)})
	}
	for _, m := range []agent.Message{
		{Hello: &agent.Hello{Format: agent.Format, Instance: "i", RealServers: []agent.Server{{Name: rs, Terminator: "strongswan", ProbePort: agent.DefaultProbe}}}},
		{Report: &agent.Report{RealServer: rs, Seq: 1, Whole: true, First: true, Last: true, Up: list}},
		{Status: &agent.Status{RealServer: rs, Health: agent.HealthWorking, Since: time.Now(), Load: load}},
	} {
		if err := c.Send(m); err != nil {
			w.t.Fatalf("speak as the agent of %s: %v", rs, err)
		}
	}
	w.until("the agent of "+rs+" is heard", func() bool {
		a, ok := w.agents.Agent(rs)
		return ok && a.Whole && a.Status.Health == agent.HealthWorking
	})
}

func (w *world) until(what string, is func() bool) {
	w.t.Helper()
	for limit := time.Now().Add(10 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			w.t.Fatalf("it did not become so that %s", what)
		}
	}
}

func TestWithoutAgents(t *testing.T) {
	w := furnished(t)
	const how = "no agent of a real server has spoken to this director. Agents dial in where its node file says so, under agents:"
	w.run("seen").Exits(console.ExitOK).Tells(how)
	w.run("seen", "--json").Exits(console.ExitOK, `{"seen":[],"more":false}`)
	w.run("realserver", "orders").Exits(console.ExitOK).Tells(how)
	w.run("realserver", "orders", "rs1", "--json").Exits(console.ExitOK, `{"orders":[],"more":false}`)
	w.run("realserver", "show", "rs1").Exits(console.ExitOK, "none has spoken to this director")
	if r := w.run("status").Exits(console.ExitOK); strings.Contains(r.Out, "agents") {
		t.Errorf("status tells of agents: %s", r.Out)
	}
}

func TestSeen(t *testing.T) {
	w := furnished(t)
	for i := 1; i <= 3; i++ {
		w.run("tunnel", "add", fmt.Sprintf("site-%d", i), "--service", "ipsec", "--endpoint", fmt.Sprintf("203.0.113.%d", i), "--state", "up").Exits(console.ExitOK)
	}
	w.run("repin", "site-1", "--to", "rs1").Exits(console.ExitOK)
	w.run("repin", "site-2", "--to", "rs2").Exits(console.ExitOK)
	w.run("repin", "site-3", "--to", "rs1").Exits(console.ExitOK)
	w.agentOf("rs1", "node-a", agent.Load{Permille: 1020, Full: true, Parts: []agent.Part{{Name: "cpu 3", Permille: 1020, Says: "82 % of a core"}}},
		"203.0.113.1:4500", "203.0.113.2:4500", "203.0.113.99:0")
	steps := []struct {
		args string
		code int
		out  []string
		errs []string
		not  string
	}{
		{args: "seen", out: []string{"wrong-place  site-2  rs1", "unknown      -       rs1", "203.0.113.99", "not-up       site-3  -               rs1"}, not: "site-1"},
		{args: "seen --state right", out: []string{"right  site-1  rs1"}, not: "site-2"},
		{args: "seen --state right,unknown --json", out: []string{`"state":"right","tunnel":"site-1","at":"rs1","pinned":"rs1","peer":"peer 203.0.113.1:4500"`, `"state":"unknown"`, `"more":false`}, not: "site-2"},
		{args: "seen --rs rs2", out: []string{"wrong-place  site-2"}, not: "unknown"},
		{args: "seen --rs rs3", errs: []string{"all tunnels that agents see are where they are wanted"}},
		{args: "seen --rs rs3 --state right", errs: []string{"agents see no such tunnels"}},
		{args: "seen --limit 1", errs: []string{"there are more; --limit 100000"}},
		{args: "seen --limit 0", code: console.ExitUsage, errs: []string{"--limit 0: is not at least 1"}},
		{args: "seen --limit 200000", code: console.ExitRefused, errs: []string{"field    limit", "a whole number from 1 to 100000"}},
		{args: "seen --state lost", code: console.ExitRefused, errs: []string{"field    state", "value    lost", "one of right, wrong-place, unknown, not-up"}},
		{args: "seen --rs rs9", code: console.ExitRefused, errs: []string{"field    real_server", "known are rs1, rs2, rs3"}},
		{args: "seen rs1", code: console.ExitUsage, errs: []string{"takes no arguments"}},
		{args: "tunnel list", out: []string{"site-2", "at rs1", "up (agent)"}},
		{args: "tunnel get site-2", out: []string{"wrong place     its packets go to rs2, and rs1 has it established"}},
		{args: "tunnel show site-1", out: []string{"established at  rs1"}, not: "wrong place"},
		{args: "realserver list", out: []string{"working  102 %", "rs1 gets no new tunnels: it is full: 102 % of its limit"}},
		{args: "realserver show rs1", out: []string{"the terminator is working", "terminator      strongswan, on host node-a", "established     3 tunnels", "cpu 3", "82 % of a core", "no new tunnels  it is full"}},
		{args: "rs get rs1 --json", out: []string{`"agent":{"connected":true`, `"load_percent":102`}},
		{args: "realserver show rs9", code: console.ExitRefused, errs: []string{`no real server "rs9"`}},
		{args: "realserver show", code: console.ExitUsage, errs: []string{"lacks NAME"}},
		{args: "status", out: []string{"1 of 1 connected, 3 tunnels established there; director seen"}},
		{args: "realserver orders", errs: []string{"no such orders in the last 15 minutes"}},
		{args: "realserver orders rs9", code: console.ExitRefused, errs: []string{"known are rs1, rs2, rs3"}},
		{args: "realserver orders --limit -1", code: console.ExitUsage, errs: []string{"is not at least 1"}},
		{args: "repin site-1 --to rs2", out: []string{"tunnel site-1"}},
	}
	for _, s := range steps {
		r := w.run(strings.Fields(s.args)...).Exits(s.code, s.out...).Tells(s.errs...)
		if s.not != "" && strings.Contains(r.Out, s.not) {
			t.Errorf("%q prints %q too:\n%s", s.args, s.not, r.Out)
		}
	}
	w.until("a release is ordered", func() bool { return len(w.agents.Errands("rs1")) > 0 })
	w.run("realserver", "orders").Exits(console.ExitOK, "rs1          release  site-1  203.0.113.1:4500", "1 order: 1 sent")
	w.run("realserver", "orders", "rs1", "--open", "--json").Exits(console.ExitOK, `{"orders":[{"real_server":"rs1","kind":"release","tunnel":"site-1"`)
	w.run("realserver", "orders", "rs2").Exits(console.ExitOK).Tells("no such orders")
}

// What agents saw and nobody announced can be told apart, and is no part of what is moved to another director.
func TestLearnedTunnels(t *testing.T) {
	w := furnished(t)
	w.feed("services:\n- {name: ipsec, vips: [192.0.2.10], protocols: [esp, udp/500, udp/4500], learn: true}\n", "apply", "-").Exits(console.ExitOK, "changed    service ipsec")
	w.run("tunnel", "add", "site-1", "--service", "ipsec", "--endpoint", "203.0.113.1").Exits(console.ExitOK)
	w.agentOf("rs1", "node-a", agent.Load{}, "203.0.113.99:4500")
	w.until("it is learned", func() bool { return w.d.Table().Len() == 2 })
	w.run("tunnel", "list").Exits(console.ExitOK, "site-1", "203.0.113.99", "learned")
	for _, r := range []consoletest.Ran{w.run("tunnel", "list", "--learned"), w.run("tunnel", "export", "--learned"), w.run("tunnel", "export", "--owner", "(learned)")} {
		if r.Exits(console.ExitOK, "203.0.113.99"); strings.Contains(r.Out, "site-1") {
			t.Errorf("%q: %s", r.Args, r.Out)
		}
	}
	if r := w.run("tunnel", "export").Exits(console.ExitOK, "site-1"); strings.Contains(r.Out, "learned") {
		t.Errorf("exported: %s", r.Out)
	}
	w.feed(`{"id":"site-1","service":"ipsec","roamed":["203.0.113.7"]}`, "tunnel", "import", "-").Exits(console.ExitPartly).Tells("roamed: is not a known field")
}
