package affinity

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"
)

// filled is a table of n placed tunnels and the records it would have on disk.
func filled(n int) (*Table, []Change) {
	t := newTestTable()
	for i := range n {
		a := netip.AddrFrom4([4]byte{203, byte(i >> 16), byte(i >> 8), byte(i)})
		s := netip.AddrFrom4([4]byte{100, byte(64 + i>>16), byte(i >> 8), byte(i)})
		h := Header{Stamp: Stamp(i + 1), Origin: "director-1"}
		t.PutTunnel(&Tunnel{Header: h, ID: fmt.Sprintf("site-%07d", i), Service: "ipsec", Owner: "nms", Created: Stamp(i + 1), Bandwidth: 2_000_000,
			Endpoints: []Endpoint{netip.AddrPortFrom(a, 0)}, Subnets: []netip.Prefix{netip.PrefixFrom(s, 32)}, State: StateDown})
		t.SetPin(Pin{Header: h, Group: GroupID(fmt.Sprintf("site-%07d", i)), Primary: Index(1 + i%3), Backup: Index(1 + (i+1)%3), Since: Stamp(i)})
	}
	log, _ := t.Take()
	var pins, tunnels []Change
	for _, c := range log {
		if c.Kind == KindPin {
			pins = append(pins, c)
		} else {
			tunnels = append(tunnels, c)
		}
	}
	return t, append(pins, tunnels...)
}

// BenchmarkRestore is one tunnel with its pin, read back from disk in order; bytes/tunnel is live heap.
func BenchmarkRestore(b *testing.B) {
	_, records := filled(b.N)
	t := newTestTable()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	b.ResetTimer()
	for _, c := range records {
		if _, err := t.Restore(c.Kind, c.Key, append([]byte(nil), c.Value...)); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(b.N), "bytes/tunnel")
	runtime.KeepAlive(records)
	runtime.KeepAlive(t)
}

// BenchmarkPut is one tunnel put and placed in a table of 100,000, beside a published clone.
func BenchmarkPut(b *testing.B) {
	t, _ := filled(100_000)
	for i := 0; b.Loop(); i++ {
		next := t.Clone()
		tun, _ := next.Tunnel(fmt.Sprintf("site-%07d", i*7919%100_000))
		more := *tun
		more.Bandwidth++
		next.PutTunnel(&more)
		next.Take()
		t = next
	}
}
