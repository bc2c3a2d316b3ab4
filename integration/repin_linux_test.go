package integration

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tunneldirector/director/api"
	"tunneldirector/integration/lab"
)

// TestRepinMovesOneTunnel: both directions of it, and nothing else.
func TestRepinMovesOneTunnel(t *testing.T) {
	t.Parallel()
	r := newRig(t, lab.Options{Sites: 6}, "")
	moved, others := r.Sites[0], r.Sites[1:]
	from := r.placed(moved)
	to := r.RealServers[from.Index%len(r.RealServers)]
	want := r.placements()
	want[moved.Name] = to.Name
	since := r.revision()
	endMoved, endOthers := r.send(moved), r.send(others...)
	before := map[*lab.Site]map[string]lab.Counts{}
	for _, s := range others {
		before[s] = r.counts(s)
	}
	r.rest(200 * time.Millisecond)
	r.must("move", r.d.Repin(r.ctx, moved.Name, to))
	r.rest(500 * time.Millisecond) // what was on its way has arrived
	then := r.counts(moved)
	r.rest(1500 * time.Millisecond)
	for name, c := range r.counts(moved) {
		got := c.Sub(then[name])
		if name != to.Name && (got.OuterIn > 0 || got.InnerOut > 0) {
			t.Errorf("%s counted %+v after the tunnel was moved to %s", name, got, to.Name)
		}
		// WireGuard has no session there yet: packets of both directions arrive, none is decrypted.
		if name == to.Name && (got.OuterIn < 10 || got.InnerOut < 10) {
			t.Errorf("%s counted %+v, want packets of both directions", name, got)
		}
	}
	endMoved()
	r.lossless(endOthers, "while another tunnel was moved")
	for _, s := range others {
		for name, c := range r.counts(s) {
			if got := c.Sub(before[s][name]); name != want[s.Name] && got != (lab.Counts{}) {
				t.Errorf("%s is at %s, but %s counted %+v", s.Name, want[s.Name], name, got)
			}
		}
	}
	if diff := cmp.Diff(want, r.placements()); diff != "" {
		t.Errorf("placements (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{moved.Name: to.Name}, r.moves(since)); diff != "" {
		t.Errorf("moves that were told (-want +got):\n%s", diff)
	}
}

// revision is where the events are now.
func (r *rig) revision() string {
	r.Helper()
	page, err := r.d.Client.TunnelPage(r.ctx, api.TunnelFilter{Limit: 1}, "")
	r.must("ask for the revision", err)
	return page.Revision
}

// moves are the groups that moved since a revision, and where they are since.
func (r *rig) moves(since string) map[string]string {
	r.Helper()
	ctx, cancel := context.WithTimeout(r.ctx, 2*time.Second)
	defer cancel()
	moves := map[string]string{}
	for e, err := range r.d.Client.Watch(ctx, since) {
		if err != nil {
			break // the end of ctx
		}
		if e.Kind == "moved" && e.From != e.To {
			moves[e.Object] = e.To
		}
	}
	r.Logf("moves since %s: %v", since, moves)
	return moves
}
