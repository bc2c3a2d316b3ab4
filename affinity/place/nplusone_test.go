package place

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"tunneldirector/affinity"
)

func TestNPlusOne(t *testing.T) {
	type pins map[[2]affinity.Index]uint32
	tests := []struct {
		name    string
		servers []Server
		pins    pins
		dead    []affinity.Index
		want    Report
	}{
		{name: "empty", want: Report{OK: true}},
		{name: "fits", servers: []Server{{Capacity: 10}, {Capacity: 10}, {Capacity: 10}},
			pins: pins{{1, 2}: 3, {1, 3}: 3, {2, 1}: 3, {2, 3}: 3, {3, 1}: 3, {3, 2}: 3}, want: Report{OK: true}},
		{name: "too many, no limit elsewhere", servers: []Server{{Capacity: 10}, {}, {}},
			pins: pins{{1, 2}: 8, {2, 1}: 5, {3, 2}: 50},
			want: Report{Missing: []string{"host rs002 dies: rs001 would hold 13/10 tunnels (3 too many)"}}},
		{name: "several real servers die with a host", servers: []Server{{Host: "h"}, {Host: "h"}, {Host: "i", Capacity: 8}},
			pins: pins{{1, 3}: 5, {2, 3}: 5},
			want: Report{Missing: []string{"host h dies: rs003 would hold 10/8 tunnels (2 too many)"}}},
		{name: "no backup", servers: []Server{{}, {}}, pins: pins{{1, 2}: 5, {1, 0}: 2, {2, 1}: 1},
			want: Report{Missing: []string{"host rs001 dies: 2 of its 7 tunnels have no live backup outside it"}, Unprotected: 2}},
		{name: "backup in the same zone", servers: []Server{{Zone: "a"}, {Zone: "a"}, {Zone: "b"}}, pins: pins{{1, 2}: 5, {1, 3}: 5},
			want: Report{Missing: []string{"zone a dies: 5 of its 10 tunnels have no live backup outside it"}}},
		{name: "one zone is none", servers: []Server{{Zone: "a"}, {Zone: "a"}}, pins: pins{{1, 2}: 5}, want: Report{OK: true}},
		{name: "a death not yet re-placed", servers: []Server{{}, {Capacity: 10}, {}}, dead: []affinity.Index{1},
			pins: pins{{1, 2}: 5, {3, 2}: 6},
			want: Report{Unprotected: 5, Missing: []string{"host rs002 dies: 5 of its 5 tunnels have no live backup outside it",
				"host rs003 dies: rs002 would hold 11/10 tunnels (1 too many)"}}},
		{name: "both dead", servers: []Server{{}, {}, {}}, dead: []affinity.Index{1, 2}, pins: pins{{1, 2}: 5}, want: Report{Unprotected: 5}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(tt.servers...)
			for k, n := range tt.pins {
				w.pin(Choice{Primary: k[0], Backup: k[1]}, tunnels(n, uint64(n)))
			}
			for _, i := range tt.dead {
				w.server(i).Alive, w.server(i).Open = false, false
			}
			if diff := cmp.Diff(tt.want, NPlusOne(w.view())); diff != "" {
				t.Error(diff)
			}
		})
	}
}
