package place

import (
	"fmt"
	"testing"

	"tunneldirector/affinity"
)

// filled is a world of n real servers with an account as the director keeps it: a dense array of pairs.
func filled(n, zones int, capacity uint32, groups int) (View, func(Choice, affinity.Load)) {
	servers := make([]Server, n)
	for i := range servers {
		servers[i] = Server{Host: fmt.Sprintf("host-%03d", i/2), Capacity: capacity}
		if zones > 1 {
			servers[i].Zone = fmt.Sprintf("zone-%d", i%zones)
			servers[i].Host = fmt.Sprintf("host-%03d", i)
		}
	}
	w := newWorld(servers...)
	pairs := make([]affinity.Load, (n+1)*(n+1))
	v := w.view()
	v.Pair = func(p, b affinity.Index) affinity.Load { return pairs[int(p)*(n+1)+int(b)] }
	pin := func(c Choice, l affinity.Load) {
		w.server(c.Primary).Load = w.server(c.Primary).Load.Add(l)
		at := int(c.Primary)*(n+1) + int(c.Backup)
		pairs[at] = pairs[at].Add(l)
	}
	for i := range groups {
		l := tunnels(1, uint64(i%7)*1e6)
		if c, err := Choose(v, Demand{Load: l}); err == nil {
			pin(c, l)
		}
	}
	return v, pin
}

func BenchmarkChoose(b *testing.B) {
	for _, bb := range []struct {
		name       string
		n, zones   int
		capacity   uint32
		groupsEach int
	}{
		{"20", 20, 1, 0, 100},
		{"256", 256, 1, 0, 100},
		{"256/capacity half used", 256, 1, 250, 100},
		{"256/capacity nearly used", 256, 1, 103, 100},
		{"256/N+1 lost", 256, 1, 101, 101},
		{"256/4 zones", 256, 4, 0, 100},
	} {
		b.Run(bb.name, func(b *testing.B) {
			v, _ := filled(bb.n, bb.zones, bb.capacity, bb.n*bb.groupsEach-10)
			d := Demand{Load: tunnels(1, 1e6)}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Choose(v, d); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// The common path must not allocate: a million groups are placed in one batch.
func TestChooseDoesNotAllocate(t *testing.T) {
	v, _ := filled(64, 1, 1000, 5000)
	d := Demand{Load: tunnels(1, 1e6)}
	if n := testing.AllocsPerRun(100, func() { Choose(v, d) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
