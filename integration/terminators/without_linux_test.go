package terminators

import (
	"os"
	"testing"
	"time"
)

// TestWithoutAdopt measures what adopt saves: how long an idle site takes that is told nothing.
func TestWithoutAdopt(t *testing.T) {
	if os.Getenv("SOAK") == "" {
		t.Skip("it takes minutes: run with SOAK=1")
	}
	t.Run("fastd", func(t *testing.T) {
		t.Parallel()
		r := newFastdRig(t, 1, false)
		r.tunnelOf(r.drivers[0], r.Sites[0], 30*time.Second)
		begin := time.Now()
		r.pin(r.Sites[0], 1)
		measured(t, "fastd, idle, no adopt", r.flows(r.Sites[0], begin, 3*time.Minute))
	})
	t.Run("WireGuard", func(t *testing.T) {
		t.Parallel()
		r := newWireGuardRig(t, 1)
		r.tunnelOf(r.drivers[0], r.from, 30*time.Second)
		begin := time.Now()
		r.pin(r.from, 1)
		measured(t, "WireGuard, idle but for keepalives, no adopt", r.flows(r.from, begin, 4*time.Minute))
	})
	t.Run("tinc", func(t *testing.T) {
		t.Parallel()
		r := newTincRig(t, 1)
		s := r.Sites[0]
		r.tunnelOf(r.drivers[0], s, 30*time.Second)
		r.flows(s, time.Now(), 20*time.Second)
		r.must("pull the cable", r.SetCable(r.RealServers[0].DR, false))
		begin := time.Now()
		r.pin(s, 1)
		measured(t, "tinc, host gone, nobody tells the site (PingInterval 20 s)", r.flows(s, begin, 4*time.Minute))
	})
}
