package wireguard

import (
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

func TestHistory(t *testing.T) {
	start := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	type step struct {
		at, handshake time.Duration // from start; handshake < 0: none
		rx            uint64
		since, last   time.Duration // wanted; < 0: not there
	}
	for _, tt := range []struct {
		name  string
		steps []step
	}{
		{"rekeys go on", []step{{1, 0, 0, 0, 0}, {121, 120, 0, 0, 120}, {241, 240, 0, 0, 240}}},
		{"bytes grow", []step{{1, 0, 5, 0, 0}, {20, 0, 6, 0, 20}, {30, 0, 6, 0, 20}}},
		{"expires, then comes back", []step{{1, 0, 0, 0, 0}, {180, 0, 0, -1, -1}, {200, 190, 0, 190, 190}}},
		{"came back between two looks", []step{{1, 0, 5, 0, 0}, {400, 390, 9, 390, 390}}},
		{"made anew", []step{{1, 0, 5, 0, 0}, {60, 50, 2, 50, 50}}},
		{"made anew, without a handshake yet", []step{{1, 0, 5, 0, 0}, {60, -1, 0, -1, -1}, {70, 65, 3, 65, 65}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := history{lives: map[wgtypes.Key]*life{}}
			for i, s := range tt.steps {
				p := peer{key: key(1), rx: s.rx}
				if s.handshake >= 0 {
					p.handshake = start.Add(s.handshake * time.Second)
				}
				h.begin()
				h.look(start.Add(s.at*time.Second), &p)
				h.end()
				l, ok := h.lives[key(1)]
				switch {
				case ok != (s.since >= 0):
					t.Fatalf("step %d: there %t", i, ok)
				case ok && (!l.since.Equal(start.Add(s.since*time.Second)) || !l.last.Equal(start.Add(s.last*time.Second))):
					t.Fatalf("step %d: since %s, last %s", i, l.since.Sub(start), l.last.Sub(start))
				}
			}
			h.begin()
			h.end()
			if len(h.lives) > 0 {
				t.Error("a peer that is gone is not forgotten")
			}
		})
	}
}
