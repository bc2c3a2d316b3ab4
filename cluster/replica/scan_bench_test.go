package replica

import (
	"testing"

	"tunneldirector/affinity"
)

// BenchmarkItems is what each side of a round does once for each 16,000 leaves that differ: to find their records among all.
func BenchmarkItems(b *testing.B) {
	const n = 200_000
	d := newDesk("d1")
	d.put(0, n)
	d.write(func(t *affinity.Table, h func() affinity.Header) {
		for i := range n {
			t.SetPin(affinity.Pin{Header: h(), Group: affinity.GroupID(tunnelOf(affinity.Header{}, i).ID), Primary: 1})
		}
	})
	in := new(leafSet)
	for leaf := uint32(0); leaf < affinity.Leaves; leaf += 26 {
		in.add(leaf)
	}
	b.ReportAllocs()
	for b.Loop() {
		if list, _, err := items(b.Context(), d.table, in); err != nil || len(list) < 2*n/30 {
			b.Fatal(len(list), err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/(2*n), "ns/record")
}
