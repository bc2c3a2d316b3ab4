package agents

import (
	"fmt"
	"testing"
	"time"

	"tunneldirector/director/api"
	"tunneldirector/integration/lab"
)

// A tunnel that is repinned is established by the successor, without a word from the site.
func TestRepinIsAdopted(t *testing.T) {
	t.Parallel()
	r := newRig(t, lab.Options{Sites: 4, RealServers: 2})
	s := r.Sites[0]
	to := r.other(s)
	f := r.flow(s)
	r.rest(300 * time.Millisecond)
	_, err := r.d.Client.Repin(r.ctx, s.Name, api.RepinRequest{To: to.Name})
	r.must("repin", err)
	r.until(10*time.Second, "see it at "+to.Name, func() error {
		p, err := to.Peer(s)
		if err == nil && p.LastHandshake.IsZero() {
			err = fmt.Errorf("%s has no session", to.Name)
		}
		return err
	})
	r.rest(500 * time.Millisecond)
	lost, gap := f.end()
	t.Logf("MEASURED repin-adopted-gap %.2f s, %d packets lost (WireGuard)", gap.Seconds(), lost)
	if gap > 5*time.Second {
		t.Errorf("nothing flowed for %v: WireGuard alone takes 15 s", gap)
	}
}

// The host of a real server is gone: the successors establish what it had.
func TestDeathIsAdopted(t *testing.T) {
	t.Parallel()
	r := newRig(t, lab.Options{Sites: 6, RealServers: 2})
	dead := r.placed(r.Sites[0])
	moved := r.at(dead)
	var flows []traffic
	for _, s := range moved {
		flows = append(flows, r.flow(s))
	}
	r.rest(300 * time.Millisecond)
	r.must("cut the cables", r.SetCable(dead.DR, false))
	r.must("cut the cables", r.SetCable(dead.Inner, false))
	r.rest(5 * time.Second)
	for i, f := range flows {
		lost, gap := f.end()
		t.Logf("MEASURED death-adopted-gap %.2f s, %d packets lost (WireGuard, %s)", gap.Seconds(), lost, moved[i].Name)
		if gap > 4500*time.Millisecond {
			t.Errorf("%s: nothing flowed for %v", moved[i].Name, gap)
		}
	}
}
