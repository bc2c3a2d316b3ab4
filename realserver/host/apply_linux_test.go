package host

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// variants are what apply and revert are tried with.
func variants(s site) map[string]Instance {
	out := map[string]Instance{}
	add := func(name string, change func(*Instance)) {
		in := s.instance()
		change(&in)
		out[name] = in
	}
	add("both families", func(*Instance) {})
	add("IPv4 alone", func(in *Instance) { in.VIPs = []netip.Addr{vip4} })
	add("IPv6 alone", func(in *Instance) { in.VIPs = []netip.Addr{vip6} })
	add("gateways and a mark", func(in *Instance) {
		in.Via, in.Mark, in.ShareL2 = []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}, 7, true
	})
	return out
}

func only(changes []Change, left bool) (out []Change) {
	for _, c := range changes {
		if c.Left == left {
			out = append(out, c)
		}
	}
	return out
}

func TestApplyRevert(t *testing.T) {
	s := newSite(t)
	s.rs.set("net/ipv4/conf/all/rp_filter", "1")
	s.rs.set("net/ipv4/conf/eth1/forwarding", "1") // and ip_forward is 0
	s.rs.set("net/ipv4/conf/all/accept_redirects", "0")
	before := s.rs.snapshot()
	for name, in := range variants(s) {
		t.Run(name, func(t *testing.T) {
			h := s.host(t, in)
			planned, err := h.Plan(t.Context())
			must(t, err)
			if diff := cmp.Diff(before, s.rs.snapshot()); diff != "" {
				t.Fatalf("Plan touched the host:\n%s", diff)
			}
			done, err := h.Apply(t.Context())
			must(t, err)
			if diff := cmp.Diff(planned, done); diff != "" || len(done) == 0 {
				t.Errorf("Apply did not as Plan said:\n%s", diff)
			}
			for _, vip := range in.VIPs {
				if !strings.Contains(s.rs.ip("address show dev lo"), vip.String()+"/") {
					t.Errorf("%v is not on lo", vip)
				}
			}
			if again, err := h.Apply(t.Context()); err != nil || len(again) > 0 {
				t.Errorf("Apply a second time: %v, %v", again, err)
			}
			if st, err := os.Stat(s.file); err != nil || st.Mode().Perm() != 0o600 {
				t.Errorf("state file: %v, %v", st, err)
			}
			_, err = s.host(t).Revert(t.Context()) // the state file says it all
			must(t, err)
			if diff := cmp.Diff(before, s.rs.snapshot()); diff != "" {
				t.Errorf("Revert did not bring back what was there:\n%s", diff)
			}
			if _, err := os.Stat(s.file); err == nil {
				t.Error("the state file is left")
			}
		})
	}
}

// Apply that is killed between any two steps leaves what Revert understands, and what Apply takes up again.
func TestApplyKilled(t *testing.T) {
	s := newSite(t)
	before := s.rs.snapshot()
	in := variants(s)["gateways and a mark"]
	h := s.host(t, in)
	for n, killed := 0, true; killed; n++ {
		looks := n
		_, err := h.Apply(dying{t.Context(), &looks})
		killed = errors.Is(err, context.Canceled)
		if err != nil && !killed {
			t.Fatal(err)
		}
		if n%3 == 0 {
			_, err = h.Apply(t.Context())
			must(t, err)
		}
		_, err = h.Revert(t.Context())
		must(t, err)
		if diff := cmp.Diff(before, s.rs.snapshot()); diff != "" {
			t.Fatalf("killed after %d steps, Revert left:\n%s", n, diff)
		}
		if n > 200 {
			t.Fatal("Apply never ends")
		}
	}
}

// Revert that is killed is taken up by the next one.
func TestRevertKilled(t *testing.T) {
	s := newSite(t)
	before := s.rs.snapshot()
	h := s.host(t, s.instance())
	_, err := h.Apply(t.Context())
	must(t, err)
	for err = context.Canceled; errors.Is(err, context.Canceled); {
		looks := 1
		_, err = h.Revert(dying{t.Context(), &looks})
	}
	must(t, err)
	if diff := cmp.Diff(before, s.rs.snapshot()); diff != "" {
		t.Fatalf("Revert left:\n%s", diff)
	}
}
