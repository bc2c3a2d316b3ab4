package plane

import (
	"net/netip"
	"slices"
	"testing"

	"tunneldirector/affinity"
)

func indexes(n int) []affinity.Index {
	var live []affinity.Index
	for i := range n {
		live = append(live, affinity.Index(i+1))
	}
	return live
}

func TestRingOfNobodyAndOfOne(t *testing.T) {
	if r := NewRing(nil); r != nil {
		t.Errorf("a ring of %d slots over nobody", len(r))
	}
	r := NewRing([]affinity.Index{7})
	if len(r) != RingSize {
		t.Fatalf("%d slots, want %d", len(r), RingSize)
	}
	for slot, target := range r {
		if target != (Target{Primary: 7}) {
			t.Fatalf("slot %d: %+v, want 7 and no backup", slot, target)
		}
	}
}

// Every real server gets its share of slots within a third, as primary and as backup; and the backup is another one.
func TestRingSpread(t *testing.T) {
	for _, n := range []int{2, 3, 5, 16} {
		primary, backup := map[affinity.Index]int{}, map[affinity.Index]int{}
		for slot, target := range NewRing(indexes(n)) {
			if target.Primary == target.Backup || target.Primary == 0 || target.Backup == 0 {
				t.Fatalf("%d real servers, slot %d: %+v", n, slot, target)
			}
			primary[target.Primary]++
			backup[target.Backup]++
		}
		fair := RingSize / n
		for _, i := range indexes(n) {
			if off := max(abs(primary[i]-fair), abs(backup[i]-fair)); off > fair/3 {
				t.Errorf("%d real servers: %d has %d slots and backs %d; fair is %d", n, i, primary[i], backup[i], fair)
			}
		}
	}
}

func abs(n int) int { return max(n, -n) }

// One that goes moves its own slots only, each to what was its backup; one that comes takes slots and shifts none.
func TestRingDisruption(t *testing.T) {
	all := indexes(8)
	before := NewRing(all)
	for _, gone := range all {
		after := NewRing(slices.DeleteFunc(slices.Clone(all), func(i affinity.Index) bool { return i == gone }))
		for slot := range before {
			want := before[slot].Primary
			if want == gone {
				want = before[slot].Backup
			}
			if after[slot].Primary != want {
				t.Fatalf("without %d, slot %d goes from %+v to %+v", gone, slot, before[slot], after[slot])
			}
		}
	}
}

func TestRingForgetsOrder(t *testing.T) {
	live := []affinity.Index{9, 2, 4095, 5}
	given := slices.Clone(live)
	r := NewRing(live)
	if !slices.Equal(live, given) {
		t.Errorf("the argument became %v", live)
	}
	slices.Sort(live)
	if !slices.Equal(r, NewRing(live)) {
		t.Error("another order of the same real servers, another ring")
	}
}

// The eBPF program has the same values: they are part of the format.
func TestHashAddr(t *testing.T) {
	for _, row := range []struct {
		addr string
		want uint32
	}{{"203.0.113.5", 0x99a244b4}, {"0.0.0.0", 0x12317a7b}, {"2001:db8::5", 0xa8f3108f}, {"::", 0xd68c62a9}} {
		if got := HashAddr(netip.MustParseAddr(row.addr)); got != row.want {
			t.Errorf("HashAddr(%s) = %#x, want %#x", row.addr, got, row.want)
		}
	}
	if HashAddr(netip.MustParseAddr("203.0.113.5")) != HashAddr(netip.MustParseAddr("::ffff:203.0.113.5")) {
		t.Error("an IPv4 address and its mapped form differ")
	}
}

// Neighbouring addresses, as sites of one provider have them, spread over the slots: chi-squared over 64 buckets.
func TestHashAddrSpread(t *testing.T) {
	for _, start := range []string{"203.0.113.0", "10.0.0.0", "2001:db8::"} {
		const buckets, each = 64, 64
		var count [buckets]int
		a := netip.MustParseAddr(start)
		for range buckets * each {
			count[HashAddr(a)%RingSize%buckets]++
			a = a.Next()
		}
		chi := 0.0
		for _, n := range count {
			chi += float64((n-each)*(n-each)) / each
		}
		if chi > 110 { // 63 degrees of freedom: once in 5,000 by chance, and the addresses are always the same
			t.Errorf("from %s: chi-squared %.0f over %d buckets: %v", start, chi, buckets, count)
		}
	}
}
