package director

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"tunneldirector/affinity"
)

func TestPushPlacesAndPrograms(t *testing.T) {
	inWorld(t, func(w *world) {
		w.base(3)
		r := w.must(put(site(1)))[0]
		if !r.Created || r.Pin.Primary == 0 || r.Pin.Backup == 0 || r.Pin.Primary == r.Pin.Backup {
			t.Fatalf("result %+v", r)
		}
		w.at(site(1), w.d.Table().NameAt(r.Pin.Primary))
		if r := w.must(put(site(1)))[0]; r.Changed {
			t.Error("the same push again changed something")
		}
		w.must(affinity.DeleteTunnel{By: affinity.Actor{Name: "nms"}, ID: "site-0001"})
		w.at(site(1), "")
	})
}

func TestDeathIsLatched(t *testing.T) {
	inWorld(t, func(w *world) {
		w.base(3)
		for i := range 90 {
			w.must(put(site(i)))
		}
		before := map[int]string{}
		for i := range 90 {
			before[i], _ = w.ways(site(i))
		}
		commits := len(w.disk.commits)
		w.verdict("rs1", false)
		if got := w.disk.commits[commits]; got != 1 {
			t.Errorf("the death of a real server is %d records on disk, want 1", got)
		}
		after := map[int]string{}
		for i := range 90 {
			in, out := w.ways(site(i))
			if after[i] = in; in != out || in == "rs1" || in == "" {
				t.Fatalf("site %d goes to %q and returns by %q right after the death of rs1", i, in, out)
			}
			if before[i] != "rs1" && in != before[i] {
				t.Fatalf("site %d moved from the living %s to %s", i, before[i], in)
			}
		}
		w.settle()
		w.verdict("rs1", true) // a new incarnation: nothing moves back
		w.settle()
		for i := range 90 {
			w.at(site(i), after[i])
		}
		life, _ := w.d.Table().LifeOf("rs1")
		if life.Incarnation != 2 || life.Index == 1 {
			t.Errorf("rs1 returned as incarnation %d at index %d", life.Incarnation, life.Index)
		}
		if n := w.d.Table().Alone(); n != 0 {
			t.Errorf("%d tunnels have no backup after rs1 returned", n)
		}
		w.restart(true)
		for i := range 90 {
			w.at(site(i), after[i])
		}
	})
}

func TestBothDeadAreReplacedFirst(t *testing.T) {
	inWorld(t, func(w *world) {
		w.base(3)
		for i := range 30 {
			w.must(put(site(i)))
		}
		w.verdict("rs1", false)
		w.verdict("rs2", false)
		w.settle()
		for i := range 30 {
			w.at(site(i), "rs3")
		}
	})
}

func TestFullIsUnplacedUntilThereIsRoom(t *testing.T) {
	inWorld(t, func(w *world) {
		w.base(2, func(rs *affinity.RealServer) { rs.Capacity = 2 })
		for i := range 6 {
			r := w.must(put(site(i)))[0]
			if placed := r.Pin.Primary != 0; placed != (i < 4) && i >= 4 {
				t.Fatalf("tunnel %d placed: %v", i, placed)
			}
			if i == 5 && (r.Pin.Primary != 0 || !strings.Contains(strings.Join(r.Warnings, " "), "rs1")) {
				t.Fatalf("tunnel %d: %+v: want unplaced, and why", i, r)
			}
		}
		w.at(site(5), "")
		rs, _ := w.d.Table().RealServer("rs2")
		more := *rs
		more.Capacity = 10
		w.must(affinity.PutRealServer{By: operator, RealServer: &more})
		w.settle()
		w.at(site(5), "rs2")
		if n := w.d.Table().Unplaced(); n != 0 {
			t.Errorf("%d unplaced", n)
		}
	})
}

func TestNoPanic(t *testing.T) {
	for _, c := range []struct {
		name        string
		hold, allow func(*world)
	}{
		{"nobody answers", func(w *world) { w.host.set(func(m *machine) { m.answering = 0 }) }, func(w *world) { w.host.set(func(m *machine) { m.answering = 1 }) }},
		{"own link down", func(w *world) { w.host.set(func(m *machine) { m.linkDown = true }) }, func(w *world) { w.host.set(func(m *machine) { m.linkDown = false }) }},
		{"frozen", func(w *world) { w.must(affinity.SetFreeze{By: operator, On: true}) }, func(w *world) { w.must(affinity.SetFreeze{By: operator}) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.base(2)
				w.must(put(site(1)))
				was, _ := w.ways(site(1))
				c.hold(w)
				w.verdict(was, false)
				w.settle()
				w.at(site(1), was)
				s, err := w.d.View().Status(w.t.Context())
				if err != nil || !strings.Contains(strings.Join(s.Alarms, "\n"), was+" does not answer") {
					t.Errorf("alarms %q (%v)", s.Alarms, err)
				}
				c.allow(w)
				w.settle()
				if now, _ := w.ways(site(1)); now == was || now == "" {
					t.Errorf("after the hold the tunnel is at %q, and %s is dead", now, was)
				}
			})
		})
	}
}

// TestEndOfACut: when a director that was cut off reaches real servers again, one by one, it does not take the first one's
// answers for a proof that the others are dead; one that stays away is believed dead soon.
func TestEndOfACut(t *testing.T) {
	inWorld(t, func(w *world) {
		w.base(3)
		w.must(put(site(1)))
		w.must(put(site(2)))
		w.must(put(site(3)))
		one, _ := w.ways(site(1))
		two, _ := w.ways(site(2))
		three, _ := w.ways(site(3))
		w.host.set(func(m *machine) { m.answering = 0 })
		for _, name := range []string{one, two, three} {
			w.verdict(name, false)
		}
		w.settle()
		w.host.set(func(m *machine) { m.answering = 1 })
		w.verdict(one, true)
		time.Sleep(1500 * time.Millisecond)
		w.verdict(two, true)
		w.at(site(2), two)
		w.at(site(3), three)
		w.settle()
		w.at(site(1), one)
		w.at(site(2), two)
		if now, _ := w.ways(site(3)); now == three || now == "" {
			t.Errorf("the tunnel of %s, which stayed away, is at %q", three, now)
		}
	})
}

func TestDiskRefusesNothingChanges(t *testing.T) {
	inWorld(t, func(w *world) {
		w.base(2)
		w.must(put(site(1)))
		before := w.d.Table().Revision()
		w.disk.refuse(errFull)
		r := w.do(put(site(2)), affinity.DeleteTunnel{By: affinity.Actor{Name: "nms"}, ID: "site-0001"})
		for _, x := range r {
			var refusal *affinity.Refusal
			if !errors.As(x.Err, &refusal) || refusal.Reason != affinity.Unwritable || !strings.Contains(x.Err.Error(), "disk full") {
				t.Errorf("answer %+v, want Unwritable", x)
			}
		}
		if in, _ := w.ways(site(1)); in == "" {
			t.Error("the refused delete took effect")
		}
		w.at(site(2), "")
		if w.d.Table().Revision() != before || w.d.Table().Len() != 1 {
			t.Error("the refused changes are in the table")
		}
		was, _ := w.ways(site(1))
		w.verdict(was, false) // the plane fails over although the disk refuses
		if now, _ := w.ways(site(1)); now == was || now == "" {
			t.Errorf("with a full disk the tunnel stays at dead %s (now %q)", was, now)
		}
		w.disk.refuse(nil)
		w.settle()
		w.must(put(site(2)))
		if life, _ := w.d.Table().LifeOf(was); life.Alive {
			t.Errorf("%s is not latched dead after the disk has room again", was)
		}
	})
}

func TestRestartKeepsEverything(t *testing.T) {
	inWorld(t, func(w *world) {
		w.base(3)
		want := map[int]string{}
		for i := range 50 {
			w.must(put(site(i)))
			want[i], _ = w.ways(site(i))
		}
		w.must(affinity.SetFreeze{By: operator, On: true})
		revision := w.d.Table().Revision()
		w.restart(true)
		if got := w.d.Table(); got.Revision() != revision || got.Len() != 50 || !got.Freeze().On {
			t.Errorf("after the restart: revision %d (want %d), %d tunnels, frozen %v", got.Revision(), revision, got.Len(), got.Freeze().On)
		}
		for i := range 50 {
			w.at(site(i), want[i])
		}
	})
}

func inGroup(t *affinity.Tunnel, group string, state affinity.State) *affinity.Tunnel {
	t.Group, t.State = group, state
	return t
}

func TestGroups(t *testing.T) {
	inWorld(t, func(w *world) {
		w.base(3)
		w.must(put(inGroup(site(1), "nat", 0)), put(inGroup(site(2), "nat", 0)))
		home, _ := w.ways(site(1))
		w.at(site(2), home)

		// a tunnel that is up elsewhere keeps its real server when it joins, until it is down
		other := 3
		for w.must(put(site(other))); ; other++ {
			w.must(put(site(other)))
			if in, _ := w.ways(site(other)); in != home {
				break
			}
		}
		was, _ := w.ways(site(other))
		r := w.must(put(inGroup(site(other), "nat", affinity.StateUp)))[0]
		if len(r.Warnings) == 0 || !strings.Contains(r.Warnings[0], "split") {
			t.Errorf("warnings %q, want split", r.Warnings)
		}
		w.at(site(other), was)
		w.must(affinity.Repin{By: operator, Group: "@nat", To: was, Why: affinity.WhyRepinned})
		for _, n := range []int{1, 2, other} {
			w.at(site(n), was)
		}

		// leaving keeps the real server
		w.must(put(site(2)))
		w.at(site(2), was)
		w.must(affinity.Repin{By: operator, Group: "@nat", To: home, Why: affinity.WhyRepinned})
		w.at(site(2), was)
		w.at(site(1), home)
		w.restart(true)
		w.at(site(2), was)
		w.at(site(1), home)
	})
}

func TestSeparateFrom(t *testing.T) {
	inWorld(t, func(w *world) {
		w.base(4)
		for i := 0; i < 40; i += 2 {
			a, b := site(i), site(i+1)
			a.SeparateFrom = []string{b.ID} // said on one side only, and before the other is known
			w.must(put(a), put(b))
			x, _ := w.ways(a)
			if y, _ := w.ways(b); x == y {
				t.Fatalf("%s and %s are both at %s", a.ID, b.ID, x)
			}
		}
	})
}

func TestTenantsThatOverlapStayApart(t *testing.T) {
	inWorld(t, func(w *world) {
		w.base(2)
		w.must(affinity.PutTenant{By: operator, Tenant: &affinity.Tenant{Name: "acme", Covers: []netip.Prefix{netip.MustParsePrefix("100.64.0.0/10")}}})
		theirs := site(7)
		theirs.ID, theirs.Tenant, theirs.Endpoints = "acme-7", "acme", site(8).Endpoints
		r := w.must(put(site(7)), put(theirs))
		if r[1].Pin.Primary != 0 {
			t.Errorf("overlapping tenants share a real server as primary or backup: %+v %+v", r[0].Pin, r[1].Pin)
		}
		w.must(affinity.PutRealServer{By: operator, RealServer: &affinity.RealServer{Name: "rs3", Addrs: []netip.Addr{netip.MustParseAddr("198.51.100.3")}, Services: []string{"ipsec"}, Weight: 100}})
		w.verdict("rs3", true)
		w.settle()
		pin, _ := w.d.Table().Pin("acme-7")
		if got := w.d.Table().NameAt(pin.Primary); got != "rs3" {
			t.Errorf("the other tenant's tunnel is at %q, want rs3", got)
		}
	})
}

func TestDrainTakesNoNewPins(t *testing.T) {
	inWorld(t, func(w *world) {
		w.base(3)
		w.must(put(site(0)))
		at, _ := w.ways(site(0))
		w.must(affinity.SetAdmin{By: operator, Name: at, Admin: affinity.Drained})
		for i := 1; i < 20; i++ {
			w.must(put(site(i)))
			if in, _ := w.ways(site(i)); in == at {
				t.Fatalf("%s is drained and got a new tunnel", at)
			}
		}
		w.at(site(0), at)
	})
}

func TestRemoveRealServer(t *testing.T) {
	inWorld(t, func(w *world) {
		w.base(3)
		for i := range 30 {
			w.must(put(site(i)))
		}
		if r := w.do(affinity.DeleteRealServer{By: operator, Name: "rs1"})[0]; r.Err == nil || !strings.Contains(r.Err.Error(), "tunnels are pinned") {
			t.Fatalf("removed although tunnels are pinned to it: %+v", r)
		}
		w.must(affinity.DeleteRealServer{By: operator, Name: "rs1", Force: true})
		w.settle()
		for i := range 30 {
			if in, out := w.ways(site(i)); in == "" || in == "rs1" || in != out {
				t.Fatalf("site %d is at %q and %q", i, in, out)
			}
		}
		if n := len(w.d.Table().Lives()); n != 2 {
			t.Errorf("%d incarnations are known, want the two that live", n)
		}
	})
}

func TestEventsAndRevisions(t *testing.T) {
	inWorld(t, func(w *world) {
		w.base(2)
		since := w.d.Table().Revision()
		w.must(put(site(1)), put(site(2)))
		list, err := w.d.View().Events(w.t.Context(), since)
		if err != nil || len(list) != 2 || list[0].Kind != "placed" || list[1].Seq != w.d.Table().Revision() {
			t.Fatalf("events %+v (%v)", list, err)
		}
		w.restart(false)
		if _, err := w.d.View().Events(w.t.Context(), since); err == nil {
			t.Error("events from before the restart are said to be known")
		}
		go func() {
			time.Sleep(time.Second)
			w.do(put(site(3)))
		}()
		list, err = w.d.View().Events(w.t.Context(), w.d.Table().Revision())
		if err != nil || len(list) != 1 || list[0].Object != "site-0003" {
			t.Fatalf("events %+v (%v)", list, err)
		}
		w.settle() // events are told before the answer
	})
}

func TestTombstonesEnd(t *testing.T) {
	inWorld(t, func(w *world) {
		w.base(1)
		nms := affinity.Actor{Name: "nms"}
		old := site(1)
		old.Generation = 5
		w.must(put(old), affinity.DeleteTunnel{By: nms, ID: old.ID, Generation: 6})
		if r := w.do(put(old))[0]; r.Err == nil {
			t.Error("a late retry undid a delete")
		}
		w.skew.Store(int64(TombstonesLive - 2*time.Hour))
		time.Sleep(61 * time.Minute)
		if r := w.do(put(old))[0]; r.Err == nil {
			t.Error("a late retry undid a delete, almost a month later")
		}
		w.skew.Store(int64(TombstonesLive))
		time.Sleep(61 * time.Minute)
		w.must(put(old))
	})
}
