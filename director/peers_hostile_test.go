package director

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"tunneldirector/affinity"
)

// wide is a site with a bandwidth of its own.
func wide(n int) *affinity.Tunnel {
	tun := site(n)
	tun.Bandwidth = uint64(n*7919%13+1) * 1_000_000
	return tun
}

func recordsOf(t *affinity.Table, want func(k affinity.Kind) bool) (out []affinity.Change) {
	t.Records(func(k affinity.Kind, key string) bool {
		if c, ok := t.Record(k, key); ok && want(k) {
			out = append(out, c)
		}
		return true
	})
	return out
}

// T1: a round sends tunnels before their pins; the assigner places them anew meanwhile, and its pins win.
func TestHostileTunnelsBeforePins(t *testing.T) {
	inHub(t, 2, func(h *hub) {
		t := h.t
		h.base(4)
		d1, d2 := h.nodes["d1"], h.nodes["d2"]
		for i := range 7 {
			d1.must(put(site(i)))
		}
		time.Sleep(time.Second)
		h.cut(true, [2]string{"d1", "d2"})
		time.Sleep(3 * time.Second)
		for i := range 9 { // meanwhile d1 has pushes of its own
			d1.must(put(wide(300 + i)))
		}
		for i := range 40 {
			d2.must(put(wide(100 + i)))
		}
		time.Sleep(time.Second)
		was := d2.d.Table()
		h.compare(true) // the link is back: what a round sends, in two deltas
		if err := d1.d.Merge(t.Context(), "d2", recordsOf(was, func(k affinity.Kind) bool { return k == affinity.KindTunnel })); err != nil {
			t.Fatal(err)
		}
		if err := d1.d.Merge(t.Context(), "d2", recordsOf(was, func(k affinity.Kind) bool { return k == affinity.KindPin })); err != nil {
			t.Fatal(err)
		}
		h.compare(false)
		h.cut(false, [2]string{"d1", "d2"})
		time.Sleep(10 * time.Second)
		moved := 0
		for i := range 40 {
			g := affinity.GroupID(fmt.Sprintf("site-%04d", 100+i))
			before, _ := was.Pin(g)
			after, _ := d2.d.Table().Pin(g)
			if was.NameAt(before.Primary) != d2.d.Table().NameAt(after.Primary) {
				moved++
			}
		}
		if moved > 0 {
			t.Errorf("%d of 40 tunnels that d2 had placed were moved; siblings kept: %d", moved, len(d1.d.joint.siblings))
		}
	})
}

// T2: a pin that names an incarnation that has not come yet.
func TestHostilePinBeforeLife(t *testing.T) {
	inHub(t, 2, func(h *hub) {
		t := h.t
		h.base(3)
		d1, d2 := h.nodes["d1"], h.nodes["d2"]
		h.cut(true, [2]string{"d1", "d2"})
		time.Sleep(3 * time.Second)
		d2.must(affinity.PutRealServer{By: operator, RealServer: &affinity.RealServer{Name: "rs9", Addrs: []netip.Addr{netip.MustParseAddr("198.51.100.9")}, Services: []string{"ipsec"}, Weight: 100}})
		d2.world.verdict("rs9", true)
		for i := range 20 {
			d2.must(put(site(i)))
		}
		for i := range 20 {
			d2.must(affinity.Repin{By: operator, Group: affinity.GroupID(fmt.Sprintf("site-%04d", i)), To: "rs9"})
		}
		was := d2.d.Table()
		send := func(kinds ...affinity.Kind) {
			if err := d1.d.Merge(t.Context(), "d2", recordsOf(was, func(k affinity.Kind) bool {
				for _, x := range kinds {
					if x == k {
						return true
					}
				}
				return false
			})); err != nil {
				t.Fatal(err)
			}
		}
		h.compare(true)
		send(affinity.KindRealServer, affinity.KindPin, affinity.KindTunnel)
		time.Sleep(200 * time.Millisecond) // a few deltas later
		send(affinity.KindLife)
		h.compare(false)
		h.cut(false, [2]string{"d1", "d2"})
		time.Sleep(10 * time.Second)
		moved := 0
		for i := range 20 {
			p, _ := d2.d.Table().Pin(affinity.GroupID(fmt.Sprintf("site-%04d", i)))
			if d2.d.Table().NameAt(p.Primary) != "rs9" {
				moved++
			}
		}
		if moved > 0 {
			t.Errorf("%d of 20 tunnels were moved off rs9, which was alive all the time", moved)
		}
	})
}

// T3: d2, cut off from d1 and from rs1, latches rs1's death; rs1 answered d1 all the time.
func TestHostileDeathAcrossPartition(t *testing.T) {
	inHub(t, 2, func(h *hub) {
		t := h.t
		h.base(4)
		d1, d2 := h.nodes["d1"], h.nodes["d2"]
		for i := range 40 {
			d1.must(put(wide(i)))
		}
		time.Sleep(time.Second)
		was := map[int]string{}
		for i := range 40 {
			was[i], _ = d1.ways(site(i))
		}
		h.cut(true, [2]string{"d1", "d2"})
		time.Sleep(2 * time.Second)
		for _, n := range []string{"rs3", "rs4"} {
			d1.world.verdict(n, false)
		}
		time.Sleep(time.Second)
		for _, n := range []string{"rs1", "rs2"} {
			d2.world.verdict(n, false)
		}
		time.Sleep(5 * time.Second)
		h.cut(false, [2]string{"d1", "d2"})
		for _, n := range []string{"rs1", "rs2"} {
			d2.world.verdict(n, true)
		}
		for _, n := range []string{"rs3", "rs4"} {
			d1.world.verdict(n, true)
		}
		time.Sleep(15 * time.Second)
		h.equal()
		moved, of := 0, 0
		for i := range 40 {
			if was[i] != "rs1" && was[i] != "rs2" {
				continue
			}
			of++
			if in, _ := d1.ways(site(i)); in != was[i] {
				moved++
			}
		}
		if moved > of/4 { // no agent says where any of them is up
			t.Errorf("%d of %d tunnels whose real server answered d1 all the time were moved", moved, of)
		}
	})
}

// T4: the assigner's disk is full, and a real server dies for everybody.
func TestHostileDeathWithFullDisk(t *testing.T) {
	inHub(t, 3, func(h *hub) {
		t := h.t
		h.base(3)
		d1 := h.nodes["d1"]
		d1.must(put(site(1)))
		time.Sleep(time.Second)
		name, _ := d1.ways(site(1))
		d1.disk.refuse(errFull)
		h.reports(name, false)
		time.Sleep(10 * time.Second)
		for _, n := range h.all() {
			if in, _ := n.ways(site(1)); in == name {
				t.Errorf("%s sends to %s, which nobody reaches, for 10 s", n.member.Name, name)
			}
		}
		t.Logf("assigner by d2: %s", h.nodes["d2"].View().Assigner())
		d1.disk.refuse(nil)
	})
}

// T5: a director whose commit takes 8 s says in its beats what it said before.
func TestHostileSlowCommit(t *testing.T) {
	inHub(t, 3, func(h *hub) {
		t := h.t
		h.base(3)
		d1, d2, d3 := h.nodes["d1"], h.nodes["d2"], h.nodes["d3"]
		d1.must(put(site(1)))
		time.Sleep(time.Second)
		name, _ := d1.ways(site(1))
		d3.disk.pause(8 * time.Second)
		go d3.d.Do(t.Context(), []affinity.Op{put(site(50))})
		time.Sleep(100 * time.Millisecond)
		for _, n := range h.all() { // no synctest.Wait in between is needed
			n.world.verdict(name, false)
		}
		time.Sleep(4 * time.Second)
		for _, n := range []*node{d1, d2} {
			if in, _ := n.ways(site(1)); in == name {
				t.Errorf("%s sends to %s, which nobody reaches, 4 s after its death; sick %v; holds %d", n.member.Name, name, n.said().Sick, len(n.said().Holds))
			}
		}
		d3.disk.pause(0)
		time.Sleep(10 * time.Second)
	})
}

// T6: more than 128 addresses.
func TestHostileManyAddresses(t *testing.T) {
	inHub(t, 2, func(h *hub) {
		t := h.t
		h.base(2)
		d1, d2 := h.nodes["d1"], h.nodes["d2"]
		for i := range 43 {
			s := &affinity.Service{Name: fmt.Sprintf("s%d", i), Match: []affinity.Match{{Proto: 17, Lo: 500, Hi: 500}}}
			for j := range 3 {
				s.VIPs = append(s.VIPs, netip.AddrFrom4([4]byte{192, 0, 3, byte(3*i + j)}))
			}
			d1.must(affinity.PutService{By: operator, Service: s})
		}
		time.Sleep(2 * time.Second)
		d1.end()
		time.Sleep(2 * time.Second)
		d1.begin()
		time.Sleep(120 * time.Second)
		a, b := len(*d1.d.holding.Load()), len(*d2.d.holding.Load())
		if a > 0 && b > 0 {
			t.Errorf("two minutes after d1 came back d1 holds %d addresses and d2 %d", a, b)
		}
	})
}

// T8: a real server without services.
func TestHostileRealServerWithoutServices(t *testing.T) {
	inHub(t, 2, func(h *hub) {
		t := h.t
		h.base(1)
		rs := &affinity.RealServer{Header: affinity.Header{Stamp: affinity.NewStamp(time.Now(), 0), Origin: "d2", Format: affinity.Format}, Name: "rs7", Addrs: []netip.Addr{netip.MustParseAddr("198.51.100.7")}, Weight: 1}
		v, err := rs.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if err := h.nodes["d1"].d.Merge(t.Context(), "d2", []affinity.Change{{Kind: affinity.KindRealServer, Key: "rs7", Value: v}}); err != nil {
			t.Log(err)
		}
		h.nodes["d1"].world.verdict("rs7", true)
		time.Sleep(2 * time.Second)
	})
}

// T12: an announced tunnel takes the learned one's place, through another director than the assigner.
func TestHostileLearnedAtOther(t *testing.T) {
	inHub(t, 2, func(h *hub) {
		t := h.t
		h.base(4)
		d1, d2 := h.nodes["d1"], h.nodes["d2"]
		moved := 0
		for i := range 12 {
			tun := *site(i)
			tun.Bandwidth = 0
			tun.ID, tun.Owner = fmt.Sprintf("learned:%d", i), affinity.LearnedOwner
			tun.Created = affinity.NewStamp(time.Now(), 0)
			tun.Header = affinity.Header{Stamp: affinity.NewStamp(time.Now(), 1), Origin: "d2", Format: affinity.Format}
			v, err := tun.Encode()
			if err != nil {
				t.Fatal(err)
			}
			c := []affinity.Change{{Kind: affinity.KindTunnel, Key: tun.ID, Value: v}}
			if err := d1.d.Merge(t.Context(), "d2", c); err != nil {
				t.Fatal(err)
			}
			if err := d2.d.Merge(t.Context(), "d1", c); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		for i := range 12 {
			was, _ := d1.ways(site(i))
			d2.must(put(wide(i)))
			time.Sleep(100 * time.Millisecond)
			if is, _ := d1.ways(site(i)); is != was {
				moved++
			}
		}
		if moved > 0 {
			t.Errorf("%d of 12 learned tunnels were moved when they were announced at d2", moved)
		}
		synctest.Wait()
	})
}

// T13: a tombstone that one director has forgotten and another has not, and whose key was used again meanwhile.
func TestHostileForgottenTombstone(t *testing.T) {
	tab := affinity.NewTable("a", 0)
	day := time.Unix(1_800_000_000, 0)
	dead := &affinity.Life{Header: affinity.Header{Stamp: affinity.NewStamp(day, 0), Origin: "d1", Epoch: 3, Deleted: true, Format: affinity.Format}, RealServer: "rs1", Incarnation: 1, Index: 17}
	tab.SetLife(dead)
	before := affinity.NewStamp(day.Add(time.Hour), 0) // 30 days later
	tab.ForgetTombstones(before)
	tab.SetLife(&affinity.Life{Header: affinity.Header{Stamp: affinity.NewStamp(day.Add(31*24*time.Hour), 0), Origin: "d1", Epoch: tab.LifeEpoch(17) + 1}, RealServer: "rs5", Incarnation: 1, Index: 17, Alive: true})
	v, _ := dead.Encode()
	newer, err := tab.Merge(affinity.KindLife, affinity.LifeKey(17), v, before)
	if err != nil {
		t.Fatal(err)
	}
	if newer || !tab.AliveAt(17) {
		t.Error("a tombstone that has served its time ends the incarnation that has the index now")
	}
}

// T14: a director that cannot write goes on being the assigner.
func TestHostileFullDiskPlaces(t *testing.T) {
	inHub(t, 3, func(h *hub) {
		t := h.t
		h.base(3)
		h.nodes["d1"].disk.refuse(errFull)
		h.nodes["d2"].must(put(site(1)))
		time.Sleep(20 * time.Second)
		for _, n := range h.all() {
			if in, _ := n.ways(site(1)); in == "" && n.member.Name != "d1" {
				t.Errorf("%s: a tunnel pushed at d2 20 s ago is not placed", n.member.Name)
			}
		}
		h.nodes["d1"].disk.refuse(nil)
	})
}

// T16: births at two sides, and the index of the loser.
func TestHostileLeaveWithUnready(t *testing.T) {
	inHub(t, 2, func(h *hub) {
		t := h.t
		h.base(2)
		d1, d2 := h.nodes["d1"], h.nodes["d2"]
		d2.end()
		time.Sleep(time.Second)
		h.mu.Lock()
		h.unsynced = true
		h.mu.Unlock()
		d2.begin() // it compares tables for a minute
		time.Sleep(3 * time.Second)
		d1.end()
		time.Sleep(2 * time.Second)
		d1.begin()
		time.Sleep(30 * time.Second)
		for _, n := range h.all() {
			t.Log(n.member.Name, "ready", n.said().Ready, "holds", len(n.said().Holds), "tunnels", n.d.Table().Len())
		}
		if len(d1.said().Holds) == 0 {
			t.Error("30 s after its restart d1, which has the table, holds nothing, because d2 is not ready")
		}
		_ = fmt.Sprint()
	})
}

// T17: as T15, with pushes that only one of the two has seen.
func TestHostileTriangleApart(t *testing.T) {
	inHub(t, 3, func(h *hub) {
		t := h.t
		h.base(4)
		h.cut(true, [2]string{"d1", "d2"})
		time.Sleep(3 * time.Second)
		for i := range 9 {
			h.nodes["d1"].must(put(wide(300 + i)))
		}
		for i := range 20 {
			h.nodes["d3"].must(put(wide(i)))
			time.Sleep(300 * time.Millisecond)
		}
		time.Sleep(3 * time.Second)
		split := 0
		for i := range 20 {
			a, _ := h.nodes["d1"].ways(site(i))
			b, _ := h.nodes["d2"].ways(site(i))
			c, _ := h.nodes["d3"].ways(site(i))
			if a != c || b != "" && b != c { // a hub has no rounds: d2 has not heard of all
				split++
				t.Log(i, a, b, c)
			}
		}
		if split > 0 {
			t.Errorf("%d of 20 tunnels have two real servers", split)
		}
		h.cut(false, [2]string{"d1", "d2"})
		time.Sleep(5 * time.Second)
	})
}

// T18: the last acknowledged word about a tunnel is said at a director where it changes nothing.
func TestHostileSameIntent(t *testing.T) {
	inHub(t, 2, func(h *hub) {
		t := h.t
		h.base(2)
		d1, d2 := h.nodes["d1"], h.nodes["d2"]
		one, two := site(1), site(1)
		two.Subnets = nil
		d1.must(put(one))
		time.Sleep(time.Second)
		h.cut(true, [2]string{"d1", "d2"})
		d1.must(put(two))
		time.Sleep(time.Minute)
		d2.must(put(site(1))) // the NMS has come to d2, and wants it as it was
		h.cut(false, [2]string{"d1", "d2"})
		time.Sleep(5 * time.Second)
		if tun, _ := d1.d.Table().Tunnel("site-0001"); len(tun.Subnets) != 1 {
			t.Error("what was pushed last, and acknowledged, is lost: a minute older push holds")
		}
	})
}
