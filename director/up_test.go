package director

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"tunneldirector/affinity"
	"tunneldirector/director/api"
	"tunneldirector/director/plane"
)

// blind is a plane that sees no packets.
type blind struct{ plane.Plane }

// failing is a plane whose record of packets cannot be read.
type failing struct{ plane.Observer }

func (failing) Seen(plane.EndpointKey) (time.Time, error) {
	return time.Time{}, errors.New("no such map")
}

type failingPlane struct {
	plane.Plane
	failing
}

func TestEvidence(t *testing.T) {
	up, down, none := site(1), site(2), site(3)
	up.State, down.State, none.Endpoints = affinity.StateUp, affinity.StateDown, nil
	for _, c := range []struct {
		name string
		over func(*world) plane.Plane
		want [3]api.Evidence // up, down, none
	}{
		{"a plane that sees packets", func(*world) plane.Plane { return nil }, [3]api.Evidence{{Up: true, By: api.ByNMS}, {}, {}}},
		{"a plane that sees none", func(w *world) plane.Plane { return blind{w.plane} }, [3]api.Evidence{{Up: true, By: api.ByNMS}, {By: api.ByNobody}, {}}},
		{"a plane that fails", func(w *world) plane.Plane { return failingPlane{w.plane, failing{w.plane}} }, [3]api.Evidence{{Up: true, By: api.ByNMS}, {By: api.ByNobody}, {}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.base(1)
				w.over = c.over(w)
				w.restart(false)
				got, err := w.d.View().Up(t.Context(), []*affinity.Tunnel{up, down, none})
				if err != nil || [3]api.Evidence(got) != c.want {
					t.Errorf("evidence %+v, %v, want %+v", got, err, c.want)
				}
			})
		})
	}
}

// refusal is the text of an answer's only fault.
func refusal(t *testing.T, r affinity.Result) string {
	t.Helper()
	var x *affinity.Refusal
	if !errors.As(r.Err, &x) || x.Reason != affinity.Conflict || len(x.Faults) != 1 {
		t.Fatalf("answered %+v, want a conflict", r)
	}
	return x.Faults[0].Error()
}

// What would move a tunnel that is not said to be up: it does so where packets would show it, and nowhere else.
func TestNothingMovesUnseen(t *testing.T) {
	for _, sees := range []bool{true, false} {
		inWorld(t, func(w *world) {
			w.base(2)
			if !sees {
				w.over = blind{w.plane}
				w.restart(false)
			}
			apart := func() { // site 1 at rs1, site 2 at rs2
				for i, to := range map[int]string{1: "rs1", 2: "rs2"} {
					w.must(put(site(i)), affinity.Repin{By: operator, Group: affinity.GroupID(site(i).ID), To: to, Why: affinity.WhyRepinned})
				}
			}
			apart()
			idle := w.do(affinity.Repin{By: operator, Group: "site-0001", To: "rs2", Why: affinity.WhyRebalanced, Idle: true})[0]
			if sees != (idle.Err == nil) {
				t.Errorf("sees %v: a repin of what is idle: %+v", sees, idle)
			} else if !sees && !strings.Contains(refusal(t, idle), "may be up (plane mem sees no packets)") {
				t.Errorf("refused with %v", idle.Err)
			}
			if _, err := w.d.RebalancePlan(t.Context(), "ipsec"); sees != (err == nil) {
				t.Errorf("sees %v: rebalance: %v", sees, err)
			}
			apart()
			w.must(put(inGroup(site(1), "nat", 0)))
			w.must(put(inGroup(site(2), "nat", 0)))
			w.settle()
			time.Sleep(time.Hour)
			second := map[bool]string{true: "rs1", false: "rs2"}[sees]
			w.at(site(1), "rs1")
			w.at(site(2), second)
			w.must(put(inGroup(site(2), "nat", 0))) // a push of the same brings it to its group no more than that
			w.at(site(2), second)
			w.must(affinity.Repin{By: operator, Group: "site-0002", To: "rs1", Why: affinity.WhyRepinned}) // an operator may
			w.at(site(2), "rs1")
		})
	}
}

// A change that cannot be made without a move is refused.
func TestChangesThatWouldMoveUnseen(t *testing.T) {
	inWorld(t, func(w *world) {
		w.base(2)
		w.over = blind{w.plane}
		w.restart(false)
		w.must(affinity.PutService{By: operator, Service: &affinity.Service{Name: "wg", VIPs: []netip.Addr{netip.MustParseAddr("192.0.2.11")}, Match: []affinity.Match{{Proto: 17, Lo: 51820, Hi: 51820}}}})
		w.must(affinity.PutRealServer{By: operator, RealServer: &affinity.RealServer{Name: "rs3", Addrs: []netip.Addr{netip.MustParseAddr("198.51.100.3")}, Services: []string{"wg"}, Weight: 1}})
		w.verdict("rs3", true)
		w.must(put(site(1)))
		was, _ := w.ways(site(1))
		other := site(1)
		other.Service = "wg"
		if said := refusal(t, w.do(put(other))[0]); !strings.Contains(said, "may be up") || !strings.Contains(said, "repin it first") {
			t.Errorf("refused with %s", said)
		}
		w.at(site(1), was)
	})
}
