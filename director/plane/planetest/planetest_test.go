package planetest

import (
	"fmt"
	"testing"

	"tunneldirector/director/plane"
	"tunneldirector/director/plane/mem"
)

// TestMem is mem against mem: histories are sound.
func TestMem(t *testing.T) {
	m := mem.New(DefaultInterfaces())
	Run(t, Options{Histories: 60, Open: func(testing.TB) plane.Plane { return m }})
}

// Histories reach every reason that a frame can be the cause of, each often enough to be worth something.
func TestReach(t *testing.T) {
	m := mem.New(DefaultInterfaces())
	opt := Options{Histories: 60, Seed: 1, Open: func(testing.TB) plane.Plane { return m }}.withDefaults()
	f, tally := search(t, &opt)
	if f != nil {
		t.Fatal(f)
	}
	for r := plane.None; r <= plane.PassControl; r++ {
		known := r.String() != fmt.Sprintf("reason-%d", r)
		frameless := r == plane.PassNotIP || r == plane.DropMalformed
		if known && !frameless && tally.reasons[r] < 20 {
			t.Errorf("%v: %d packets of %d", r, tally.reasons[r], tally.packets)
		}
	}
}
