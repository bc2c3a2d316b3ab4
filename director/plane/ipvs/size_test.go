package ipvs

import (
	"context"
	"net/netip"
	"runtime"
	"testing"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
	"tunneldirector/director/plane/ipvs/inject"
)

// BenchmarkHeld tells how much memory the plane's own book of a million tunnels takes: an endpoint and a subnet each.
func BenchmarkHeld(b *testing.B) {
	const n = 1_000_000
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		v, s := newVIP(vip4), newSubnets()
		for i := range uint32(n) {
			t := plane.Target{Primary: affinity.Index(1 + i%8), Backup: 9}
			v.set(netip.AddrPortFrom(source32(i), 0), t)
			s.set(plane.SubnetKey{Prefix: netip.PrefixFrom(source32(i), 32)}, t)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/n, "bytes/tunnel")
		runtime.KeepAlive(v)
		runtime.KeepAlive(s)
	}
}

func source32(n uint32) netip.Addr {
	return netip.AddrFrom4([4]byte{100, byte(n >> 16), byte(n >> 8), byte(n)})
}

// A swallow is an injector that takes entries for nothing.
type swallow struct{}

func (swallow) Send(context.Context, []inject.Conn) error { return nil }

func (swallow) Close() error { return nil }

// BenchmarkDeath is SetAlive with a million pins under dr, over the twin of the kernel.
func BenchmarkDeath(b *testing.B) {
	p := open(newKernel())
	p.inject = swallow{}
	if err := p.Replace(b.Context(), small(), func(func(plane.Entry) bool) {}); err != nil {
		b.Fatal(err)
	}
	v := p.vipAt(vip4)
	for i := range uint32(1_000_000) {
		v.set(netip.AddrPortFrom(source32(i), 0), plane.Target{Primary: 1, Backup: 2})
	}
	if err := p.SetAlive(1, true); err != nil { // sends what is new
		b.Fatal(err)
	}
	alive := true
	for b.Loop() {
		alive = !alive
		if err := p.SetAlive(1, alive); err != nil {
			b.Fatal(err)
		}
	}
}
