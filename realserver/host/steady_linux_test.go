package host

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestDownForAWhile: what is not needed while a device is down stays, so that it is there when the device is up again; it goes when
// the configuration does.
func TestDownForAWhile(t *testing.T) {
	s := newSite(t)
	s.rs.set("net/ipv4/conf/eth0/rp_filter", "1")
	s.rs.set("net/ipv4/conf/all/rp_filter", "0")
	s.rs.ip("address add 192.0.2.11/24 dev eth1\n")
	before := s.rs.snapshot()
	in := s.instance()
	in.VIPs = in.VIPs[:1]
	h := s.host(t, in)
	read := func() string {
		var all []string
		s.rs.in(func(v *view) error {
			for _, f := range []string{"eth0/rp_filter", "eth1/arp_ignore"} {
				x, err := v.setting("net/ipv4/conf/" + f)
				must(t, err)
				all = append(all, x)
			}
			return nil
		})
		return strings.Join(all, " ")
	}
	_, err := h.Apply(t.Context())
	must(t, err)
	applied := read()
	s.rs.ip("address del 192.0.2.11/24 dev eth1\nlink set eth1 down\n")
	_, err = h.Apply(t.Context())
	must(t, err)
	if got := read(); got != applied {
		t.Errorf("while eth1 is down: %s, want %s as applied", got, applied)
	}
	s.rs.ip("link set eth1 up\naddress add 192.0.2.11/24 dev eth1\n")
	s.rs.settle("eth1")
	_, err = s.host(t).Apply(t.Context())
	must(t, err)
	if diff := cmp.Diff(before, s.rs.snapshot()); diff != "" {
		t.Errorf("without the real server (-want +got):\n%s", diff)
	}
}

// TestOursNoMore: a device that somebody else made under the name of ours, which is gone, is not deleted.
func TestOursNoMore(t *testing.T) {
	s := newSite(t)
	in := s.instance()
	in.Holder = "hold0"
	st, err := loadState(s.file)
	must(t, err)
	st.note(string(s.rs.ns), device{"hold0"}.key(), "", "dummy")
	must(t, st.save(s.file))
	s.rs.ip("link add hold0 type bridge\n")
	_, err = s.host(t, in).Apply(t.Context())
	if err == nil || !strings.Contains(err.Error(), "hold0 is bridge, which is not ours") {
		t.Errorf("error %v", err)
	}
	if !strings.Contains(s.rs.ip("-d link show dev hold0"), "bridge") {
		t.Error("the bridge is gone")
	}
	changes, err := s.host(t, in).Revert(t.Context())
	must(t, err)
	left := slices.ContainsFunc(changes, func(c Change) bool { return c.Object == "device hold0" && c.Left })
	if !left || !strings.Contains(s.rs.ip("-d link show dev hold0"), "bridge") {
		t.Errorf("revert: %v", changes)
	}
}

// TestVIPStays: a VIP is taken away from where it was when it is where it is wanted now, and not before.
func TestVIPStays(t *testing.T) {
	s := newSite(t)
	in := s.instance()
	_, err := s.host(t, in).Apply(t.Context())
	must(t, err)
	st, err := loadState(s.file) // a device of that name was ours, and is somebody else's now: it cannot be made
	must(t, err)
	st.note(string(s.rs.ns), device{"hold0"}.key(), "", "dummy")
	must(t, st.save(s.file))
	s.rs.ip("link add hold0 type bridge\n")
	in.Holder = "hold0"
	if _, err = s.host(t, in).Apply(t.Context()); err == nil {
		t.Fatal("somebody else's device was taken for ours")
	}
	for _, vip := range in.VIPs {
		if !strings.Contains(s.rs.ip("address show dev lo"), vip.String()) {
			t.Errorf("%v is gone from lo, and has no other place", vip)
		}
	}
}
