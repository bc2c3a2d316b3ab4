package main

import (
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"tunneldirector/director/agent"
	"tunneldirector/realserver"
	"tunneldirector/realserver/answer"
)

// TestStaleNeighbour: looks at one real server do not keep another of the same place working that nobody looks at.
func TestStaleNeighbour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAnswers(Config{RealServers: []RealServer{{Name: "rs1"}, {Name: "rs2"}, {Name: "rs3"}}}, slog.New(slog.DiscardHandler))
		of := a.states[a.places[0]]
		if s, ok := of["rs3"]; !ok || s.Health != agent.HealthUnknown || len(of) != 3 {
			t.Fatalf("before any look: %+v", of)
		}
		a.set("rs1", realserver.State{Health: agent.HealthWorking, Tunnels: 7})
		for range 10 {
			time.Sleep(answer.Stale / 4)
			a.set("rs2", realserver.State{Health: agent.HealthWorking})
		}
		if of["rs1"].Health != agent.HealthUnknown || of["rs2"].Health != agent.HealthWorking || of["rs3"].Health != agent.HealthUnknown {
			t.Errorf("rs1 was not looked at for long: %+v", of)
		}
	})
}

// TestAnsweredAtOnce: probes are answered, that nothing is known yet, before anything was looked at.
func TestAnsweredAtOnce(t *testing.T) {
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := c.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	_ = c.Close()
	a := newAnswers(Config{ProbePort: port, RealServers: []RealServer{{Name: "rs1", Method: "dr", VIPs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}}}}, slog.New(slog.DiscardHandler))
	a.begin()
	p := a.places[0]
	r, err := a.responder(p)
	if err != nil || a.open[p] != r {
		t.Fatalf("%v; open %v", err, a.open)
	}
	if _, err := net.ListenPacket("udp", c.LocalAddr().String()); err == nil {
		t.Error("nothing listens yet")
	}
}
