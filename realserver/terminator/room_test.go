package terminator

import (
	"testing"

	"tunneldirector/director/agent"
)

// TestRoom: looks at as many tunnels as before take no memory, and none keeps much more than it needs.
func TestRoom(t *testing.T) {
	var list []agent.Tunnel
	look := func(n int) {
		list = Room(list)
		if len(list) != 0 {
			t.Fatalf("%d tunnels are there before the look", len(list))
		}
		for range n {
			list = append(list, agent.Tunnel{})
		}
	}
	for _, n := range []int{0, 1, 10_000, 10_000, 10_001, 200, 200, 0, 0} {
		look(n)
		look(n)
		if most := n + n/8 + 8; cap(list) > most {
			t.Errorf("%d tunnels have room for %d, at most %d is good", n, cap(list), most)
		}
		before := cap(list)
		if look(n); cap(list) != before {
			t.Errorf("%d tunnels: %d had room, now %d", n, before, cap(list))
		}
	}
}
