package director

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"

	"tunneldirector/affinity"
	"tunneldirector/director/plane/mem"
)

// TestHistories replays random pushes, deaths, returns, repins, full disks and restarts, and holds the rules of the design
// against the table and the plane after every step.
func TestHistories(t *testing.T) {
	for seed := uint64(1); seed <= histories(15); seed++ {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.base(4, func(rs *affinity.RealServer) { rs.Capacity = 20 })
				h := &history{world: w, r: rand.New(rand.NewPCG(seed, 7)), up: map[string]string{}}
				for i := range 80 {
					words := h.step()
					h.check(fmt.Sprintf("seed %d, step %d: %s", seed, i, words))
				}
			})
		})
	}
}

// histories is how many to replay: n, or what the environment variable HISTORIES says.
func histories(n uint64) uint64 {
	if more, err := strconv.ParseUint(os.Getenv("HISTORIES"), 10, 64); err == nil {
		return more
	}
	return n
}

type history struct {
	*world
	r  *rand.Rand
	up map[string]string // tunnels that the NMS says are up -> real server where they are
}

func (h *history) tunnel() *affinity.Tunnel {
	t := site(h.r.IntN(40))
	if h.r.IntN(4) == 0 {
		t.Group = []string{"nat-a", "nat-b"}[h.r.IntN(2)]
	}
	if h.r.IntN(6) == 0 {
		t.SeparateFrom = []string{site(h.r.IntN(40)).ID}
		if t.SeparateFrom[0] == t.ID {
			t.SeparateFrom = nil
		}
	}
	t.Bandwidth = uint64(h.r.IntN(3)) * 1_000_000
	t.State = affinity.State(h.r.IntN(4))
	return t
}

func (h *history) step() string {
	name := fmt.Sprintf("rs%d", 1+h.r.IntN(4))
	switch n := h.r.IntN(20); {
	case n < 9:
		t := h.tunnel()
		h.do(put(t))
		return fmt.Sprintf("put %+v", *t)
	case n < 12:
		id := site(h.r.IntN(40)).ID
		h.do(affinity.DeleteTunnel{By: operator, ID: id})
		return "delete " + id
	case n == 12:
		h.verdict(name, false)
		h.forgive()
		return name + " dies"
	case n == 13:
		h.verdict(name, true)
		return name + " answers"
	case n == 14:
		h.settle()
		return "time passes"
	case n == 15:
		g := affinity.GroupID([]string{"@nat-a", "@nat-b", site(h.r.IntN(40)).ID}[h.r.IntN(3)])
		h.do(affinity.Repin{By: operator, Group: g, To: name, Why: affinity.WhyRepinned})
		h.forgive()
		return fmt.Sprintf("repin %s to %s", g, name)
	case n == 16:
		admin := affinity.Admin(h.r.IntN(2))
		h.do(affinity.SetAdmin{By: operator, Name: name, Admin: admin})
		return fmt.Sprintf("%s %s", name, admin)
	case n == 17:
		h.disk.refuse(errFull)
		h.do(put(h.tunnel()))
		h.verdict(name, h.r.IntN(2) == 0)
		h.disk.refuse(nil)
		h.settle()
		h.forgive()
		return "the disk was full for a while"
	case n == 18:
		h.restart(h.r.IntN(2) == 0)
		return "restart"
	}
	gone := site(h.r.IntN(40)).ID
	h.do(put(h.tunnel()), put(h.tunnel()), affinity.DeleteTunnel{By: operator, ID: gone}, put(h.tunnel()))
	delete(h.up, gone) // it may have been put again at once, and then it is another one
	return "a batch"
}

// forgive forgets where tunnels were: they may have been moved for cause.
func (h *history) forgive() { clear(h.up) }

func (h *history) check(words string) {
	h.t.Helper()
	synctest.Wait() // for what is mended at once
	tab := h.d.Table()
	for id := range h.up {
		if _, ok := tab.Tunnel(id); !ok {
			delete(h.up, id)
		}
	}
	tab.Tunnels("", func(tun *affinity.Tunnel) bool {
		h.checkTunnel(tab, tun, words)
		return true
	})
	for _, rs := range tab.RealServers() {
		if l, ok := tab.LifeOf(rs.Name); ok && tab.Load(l.Index).Tunnels > rs.Capacity && !h.excused(tab, l.Index) {
			h.t.Fatalf("%s: %s has %d tunnels, capacity %d", words, rs.Name, tab.Load(l.Index).Tunnels, rs.Capacity)
		}
	}
	h.comparePlanes(words)
}

// excused tells whether an index may have more tunnels than its capacity: a tunnel goes where its group is even if that is
// full, and a second death may bring more than the room that was kept for the first.
func (h *history) excused(tab *affinity.Table, i affinity.Index) (found bool) {
	tab.Tunnels("", func(tun *affinity.Tunnel) bool {
		p, _ := tab.PinOf(tun)
		found = found || p.Primary == i && (tun.Group != "" || p.Why == affinity.WhyFailed)
		return !found
	})
	return found
}

func (h *history) checkTunnel(tab *affinity.Table, tun *affinity.Tunnel, words string) {
	h.t.Helper()
	in, out := h.ways(tun)
	if in != out {
		h.t.Fatalf("%s: %s goes to %q and returns by %q", words, tun.ID, in, out)
	}
	pin, ok := tab.PinOf(tun)
	if !ok {
		h.t.Fatalf("%s: %s has no pin, not even an unplaced one", words, tun.ID)
	}
	p, b := tab.NameAt(pin.Primary), tab.NameAt(pin.Backup)
	if p != "" && p == b && pin.Primary != pin.Backup && tab.AliveAt(pin.Primary) {
		h.t.Fatalf("%s: %s has %s as primary and as backup", words, tun.ID, p)
	}
	want := ""
	switch {
	case tab.AliveAt(pin.Primary):
		want = p
	case tab.AliveAt(pin.Backup):
		want = b
	}
	if in != want {
		h.t.Fatalf("%s: %s is at %q, its pin says %q (primary %s, backup %s)", words, tun.ID, in, want, p, b)
	}
	if tun.State != affinity.StateUp || in == "" {
		delete(h.up, tun.ID)
		return
	}
	if was, known := h.up[tun.ID]; known && was != in {
		h.t.Fatalf("%s: %s is up and was moved from %s to %s", words, tun.ID, was, in)
	}
	h.up[tun.ID] = in
}

// comparePlanes holds the plane, which was programmed change by change, against one that is given the whole table.
func (h *history) comparePlanes(words string) {
	h.t.Helper()
	h.restartless(func(fresh *world) {
		for n := range 40 {
			t := site(n)
			in1, out1 := h.ways(t)
			in2, out2 := fresh.ways(t)
			if in1 != in2 || out1 != out2 {
				h.t.Fatalf("%s: %s: the plane says %q and %q, a fresh one %q and %q", words, t.ID, in1, out1, in2, out2)
			}
		}
	})
}

// restartless opens a second director over a copy of the disk and an empty plane, and does not run it.
func (h *history) restartless(f func(*world)) {
	copied := &disk{records: map[string]affinity.Change{}, revision: h.disk.revision}
	h.disk.mu.Lock()
	for k, v := range h.disk.records {
		copied.records[k] = v
	}
	h.disk.mu.Unlock()
	fresh := &world{t: h.t, disk: copied, host: &machine{answering: 9}, plane: mem.New(interfaces)}
	fresh.open(h.t.Context())
	f(fresh)
}

func TestContestedNeverByPushes(t *testing.T) {
	inWorld(t, func(w *world) {
		w.base(2)
		r := rand.New(rand.NewPCG(3, 3))
		for range 300 {
			t := site(r.IntN(20))
			t.Endpoints = append(t.Endpoints, netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, 9, byte(r.IntN(6))}), []uint16{0, 500}[r.IntN(2)]))
			t.Group = []string{"", "", "g"}[r.IntN(3)]
			w.do(put(t))
			if n := w.d.Table().ContestedCount(); n != 0 {
				w.t.Fatalf("%d contested keys after a push", n)
			}
		}
		if n := w.d.Table().Len(); n < 5 || slices.Contains([]uint32{0}, w.d.Table().Load(1).Tunnels) {
			w.t.Fatalf("too little happened: %d tunnels", n)
		}
	})
}
