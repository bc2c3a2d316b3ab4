package ipsec

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"tunneldirector/integration/guest/strongswan"
	"tunneldirector/integration/lab"
	"tunneldirector/realserver/terminator"
	driver "tunneldirector/realserver/terminator/strongswan"
)

// TestTruth: a terminator that lacks what it takes to begin says so; events are heard; charon's process and its end are seen.
func TestTruth(t *testing.T) {
	r := newRig(t, lab.Options{Sites: 1}, "not much of one")
	first, second := r.RealServers[0], r.RealServers[1]
	changed, ended := make(chan struct{}, 1), make(chan error, 1)
	go func() { ended <- r.drivers[first].Watch(context.WithoutCancel(t.Context()), changed) }()
	<-changed // it listens
	order := r.establishAt(first)[r.Sites[0]]
	select {
	case <-changed:
	case <-time.After(30 * time.Second):
		t.Error("no event of a tunnel that came up")
	}
	w, err := r.drivers[first].Work(t.Context())
	if err != nil || len(w.Processes) != 1 || slices.Contains(w.Devices, "ipsec0") == inGuest() {
		t.Errorf("it works with %+v (%v)", w, err)
	}
	r.pin(second)
	// The second real server's charon has lost its secrets.
	poor := r.poor(second)
	if err := poor.Adopt(t.Context(), order); err != nil {
		t.Errorf("the first try: %v", err)
	}
	if err := poor.Adopt(t.Context(), order); !errors.Is(err, terminator.ErrWait) {
		t.Errorf("the second try without secrets: %v, want one that says to wait", err)
	}
	r.servers[first].Kill()
	if err := <-ended; !errors.Is(err, terminator.ErrGone) {
		t.Errorf("charon is dead, and Watch says %v", err)
	}
	if _, err := r.drivers[first].Tunnels(t.Context()); !errors.Is(err, terminator.ErrGone) {
		t.Errorf("charon is dead, and Tunnels says %v", err)
	}
}

// poor starts a real server's charon anew, without secrets, and makes a driver for it.
func (r *rig) poor(rs *lab.RealServer) *driver.Driver {
	r.Helper()
	r.must("stop charon", r.servers[rs].Stop())
	d, err := r.software.Start(r.Context(), r.Lab, rs.NS, retransmits)
	r.must("start charon", err)
	r.servers[rs] = d
	c := strongswan.Connection{Name: "sites0", Local: r.VIPs[0], Near: r.Target.Networks(), Far: lab.Covers[:1], ESP: packets}
	r.must("configure "+rs.Name, d.Load(c, strongswan.Identity{Name: "vip", Secret: strongswan.NoSecret}))
	one, err := driver.New(driver.Options{Socket: d.Socket(), Proposals: proposals})
	r.must("make a driver", err)
	return one
}
