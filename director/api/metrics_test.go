package api

import (
	"strings"
	"testing"
)

// What is told of agents and drains, and that a silent agent's last words are not.
func TestMetricsOfAgents(t *testing.T) {
	l := furnished()
	l.alter = func(st *Status) {
		st.RealServers[0].Agent = &AgentStatus{Connected: true, Health: "headless", Established: 42, LoadPercent: 81.5, Closed: "its control process is gone", Orders: OrderCount{Open: 1, Done: 2, Waiting: 3, Failed: 4}}
		st.RealServers[0].Drain = &DrainStatus{Of: 100, Left: 7}
		st.RealServers[1].Agent = &AgentStatus{Health: "working", Established: 9, LoadPercent: 12}
	}
	_, _, data := ask(t, serve(t, l, Options{}), "GET", "/metrics", "")
	var got []string
	for line := range strings.Lines(string(data)) {
		if strings.HasPrefix(line, "tunneldirector_agent") || strings.HasPrefix(line, "tunneldirector_real_server_drain_left") {
			got = append(got, strings.TrimPrefix(strings.TrimSpace(line), "tunneldirector_"))
		}
	}
	want := `agent_closed{real_server="rs1"} 1
agent_connected{real_server="rs1"} 1
agent_connected{real_server="rs2"} 0
agent_established_tunnels{real_server="rs1"} 42
agent_health{health="dead",real_server="rs1"} 0
agent_health{health="headless",real_server="rs1"} 1
agent_health{health="unknown",real_server="rs1"} 0
agent_health{health="working",real_server="rs1"} 0
agent_load_ratio{real_server="rs1"} 0.815
agent_orders{outcome="done",real_server="rs1"} 2
agent_orders{outcome="done",real_server="rs2"} 0
agent_orders{outcome="failed",real_server="rs1"} 4
agent_orders{outcome="failed",real_server="rs2"} 0
agent_orders{outcome="open",real_server="rs1"} 1
agent_orders{outcome="open",real_server="rs2"} 0
agent_orders{outcome="waiting",real_server="rs1"} 3
agent_orders{outcome="waiting",real_server="rs2"} 0
real_server_drain_left_tunnels{real_server="rs1"} 7`
	if s := strings.Join(got, "\n"); s != want {
		t.Errorf("told is\n%s\nwanted\n%s", s, want)
	}
}
