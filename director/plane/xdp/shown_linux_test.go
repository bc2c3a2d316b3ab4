package xdp

import "testing"

// However many CPUs there are, a flood shows about as much in all.
func TestShownPerWindow(t *testing.T) {
	for cpus, want := range map[int]uint32{1: 16, 2: 16, 4: 16, 8: 8, 64: 1, 256: 1} {
		if got := shownPerWindow(cpus); got != want {
			t.Errorf("%d CPUs show %d each, want %d", cpus, got, want)
		}
	}
}
