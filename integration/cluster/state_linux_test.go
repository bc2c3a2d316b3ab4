package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/google/go-cmp/cmp"

	"tunneldirector/director/api"
	"tunneldirector/integration/daemon"
	"tunneldirector/integration/lab"
)

// owned are all addresses that directors own, and who is to hold each.
func (r *rig) owned() map[netip.Addr]string { return daemon.Owned(r.Lab) }

// without is what owned is while a director is away: what it held goes to the next one.
func (r *rig) without(away string) map[netip.Addr]string { return daemon.Owned(r.Lab, away) }

// heldBy demands that each address is where it belongs, and nowhere else.
func (r *rig) heldBy(want map[netip.Addr]string, leftOut ...string) error {
	return daemon.HeldBy(r.Lab, want, leftOut...)
}

// equal demands that these directors are ready, hear each other, and say that their tables are equal.
func (r *rig) equal(directors ...*daemon.Daemon) error { return daemon.Equal(r.ctx, directors...) }

// settle waits until all is as it is to be with all directors: ready, equal, each with its addresses. One that has lost these for a
// moment takes them back after preempt_after, which is a minute by default.
func (r *rig) settle() {
	r.Helper()
	r.until(100*time.Second, "settle", func() error {
		if err := r.equal(r.d...); err != nil {
			return err
		}
		if len(r.d) < len(r.Directors) {
			return nil
		}
		return r.heldBy(r.owned())
	})
}

// tables demands that directors answer the same of every tunnel: intent and placement. They are asked one after another, and what is
// placed anew in between is told by some alone.
func (r *rig) tables(directors ...*daemon.Daemon) {
	r.Helper()
	r.until(15*time.Second, "compare tables", func() error {
		first, err := r.ask(directors[0])
		if err != nil {
			return err
		}
		for _, d := range directors[1:] {
			got, err := r.ask(d)
			if err != nil {
				return err
			}
			if diff := cmp.Diff(first, got); diff != "" {
				return fmt.Errorf("tables of %s and %s differ (-first +second):\n%.4000s", directors[0].On().Title, d.On().Title, diff)
			}
		}
		return nil
	})
}

func (r *rig) table(d *daemon.Daemon) map[string]string {
	r.Helper()
	got, err := r.ask(d)
	r.must("list the tunnels", err)
	return got
}

// ask is table, of a director that may not answer.
func (r *rig) ask(d *daemon.Daemon) (map[string]string, error) {
	got := map[string]string{}
	for t, err := range d.Client.Tunnels(r.ctx, api.TunnelFilter{}) {
		if err != nil {
			return nil, fmt.Errorf("list the tunnels of %s: %w", d.On().Title, err)
		}
		got[t.ID] = fmt.Sprintf("%s %s %v %v %+v", t.Service, t.Group, t.Endpoints, t.Subnets, placement(t))
	}
	return got, nil
}

func placement(t api.TunnelState) string {
	if t.Placement == nil {
		return "unplaced"
	}
	return t.Placement.RealServer + ", else " + t.Placement.Backup
}

// placed is where a site's tunnel is, as the first director says that answers.
func (r *rig) placed(s *lab.Site) *lab.RealServer {
	r.Helper()
	var errs []error
	for _, d := range slices.Backward(r.d) { // the first one is what most befalls
		ctx, cancel := context.WithTimeout(r.ctx, 5*time.Second) // it may be stopped
		rs, _, err := d.Placed(ctx, s)
		cancel()
		if err == nil {
			return rs
		}
		errs = append(errs, err)
	}
	r.must("ask where "+s.Name+" is", errors.Join(errs...))
	return nil
}

// assigns demands that a director says so of another one, or of itself.
func (r *rig) assigns(d *daemon.Daemon, who string) error {
	st, err := d.Client.Cluster(r.ctx)
	if err == nil && st.Assigner != who {
		err = fmt.Errorf("%s says that %q assigns, want %s", d.On().Title, st.Assigner, who)
	}
	return err
}
