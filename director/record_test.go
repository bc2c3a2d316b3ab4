package director

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tunneldirector/affinity"
	"tunneldirector/director/api"
)

// A diary is a Journal that a test reads.
type diary struct {
	mu     sync.Mutex
	events []api.Event
}

func (d *diary) Record(events []api.Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.events = append(d.events, events...)
}

// take gives the events of some kinds since the last time, in words: kind object from>to by (why).
func (d *diary) take(t *testing.T, kinds ...string) (words []string) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range d.events {
		if e.Time.IsZero() || e.Kind == "" {
			t.Errorf("an event without time or kind: %+v", e)
		}
		for _, k := range kinds {
			if k == e.Kind {
				words = append(words, fmt.Sprintf("%s %s %s>%s %s(%s)", e.Kind, e.Object, e.From, e.To, e.By, e.Why))
			}
		}
	}
	d.events = nil
	return words
}

// like tells whether each line begins and ends as wanted: "begin ... end".
func like(t *testing.T, got []string, want ...string) {
	t.Helper()
	ok := len(got) == len(want)
	for i := 0; ok && i < len(want); i++ {
		begin, end, _ := strings.Cut(want[i], "...")
		ok = strings.HasPrefix(got[i], begin) && strings.HasSuffix(got[i], end)
	}
	if !ok {
		t.Errorf("recorded is\n%s\nwanted\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// What a director alone does is recorded with who asked and why.
func TestRecordsOfOne(t *testing.T) {
	inWorld(t, func(w *world) {
		w.base(2)
		w.must(put(site(1)))
		time.Sleep(time.Second)
		like(t, w.kept.take(t, "address", "placed", "plane"), "plane mem >...whole table)", "address 192.0.2.10 >d1 (VIP taken: this director is alone)", "placed site-0001 >...nms(placed)")

		w.must(affinity.SetFreeze{By: operator, On: true})
		w.verdict("rs1", false)
		time.Sleep(2 * time.Second)
		w.must(affinity.SetFreeze{By: operator})
		w.settle()
		got := w.kept.take(t, "freeze", "held", "real-server", "moved")
		like(t, got, "freeze d1 > op(automatic moves are stopped)", "held rs1 > (test; not acted on: held because automatic moves are frozen by op)", "freeze d1 > op(automatic moves are allowed again)", "real-server rs1 > (dead: test)", "moved site-0001 rs1>rs2 (failed-over...)")

		other := site(1)
		other.Service = "nothing"
		w.do(put(other))
		if _, err := w.d.Try(w.t.Context(), []affinity.Op{put(other)}); err != nil {
			t.Fatal(err)
		}
		like(t, w.kept.take(t, "refused"), "refused tunnel site-0001 > nms(...)")
		w.disk.refuse(fmt.Errorf("%w: full", ErrRefused))
		w.do(put(site(2)))
		w.disk.refuse(nil)
		like(t, w.kept.take(t, "refused", "placed"), "refused store > (2 changes at once: ...full)")

		w.skew.Store(int64(time.Hour))
		time.Sleep(2 * time.Second)
		if st, err := w.d.View().Status(w.t.Context()); err != nil || st.ClockOffset < 3590 || st.ClockOffset > 3610 {
			t.Errorf("an hour ahead, the clock is %v s off, %v", st.ClockOffset, err)
		}
		time.Sleep(11 * time.Minute)
		if st, err := w.d.View().Status(w.t.Context()); err != nil || st.ClockOffset != 0 {
			t.Errorf("once believed, the clock is %v s off, %v", st.ClockOffset, err)
		}
		like(t, w.kept.take(t, "clock"), "clock d1 > (jumped by 1h0m0s; ...)", "clock d1 > (is believed again)")
	})
}

// What directors see of each other, and do about it, is recorded by each.
func TestRecordsOfSeveral(t *testing.T) {
	inHub(t, 2, func(h *hub) {
		d1, d2 := h.nodes["d1"], h.nodes["d2"]
		for _, n := range h.all() { // whose hello comes first is by chance
			got := n.kept.take(t, "assigner", "director")
			all := strings.Join(got, "\n")
			if assigner, _, _ := strings.Cut(all[strings.LastIndex(all, "assigner "):], "\n"); !strings.Contains(assigner, ">d1 (") || strings.Count(all, "(ready: ") != 1 || strings.Contains(all, "(it assigns now)") != (n == d1) {
				t.Errorf("%s has recorded\n%s", n.member.Name, all)
			}
		}
		h.base(2)
		d1.must(put(site(1)))
		time.Sleep(time.Second)
		like(t, d1.kept.take(t, "address"), "address 192.0.2.10 >d1 (VIP taken: its owner is d1: ...)")
		p, _ := d2.d.Table().Pin("site-0001")
		name := d2.d.Table().NameAt(p.Primary)
		d1.world.verdict(name, false)
		time.Sleep(3 * time.Second)
		like(t, d1.kept.take(t, "provisional", "director", "address"), "provisional "+name+" alive>dead (...: test)", "provisional "+name+" dead>alive (not dead after all: ...)",
			"director d1 > (sick: ...)", "address 192.0.2.10 d1> (VIP given up: this director is sick)")
		taken := d2.kept.take(t, "peer", "address") // which of the two is recorded first is by chance
		slices.Sort(taken)
		like(t, taken, "address 192.0.2.10 >d2 (VIP taken: its owner is d2: ...)", "peer d1 alive>sick (...)")
		d2.world.verdict(name, false)
		time.Sleep(2 * time.Second)
		like(t, d2.kept.take(t, "moved"), "moved site-0001 "+name+">...(failed-over: by director d1)")
		d1.kept.take(t)
		if err := d1.d.Leave(h.t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		d1.end()
		time.Sleep(2 * time.Second)
		like(t, d1.kept.take(t, "director"), "director d1 > (it leaves, and the others take over)")
		got := d2.kept.take(t, "peer", "assigner")
		slices.Sort(got)
		like(t, got, "assigner d2 d1>d2 (...)", "peer d1 alive>leaving (...)", "peer d1 leaving>dead (...)")
	})
}
