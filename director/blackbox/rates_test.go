package blackbox

import (
	"maps"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tunneldirector/director/plane"
)

// Which rates are jumps. A test's rates hold for as many seconds, of DropUnknown; what jumps is told with the second in which it does.
func TestRates(t *testing.T) {
	type hold struct {
		seconds int
		rate    uint64 // packets/s
	}
	for _, tt := range []struct {
		name  string
		holds []hold
		want  map[int]string
	}{
		{"a rate far above the average", []hold{{30, 2}, {1, 840}}, map[int]string{30: "drops of unknown-endpoint jumped from 2 to 840 packets/s"}},
		{"the least jump from nothing", []hold{{30, 0}, {1, 49}, {60, 0}, {1, 50}}, map[int]string{91: "drops of unknown-endpoint jumped from 0 to 50 packets/s"}},
		{"ten times the average", []hold{{61, 100}, {1, 1000}}, map[int]string{61: "drops of unknown-endpoint jumped from 100 to 1,000 packets/s"}},
		{"less than ten times the average", []hold{{60, 100}, {60, 999}}, map[int]string{}},
		{"many from the start", []hold{{120, 100_000}}, map[int]string{}},
		{"a jump in the first ten seconds", []hold{{8, 1}, {2, 100_000}, {60, 10}}, map[int]string{}},
		{"a jump right after them", []hold{{11, 1}, {1, 100_000}}, map[int]string{11: "drops of unknown-endpoint jumped from 1 to 100,000 packets/s"}},
		{"a jump that stays is the average then", []hold{{60, 0}, {7, 600}, {60, 700}}, map[int]string{
			60: "drops of unknown-endpoint jumped from 0 to 600 packets/s", 61: "drops of unknown-endpoint jumped from 10 to 600 packets/s",
			62: "drops of unknown-endpoint jumped from 20 to 600 packets/s", 63: "drops of unknown-endpoint jumped from 30 to 600 packets/s",
			64: "drops of unknown-endpoint jumped from 39 to 600 packets/s", 65: "drops of unknown-endpoint jumped from 48 to 600 packets/s",
			66: "drops of unknown-endpoint jumped from 58 to 600 packets/s", 67: "drops of unknown-endpoint jumped from 67 to 700 packets/s",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var x rates
			now, total, second := time.Now(), map[plane.Reason]uint64{plane.PassLocal: 0}, 0
			x.see(now, total)
			got := map[int]string{}
			for _, h := range tt.holds {
				for range h.seconds {
					now = now.Add(time.Second)
					total[plane.DropUnknown] += h.rate
					total[plane.PassLocal] += uint64(second / 29 * 100_000) // is no drop
					for _, j := range x.see(now, total) {
						got[second] = j.String()
					}
					second++
				}
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

// Counters that go down were made anew: what they say is no jump, and the average stays.
func TestCountersMadeAnew(t *testing.T) {
	var x rates
	now := time.Now()
	total := map[plane.Reason]uint64{plane.DropUnknown: 1 << 40, plane.DropCover: 1 << 30}
	see := func(after time.Duration, unknown, cover uint64) []jump {
		now = now.Add(after)
		total[plane.DropUnknown], total[plane.DropCover] = unknown, cover
		return x.see(now, maps.Clone(total))
	}
	see(0, 1<<40, 5)
	for i := range uint64(30) {
		see(time.Second, 1<<40+i*20, 5)
	}
	if j := see(time.Second, 0, 1000); j != nil {
		t.Errorf("counters made anew are %v", j)
	}
	if j := see(time.Second, 190, 1000); j != nil {
		t.Errorf("then %v", j)
	}
	if j := see(10*time.Second, 3000, 1000); len(j) != 1 || j[0].to != 281 || j[0].from < 19 || j[0].from > 30 {
		if len(j) != 0 { // 281 is not ten times 22
			t.Errorf("after a pause %v", j)
		}
	}
	if j := see(time.Second, 3010, 2000); len(j) != 1 || j[0].reason != plane.DropCover || j[0].to != 1000 {
		t.Errorf("another reason: %v", j)
	}
	if j := x.see(now, map[plane.Reason]uint64{plane.DropCover: 1 << 50}); j != nil {
		t.Errorf("within no time %v", j)
	}
	if j := x.see(now.Add(time.Second), nil); j != nil {
		t.Errorf("no counters are %v", j)
	}
	if j := x.see(now.Add(2*time.Second), map[plane.Reason]uint64{plane.DropHops: 77}); len(j) != 1 || j[0].reason != plane.DropHops {
		t.Errorf("a counter that is new: %v", j)
	}
}
