package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"

	"tunneldirector/director/api"
	"tunneldirector/integration/lab"
)

// Equal demands that these directors are ready, hear each other, and say that their tables are equal.
func Equal(ctx context.Context, directors ...*Daemon) error {
	for _, d := range directors {
		st, err := d.Client.Cluster(ctx)
		if err != nil {
			return err
		}
		var names []string
		for _, o := range directors {
			names = append(names, o.On().Title)
		}
		if err := EqualAt(st, names...); err != nil {
			return err
		}
	}
	return nil
}

// EqualAt demands that a director says of these and itself what Equal demands.
func EqualAt(st api.ClusterStatus, names ...string) error {
	for _, name := range names {
		i := slices.IndexFunc(st.Members, func(m api.MemberStatus) bool { return m.Name == name })
		if i < 0 {
			return fmt.Errorf("%s does not know %s", st.Self, name)
		}
		switch m := st.Members[i]; {
		case m.State != api.MemberAlive || !m.Ready:
			return fmt.Errorf("%s says of %s: %s, ready %t", st.Self, name, m.State, m.Ready)
		case name != st.Self && !(m.Digest.Known && m.Digest.Equal):
			return fmt.Errorf("%s says of %s: table %+v, lag %+v", st.Self, name, m.Digest, m.Lag)
		}
	}
	return nil
}

// Owned are all addresses that directors own, and who is to hold each while these are away.
func Owned(l *lab.Lab, away ...string) map[netip.Addr]string {
	want := map[netip.Addr]string{}
	own := func(a netip.Addr, prefer []string) {
		want[a] = prefer[0]
		for _, name := range prefer {
			if !slices.Contains(away, name) {
				want[a] = name
				return
			}
		}
	}
	for i, a := range l.VIPs {
		own(a, Preferred(l, i))
	}
	for i, a := range l.Gateways {
		own(a, Preferred(l, i+1))
	}
	return want
}

// Holds tells whether the kernel of a director has an address.
func Holds(d *lab.Director, a netip.Addr) (holds bool, err error) {
	err = d.Run(func() error {
		list, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
		holds = slices.ContainsFunc(list, func(x netlink.Addr) bool {
			got, _ := netip.AddrFromSlice(x.IP)
			return got.Unmap() == a
		})
		return err
	})
	return holds, err
}

// HeldBy demands that each address is where it belongs, in the kernels of the directors, and nowhere else. Directors that are left
// out do not count.
func HeldBy(l *lab.Lab, want map[netip.Addr]string, leftOut ...string) error {
	var errs []error
	for a, name := range want {
		for _, d := range l.Directors {
			if slices.Contains(leftOut, d.Title) {
				continue
			}
			got, err := Holds(d, a)
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
