package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"tunneldirector/director/api"
	"tunneldirector/integration/daemon"
	"tunneldirector/integration/lab"
)

// owned are all addresses that directors own, and who is to hold each.
func (r *rig) owned() map[netip.Addr]string {
	want := map[netip.Addr]string{}
	for i, a := range r.VIPs {
		want[a] = daemon.Preferred(r.Lab, i)[0]
	}
	for i, a := range r.Gateways {
		want[a] = daemon.Preferred(r.Lab, i+1)[0]
	}
	return want
}

// without is what owned is while a director is away: what it held goes to the next one.
func (r *rig) without(away string) map[netip.Addr]string {
	want := map[netip.Addr]string{}
	for i, a := range r.VIPs {
		want[a] = next(daemon.Preferred(r.Lab, i), away)
	}
	for i, a := range r.Gateways {
		want[a] = next(daemon.Preferred(r.Lab, i+1), away)
	}
	return want
}

func next(names []string, away string) string {
	if names[0] == away {
		return names[1]
	}
	return names[0]
}

// has tells whether the kernel of a director has an address.
func has(d *lab.Director, a netip.Addr) (has bool, err error) {
	err = d.Run(func() error {
		list, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
		has = slices.ContainsFunc(list, func(x netlink.Addr) bool {
			got, _ := netip.AddrFromSlice(x.IP)
			return got.Unmap() == a
		})
		return err
	})
	return has, err
}

// heldBy demands that each address is where it belongs, in the kernels of the directors, and nowhere else. Directors that are left
// out do not count.
func (r *rig) heldBy(want map[netip.Addr]string, leftOut ...string) error {
	var errs []error
	for a, name := range want {
		for _, d := range r.Directors {
			if slices.Contains(leftOut, d.Title) {
				continue
			}
			got, err := has(d, a)
			if err != nil {
				return err
			}
			if got != (d.Title == name) {
				errs = append(errs, fmt.Errorf("%s has %s: %t, and it belongs to %s", d.Title, a, got, name))
			}
		}
	}
	return errors.Join(errs...)
}

// equal demands that these directors are ready, hear each other, and say that their tables are equal.
func (r *rig) equal(directors ...*daemon.Daemon) error {
	for _, d := range directors {
		st, err := d.Client.Cluster(r.ctx)
		if err != nil {
			return err
		}
		for _, o := range directors {
			i := slices.IndexFunc(st.Members, func(m api.MemberStatus) bool { return m.Name == o.On().Title })
			switch {
			case i < 0:
				return fmt.Errorf("%s does not know %s", d.On().Title, o.On().Title)
			case st.Members[i].State != api.MemberAlive || !st.Members[i].Ready:
				return fmt.Errorf("%s says of %s: %s, ready %t", d.On().Title, o.On().Title, st.Members[i].State, st.Members[i].Ready)
			case o != d && !(st.Members[i].Digest.Known && st.Members[i].Digest.Equal):
				return fmt.Errorf("%s says of %s: table %+v, lag %+v", d.On().Title, o.On().Title, st.Members[i].Digest, st.Members[i].Lag)
			}
		}
	}
	return nil
}

// settle waits until all is as it is to be with all directors: ready, equal, each with its addresses.
func (r *rig) settle() {
	r.Helper()
	r.until(40*time.Second, "settle", func() error {
		if err := r.equal(r.d...); err != nil {
			return err
		}
		if len(r.d) < len(r.Directors) {
			return nil
		}
		return r.heldBy(r.owned())
	})
}

// tables demands that directors answer the same of every tunnel: intent and placement.
func (r *rig) tables(directors ...*daemon.Daemon) {
	r.Helper()
	var first map[string]string
	for _, d := range directors {
		got := r.table(d)
		if first == nil {
			first = got
		}
		if diff := cmp.Diff(first, got); diff != "" {
			r.Errorf("tables of %s and %s differ (-first +second):\n%.4000s", directors[0].On().Title, d.On().Title, diff)
		}
	}
}

func (r *rig) table(d *daemon.Daemon) map[string]string {
	r.Helper()
	got := map[string]string{}
	for t, err := range d.Client.Tunnels(r.ctx, api.TunnelFilter{}) {
		r.must("list the tunnels", err)
		got[t.ID] = fmt.Sprintf("%s %s %v %v %+v", t.Service, t.Group, t.Endpoints, t.Subnets, placement(t))
	}
	return got
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

// assigner is who assigns, as a director says.
func (r *rig) assigner(d *daemon.Daemon) string {
	r.Helper()
	st, err := d.Client.Cluster(r.ctx)
	r.must("ask who assigns", err)
	return st.Assigner
}
