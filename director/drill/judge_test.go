package drill

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func ms(n int) time.Time { return noon.Add(time.Duration(n) * time.Millisecond) }

// packets are one each 50 ms, by how many ms their answers took; below 0 there was none.
func packetsOf(trips ...int) []Packet {
	var list []Packet
	for i, trip := range trips {
		p := Packet{Sent: ms(50 * i)}
		if trip >= 0 {
			p.Received = ms(50*i + trip)
		}
		list = append(list, p)
	}
	return list
}

// What an outage is.
func TestSilences(t *testing.T) {
	for _, tt := range []struct {
		name    string
		packets []Packet
		want    []silence
		outcome Outcome
	}{
		{"none sent", nil, nil, Outcome{}},
		{"all well", packetsOf(5, 5, 5, 5), nil, Outcome{Sent: 4}},
		{"one lost", packetsOf(5, -1, 5, 5), []silence{{ms(55), 50 * time.Millisecond, true}}, Outcome{Outage: 50 * time.Millisecond, At: ms(55), Sent: 4, Lost: 1}},
		{"the last one lost", packetsOf(5, 5, -1), nil, Outcome{Sent: 3, Lost: 1}},
		{"the tail", packetsOf(5, -1, -1, -1), []silence{{ms(55), 95 * time.Millisecond, false}}, Outcome{Outage: 95 * time.Millisecond, At: ms(55), Sent: 4, Lost: 3}},
		{"the head", packetsOf(-1, -1, -1, 5), []silence{{ms(50), 105 * time.Millisecond, true}}, Outcome{Outage: 105 * time.Millisecond, At: ms(50), Sent: 4, Lost: 3}},
		{"no answer", packetsOf(-1, -1, -1), []silence{{ms(50), 50 * time.Millisecond, false}}, Outcome{Outage: 50 * time.Millisecond, At: ms(50), Sent: 3, Lost: 3}},
		{"held up, none lost", packetsOf(5, 205, 155, 105, 55, 5), []silence{{ms(55), 200 * time.Millisecond, true}}, Outcome{Outage: 200 * time.Millisecond, At: ms(55), Sent: 6}},
		{"out of order", packetsOf(5, 120, 5, 5), []silence{{ms(55), 50 * time.Millisecond, true}}, Outcome{Outage: 50 * time.Millisecond, At: ms(55), Sent: 4}},
		{"two, the longest counts", packetsOf(5, -1, 5, -1, -1, 5), []silence{{ms(55), 50 * time.Millisecond, true}, {ms(155), 100 * time.Millisecond, true}},
			Outcome{Outage: 100 * time.Millisecond, At: ms(155), Sent: 6, Lost: 3}},
		{"two, the longest first", packetsOf(5, -1, -1, 5, -1, 5), []silence{{ms(55), 100 * time.Millisecond, true}, {ms(205), 50 * time.Millisecond, true}},
			Outcome{Outage: 100 * time.Millisecond, At: ms(55), Sent: 6, Lost: 3}},
		{"jitter below a millisecond", []Packet{{ms(0), ms(5)}, {ms(50), ms(55).Add(400 * time.Microsecond)}}, nil, Outcome{Sent: 2}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			list := silences(tt.packets, 50*time.Millisecond)
			if diff := cmp.Diff(tt.want, list, cmp.AllowUnexported(silence{})); diff != "" {
				t.Error(diff)
			}
			tt.outcome.Name = "x"
			if diff := cmp.Diff(tt.outcome, outcome("x", tt.packets, list)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Percentiles are of tunnels that there are.
func TestSpread(t *testing.T) {
	var list []Outcome
	if got := spread(nil); got != (Outage{}) {
		t.Errorf("of none %+v", got)
	}
	for i := range 200 {
		list = append(list, Outcome{Outage: time.Duration(200-i) * time.Second})
	}
	if got, want := spread(list), (Outage{100 * time.Second, 198 * time.Second, 200 * time.Second}); got != want {
		t.Errorf("of 200 %+v", got)
	}
	if got, want := spread(list[197:]), (Outage{2 * time.Second, 3 * time.Second, 3 * time.Second}); got != want {
		t.Errorf("of three %+v", got)
	}
}

// What is as long as it may be is not too long.
func TestBounds(t *testing.T) {
	res := &Result{Outage: Outage{time.Second, 2 * time.Second, 3 * time.Second}, Sent: 100, Lost: 2, Tunnels: []Outcome{{Name: "a", Outage: 3 * time.Second, Lost: 2}}}
	res.Drill.Expect = Expect{Outage: res.Outage, Lost: new(2.0)}
	if list := outageFailures(res); len(list) > 0 {
		t.Errorf("%+v", list)
	}
	res.Drill.Expect = Expect{Outage: Outage{time.Second - 1, 2*time.Second - 1, 3*time.Second - 1}, Lost: new(1.9)}
	if list := outageFailures(res); len(list) != 4 {
		t.Errorf("%+v", list)
	}
}

// What came when.
func TestPhases(t *testing.T) {
	const every = 50 * time.Millisecond
	event := func(after int, kind, from, to, why string) Event {
		return Event{Time: ms(after), Kind: kind, From: from, To: to, Why: why}
	}
	all := [][]silence{
		{{ms(-900), 500 * time.Millisecond, true}, {ms(20), 100 * time.Millisecond, true}, {ms(30), 800 * time.Millisecond, true}, {ms(2000), time.Second, true}},
		{{ms(10), 700 * time.Millisecond, true}},
	}
	events := []Event{event(-5, "real-server", "", "", "dead: before"), event(100, "tunnel-put", "", "", ""), event(200, "address", "d1", "", "VIP given up"), event(300, "peer", "", "alive", ""), event(400, "peer", "alive", "hung", ""), event(500, "address", "", "d2", "VIP taken")}
	for _, tt := range []struct {
		name   string
		all    [][]silence
		events []Event
		want   Phases
	}{
		{"nothing", nil, nil, Phases{-1, -1, -1, -1}},
		{"before", nil, events[:1], Phases{-1, -1, -1, -1}},
		{"all", all, events, Phases{400 * time.Millisecond, 500 * time.Millisecond, 710 * time.Millisecond, 3 * time.Second}},
		{"one does not come back", append(all, []silence{{ms(10), time.Second, false}}), nil, Phases{-1, -1, 710 * time.Millisecond, -1}},
		{"dead and moved", nil, []Event{event(600, "real-server", "", "", "dead: x"), event(700, "moved", "a", "b", "")}, Phases{600 * time.Millisecond, 700 * time.Millisecond, -1, -1}},
		{"drained", nil, []Event{event(1, "real-server", "", "", "active"), event(2, "real-server", "", "", "drained")}, Phases{2 * time.Millisecond, -1, -1, -1}},
		{"provisional", nil, []Event{event(1, "provisional", "dead", "alive", ""), event(2, "provisional", "alive", "dead", "")}, Phases{2 * time.Millisecond, -1, -1, -1}},
		{"leaves", nil, []Event{event(1, "director", "", "", "it assigns now"), event(2, "director", "", "", "it leaves, and the others take over")}, Phases{2 * time.Millisecond, -1, -1, -1}},
		{"stops", nil, []Event{event(3, "director", "", "", "it stops, and no other")}, Phases{3 * time.Millisecond, -1, -1, -1}},
		{"sick", nil, []Event{event(1, "director", "", "", "not sick any more"), event(4, "director", "", "", "sick: others reach")}, Phases{4 * time.Millisecond, -1, -1, -1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, phases(noon, every, tt.all, tt.events)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A time line is bounded; what is the same of many is one line, and the drill's own lines stay.
func TestTimeLine(t *testing.T) {
	var events []Event
	for i := range 1000 {
		events = append(events, Event{Time: ms(i), By: "d1", Kind: "moved", Object: fmt.Sprint("g", i), From: "rs1", To: "rs2", Why: "failed-over"})
		events = append(events, Event{Time: ms(i), By: "d2", Kind: "alarm", Object: "d2", Why: fmt.Sprint("raised: ", i)})
	}
	marks := []mark{{at: ms(-1000), what: "begins"}, {at: ms(5000), what: "undone"}}
	got := timeLine(noon, marks, events)
	if len(got) != maxLines {
		t.Errorf("%d lines", len(got))
	}
	want := []Mark{
		{-time.Second, "", "begins"}, {0, "d1", "moved g0 from rs1 to rs2: failed-over (and 999 more)"}, {0, "d2", "alarm d2: raised: 0"}, {time.Millisecond, "d2", "alarm d2: raised: 1"},
		{5 * time.Second, "", "undone"}, {5 * time.Second, "", "804 more lines are left out"},
	}
	if diff := cmp.Diff(want, append(got[:4:4], got[len(got)-2:]...)); diff != "" {
		t.Error(diff)
	}
	if got := timeLine(noon, make([]mark, 500), events[:2]); len(got) != maxLines || !strings.Contains(got[maxLines-1].What, "303 more lines") {
		t.Errorf("%d lines, the last %+v", len(got), got[len(got)-1])
	}
	if got := timeLine(noon, nil, nil); len(got) != 0 {
		t.Errorf("%+v", got)
	}
}

// Where tunnels go from what a fault befell, and what is wrong.
func TestMoves(t *testing.T) {
	before := State{
		RealServers: []RealServer{{Name: "rs1", Host: "h1", Alive: true}, {Name: "rs1b", Host: "h1", Alive: true}, {Name: "rs2", Host: "h2", Alive: true}, {Name: "rs3", Host: "h3"}},
		Tunnels:     []Tunnel{{ID: "a", RealServer: "rs1", Backup: "rs2"}, {ID: "b", RealServer: "rs1b", Backup: "rs3"}, {ID: "c", RealServer: "rs2", Backup: "rs1"}},
	}
	fault := func(k Kind, target string) *made {
		return &made{Injected: Injected{Fault: Fault{Kind: k, Target: target}}, undo: func(context.Context) error { return nil }}
	}
	for _, tt := range []struct {
		name          string
		faults        []*made
		a, b, c       string // where they are after
		wrong, stayed string
	}{
		{"nothing", nil, "rs1", "rs1b", "rs2", "", ""},
		{"moved for nothing", nil, "rs2", "", "rs1", "abc", ""},
		{"a host is lost", []*made{fault(HostLoss, "rs1")}, "rs2", "rs2", "rs2", "", ""}, // b's backup was dead
		{"its tunnels stay", []*made{fault(HostLoss, "rs1")}, "rs1", "rs1b", "rs2", "", "ab"},
		{"a link is cut", []*made{fault(LinkCut, "rs1")}, "rs2", "rs2", "rs2", "b", ""},
		{"elsewhere", []*made{fault(TerminatorCrash, "rs1")}, "rs3", "rs1b", "rs2", "a", ""},
		{"its backup, too", []*made{fault(HostLoss, "rs1"), fault(HostLoss, "rs2")}, "rs3", "rs3", "rs3", "", ""},
		{"drained", []*made{fault(Drain, "rs1")}, "rs3", "rs1b", "rs2", "", ""},
		{"drained, and placed nowhere", []*made{fault(Drain, "rs1")}, "", "rs1b", "rs2", "a", ""},
		{"a director", []*made{fault(DirectorHang, "rs1")}, "rs2", "rs1b", "rs2", "a", ""},
		{"not made", []*made{{Injected: Injected{Fault: Fault{Kind: HostLoss, Target: "rs1"}}}}, "rs2", "rs1b", "rs2", "a", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := &run{before: before, faults: tt.faults, plan: &Plan{Sample: before.Tunnels}}
			res := &Result{Tunnels: []Outcome{{Name: "a"}, {Name: "b"}, {Name: "c"}}}
			stayed := r.moves(res, State{Tunnels: []Tunnel{{ID: "a", RealServer: tt.a}, {ID: "b", RealServer: tt.b}, {ID: "c", RealServer: tt.c}}})
			wrong := ""
			for _, o := range res.Tunnels {
				if o.Wrong {
					wrong += o.Name
				}
			}
			if wrong != tt.wrong || strings.Join(stayed, "") != tt.stayed || res.Wrongly != len(wrong) {
				t.Errorf("wrong %q, stayed %q, of %+v", wrong, stayed, res.Tunnels)
			}
		})
	}
}
