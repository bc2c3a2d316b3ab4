package director

import (
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// The owner of a VIP is not heard, and another director takes the VIP over: neighbours are told again of who is left, and not by who is not.
func TestOwnerIsToldOfAgain(t *testing.T) {
	inHub(t, 2, func(h *hub) {
		h.base(1)
		time.Sleep(20 * time.Second)
		vip := netip.MustParseAddr("192.0.2.10")
		again := func(name string, times int) {
			t.Helper()
			synctest.Wait()
			h.nodes[name].host.set(func(m *machine) {
				if want := slices.Repeat([]netip.Addr{vip}, times); !slices.Equal(m.again, want) {
					t.Errorf("neighbours of %s were told again of %v, want %v", name, m.again, want)
				}
				m.again = nil
			})
		}
		for _, n := range h.all() {
			n.host.set(func(m *machine) { m.again = nil }) // what was before
		}
		deaf := func(pair [2]string) {
			h.mu.Lock()
			h.deaf = pair
			h.mu.Unlock()
			h.pokeAll()
			time.Sleep(30 * time.Second)
		}
		deaf([2]string{"d2", "d1"})
		if !h.nodes["d1"].said().HoldsAddr(vip) || !h.nodes["d2"].said().HoldsAddr(vip) {
			t.Fatal("not both hold it")
		}
		again("d1", 1)
		again("d2", 0)
		deaf([2]string{})
		if !h.nodes["d1"].said().HoldsAddr(vip) || h.nodes["d2"].said().HoldsAddr(vip) {
			t.Fatal("not d1 alone holds it")
		}
		again("d1", 1)
		again("d2", 0)
		deaf([2]string{"d2", "d1"})
		again("d1", 1)
		h.nodes["d2"].end() // and says nothing any more
		time.Sleep(10 * time.Second)
		again("d1", 1)
	})
}
