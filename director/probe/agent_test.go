package probe

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"tunneldirector/affinity"
	"tunneldirector/director/agent"
)

// withAgent is the stage's real server, as the director knows its agent.
func withAgent(p *Prober, check affinity.Check, up bool) {
	p.Set([]Target{{Index: 7, Name: "rs1", Addrs: []netip.Addr{rs4}, VIPs: []netip.Addr{vip4}, Check: check, Agent: agent.DefaultProbe, AgentUp: up}})
}

// says is an agent that looks after one real server.
func says(h agent.Health) func(string) *agent.Answer {
	return func(string) *agent.Answer { return &agent.Answer{Health: h, RealServer: "rs1", Tunnels: 9} }
}

// state waits a moment and checks what is shown of the real server.
func state(t *testing.T, p *Prober, alive bool, says agent.Health, trouble string) State {
	t.Helper()
	time.Sleep(time.Second)
	s := p.Snapshot()[0]
	if s.Alive != alive || s.Agent.Says != says || !strings.Contains(s.Agent.Trouble, trouble) || (s.Agent.Trouble == "") != (trouble == "") {
		t.Fatalf("state %+v; want alive %v, agent %v, trouble %q", s, alive, says, trouble)
	}
	return s
}

// nothing wants no event for a while.
func nothing(t *testing.T, p *Prober, d time.Duration) {
	t.Helper()
	if said := during(p, d); len(said) != 0 {
		t.Fatalf("events: %v", said)
	}
}

var silentPort = affinity.Check{Proto: 6, Port: 443} // the stage answers no SYN

// acting plays a real server that is alive by the word of its agent, for long enough that the agent is no news.
func acting(t *testing.T, check affinity.Check, script func(s *stage, p *Prober)) {
	play(t, affinity.Check{}, func(s *stage, p *Prober) {
		expect(t, p, true, time.Second, "ARP")
		s.now(func() { s.word = says(agent.HealthWorking) })
		p.Set(nil)
		time.Sleep(time.Millisecond)
		withAgent(p, check, true)
		expect(t, p, true, 4*time.Second, "agent at 198.51.100.1:7461 answered: working")
		nothing(t, p, time.Minute)
		script(s, p)
	})
}

func TestAgentSaysDead(t *testing.T) {
	acting(t, silentPort, func(s *stage, p *Prober) {
		for range 20 {
			time.Sleep(77 * time.Millisecond)
			s.now(func() { s.word = says(agent.HealthDead) })
			expect(t, p, false, 520*time.Millisecond, "answered: dead")
			state(t, p, false, agent.HealthDead, "")
			s.now(func() { s.word = says(agent.HealthHeadless) })
			expect(t, p, true, time.Second, "answered: headless")
			if st := state(t, p, true, agent.HealthHeadless, ""); st.Agent.Tunnels != 9 {
				t.Errorf("state %+v", st)
			}
		}
	})
}

// Whatever becomes of the agent alone moves nothing: it is killed, hangs, is upgraded, or is there no more.
func TestAgentGone(t *testing.T) {
	for _, check := range []affinity.Check{{}, {Proto: 17, Port: wireguard}} {
		acting(t, check, func(s *stage, p *Prober) {
			up := p.Snapshot()[0].Since
			s.now(func() { s.word, s.heard = nil, time.Now() }) // hangs
			nothing(t, p, agent.Patience)
			withAgent(p, check, false) // the stream's end
			nothing(t, p, time.Minute)
			state(t, p, true, agent.HealthUnknown, "")
			s.now(func() { s.heard = time.Time{} })
			withAgent(p, check, true) // comes back, and takes a while
			nothing(t, p, agentGrace-time.Second)
			s.now(func() { s.word = says(agent.HealthUnknown) })
			nothing(t, p, time.Minute)
			s.now(func() { s.word = says(agent.HealthWorking) })
			nothing(t, p, time.Minute)
			state(t, p, true, agent.HealthWorking, "")
			s.now(func() { s.shut, s.tokens, s.filled, s.heard = true, 6, time.Now(), time.Now() }) // killed
			nothing(t, p, time.Second)
			withAgent(p, check, false)
			nothing(t, p, time.Minute)
			s.now(func() { s.shut, s.heard = false, time.Time{} })
			withAgent(p, check, true)
			nothing(t, p, time.Minute)
			if st := state(t, p, true, agent.HealthWorking, ""); !st.Since.Equal(up) {
				t.Errorf("alive since %v, was since %v", st.Since, up)
			}
		})
	}
}

// A port that is silent, while the agent vouched for its terminator, is no reason to move anything as long as a restart takes.
func TestAgentRestartedBesideSilentPort(t *testing.T) {
	acting(t, silentPort, func(s *stage, p *Prober) {
		s.now(func() { s.word = nil })
		withAgent(p, silentPort, false)
		nothing(t, p, wordHold-time.Second)
		s.now(func() { s.word = says(agent.HealthHeadless) })
		withAgent(p, silentPort, true)
		nothing(t, p, time.Minute)
		s.now(func() { s.word = nil })
		withAgent(p, silentPort, false) // for good
		nothing(t, p, wordHold+time.Second)
		expect(t, p, false, 2*time.Second, "no answer to tcp to 198.51.100.1:443")
	})
}

// The agent's stream goes on, its answers do not come any more.
func TestDataPathDead(t *testing.T) {
	acting(t, affinity.Check{}, func(s *stage, p *Prober) {
		for range 10 {
			time.Sleep(177 * time.Millisecond)
			s.now(func() { s.word = nil })
			expect(t, p, false, 960*time.Millisecond, "no answer on the data path while its stream is up")
			state(t, p, false, agent.HealthUnknown, "no answer on the data path")
			nothing(t, p, time.Minute) // ARP is answered all the while
			s.now(func() { s.word = says(agent.HealthWorking) })
			expect(t, p, true, time.Second, "working")
		}
		s.now(func() {
			s.word = func(string) *agent.Answer { return &agent.Answer{Health: agent.HealthWorking, RealServer: "rs2"} }
		})
		expect(t, p, false, 960*time.Millisecond, "answered by rs2")
		s.now(func() { s.word = says(agent.HealthWorking) })
		expect(t, p, true, time.Second, "working")
		s.now(func() {
			s.word = func(string) *agent.Answer {
				return &agent.Answer{Health: agent.HealthWorking, RealServer: "rs1", WrongWay: true}
			}
		})
		expect(t, p, false, 960*time.Millisecond, "came by IPIP")
	})
}

// Somebody floods the agent with questions, so that ours are dropped: it says so, and nothing is moved for that.
func TestFlooded(t *testing.T) {
	acting(t, affinity.Check{}, func(s *stage, p *Prober) {
		s.now(func() { s.word, s.flooded = nil, true })
		nothing(t, p, time.Minute)
		state(t, p, true, agent.HealthUnknown, "its probes are flooded")
		s.now(func() { s.flooded = false })
		expect(t, p, false, 960*time.Millisecond, "no answer on the data path while its stream is up")
	})
}

// A filter never let the probes through: that is no reason to move what is there, but it is told.
func TestAgentNeverHeard(t *testing.T) {
	play(t, affinity.Check{}, func(s *stage, p *Prober) {
		expect(t, p, true, time.Second, "ARP")
		withAgent(p, affinity.Check{}, true)
		nothing(t, p, time.Minute)
		state(t, p, true, agent.HealthUnknown, "never answered")
		p.Set(nil) // and one that is not known yet is waited for
		time.Sleep(time.Second)
		withAgent(p, affinity.Check{}, true)
		nothing(t, p, agentGrace-100*time.Millisecond)
		expect(t, p, true, 2*time.Second, "ARP")
	})
}

// Found dead by its agent, it is not alive again because the agent is restarted.
func TestNoRevivalByRestart(t *testing.T) {
	acting(t, affinity.Check{}, func(s *stage, p *Prober) {
		s.now(func() { s.word = says(agent.HealthDead) })
		expect(t, p, false, time.Second, "dead")
		s.now(func() { s.word = nil })
		withAgent(p, affinity.Check{}, false)
		nothing(t, p, 5*time.Second)
		if c := state(t, p, false, agent.HealthUnknown, "").Cause; !strings.Contains(c, "has just found it dead") {
			t.Errorf("cause %q", c)
		}
		withAgent(p, affinity.Check{}, true)
		s.now(func() { s.word = says(agent.HealthUnknown) })
		nothing(t, p, time.Minute)
		s.now(func() { s.word = says(agent.HealthDead) })
		nothing(t, p, time.Minute)
		s.now(func() { s.word = nil })
		withAgent(p, affinity.Check{}, false) // for good
		nothing(t, p, wordHold-time.Second)
		expect(t, p, true, 3*time.Second, "ARP")
	})
}

// Saturation shows as delay, also as one longer than the timeout, and kills nobody.
func TestSlow(t *testing.T) {
	acting(t, affinity.Check{}, func(s *stage, p *Prober) {
		for _, late := range []time.Duration{40, 150, 500} {
			s.now(func() { s.late = late * time.Millisecond })
			nothing(t, p, 10*time.Second)
			if st := state(t, p, true, agent.HealthWorking, ""); !st.Slow {
				t.Errorf("not slow at %d ms: %+v", late, st)
			}
			s.now(func() { s.late = 0 })
			nothing(t, p, 15*time.Second)
			if st := state(t, p, true, agent.HealthWorking, ""); st.Slow {
				t.Errorf("slow though idle: %+v", st)
			}
		}
	})
}

// Port unreachables about the agent count against the host's limit, too, and are reckoned with.
func TestAgentsPortClosed(t *testing.T) {
	const n = 4
	play(t, affinity.Check{}, func(s *stage, p *Prober) {
		expect(t, p, true, time.Second, "ARP")
		p.Set(nil)
		time.Sleep(time.Second)
		s.now(func() { s.open, s.shut, s.tokens, s.filled = none, true, 6, time.Now() })
		var targets []Target
		for i := range n {
			targets = append(targets, Target{Index: affinity.Index(i + 1), Name: "rs", Addrs: []netip.Addr{rs4}, VIPs: []netip.Addr{vip4},
				Check: affinity.Check{Proto: 17, Port: wireguard}, Agent: agent.DefaultProbe})
		}
		p.Set(targets)
		want(t, during(p, 15*time.Second), n, false)
		nothing(t, p, 10*time.Minute)
		s.now(func() { s.open = all })
		want(t, during(p, 2*2*n*time.Second+6*time.Second), n, true)
		nothing(t, p, 10*time.Minute)
		s.now(func() { s.open = none })
		want(t, during(p, 10*time.Second), n, false)
		nothing(t, p, 10*time.Minute)
	})
}
