package director

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"time"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
)

// nothing is a disk and a plane that cost nothing, so that what is measured is the loop.
type nothing struct{}

func (nothing) Load(func(affinity.Change) error) error                             { return nil }
func (nothing) Commit([]affinity.Change, uint64) error                             { return nil }
func (nothing) Identity() (string, uint64)                                         { return "bench", 0 }
func (nothing) State() StoreState                                                  { return StoreState{} }
func (nothing) Apply(context.Context, plane.Update) error                          { return nil }
func (nothing) Replace(context.Context, plane.Config, iter.Seq[plane.Entry]) error { return nil }
func (nothing) SetAlive(affinity.Index, bool) error                                { return nil }
func (nothing) Lookup(plane.Packet) (d plane.Decision, err error)                  { return d, nil }
func (nothing) Close() error                                                       { return nil }

// BenchmarkPush is one new tunnel of a batch, from check to entries for the plane.
func BenchmarkPush(b *testing.B) {
	d, err := Open(b.Context(), load(b, nothing{}), Options{Name: "d1", Plane: nothing{}, Host: &machine{}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	go d.Run(b.Context())
	ops := []affinity.Op{
		affinity.PutService{By: operator, Service: &affinity.Service{Name: "ipsec", VIPs: []netip.Addr{netip.MustParseAddr("192.0.2.10")}, Match: []affinity.Match{{Proto: 50}}}},
		affinity.PutTenant{By: operator, Tenant: &affinity.Tenant{Covers: []netip.Prefix{netip.MustParsePrefix("100.64.0.0/10")}}}}
	for i := range 4 {
		ops = append(ops, affinity.PutRealServer{By: operator, RealServer: &affinity.RealServer{Name: fmt.Sprint("rs", i), Addrs: []netip.Addr{netip.AddrFrom4([4]byte{198, 51, 100, byte(i + 1)})}, Services: []string{"ipsec"}, Weight: 100}})
	}
	push := func(ops []affinity.Op) {
		results, err := d.Do(b.Context(), ops)
		if err != nil {
			b.Fatal(err)
		}
		for _, r := range results {
			if r.Err != nil {
				b.Fatal(r.Err)
			}
		}
	}
	push(ops)
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; n += maxOps {
		batch := make([]affinity.Op, 0, maxOps)
		for i := n; i < min(b.N, n+maxOps); i++ {
			a := netip.AddrFrom4([4]byte{203, byte(i >> 16), byte(i >> 8), byte(i)})
			s := netip.AddrFrom4([4]byte{100, byte(64 + i>>16), byte(i >> 8), byte(i)})
			batch = append(batch, put(&affinity.Tunnel{ID: fmt.Sprintf("site-%07d", i), Service: "ipsec", Bandwidth: 2_000_000, State: affinity.StateDown,
				Endpoints: []affinity.Endpoint{netip.AddrPortFrom(a, 0)}, Subnets: []netip.Prefix{netip.PrefixFrom(s, 32)}}))
		}
		push(batch)
	}
}

// BenchmarkMerge takes 20,000 tunnels and their pins from another director.
func BenchmarkMerge(b *testing.B) {
	const n = 20_000
	var records []affinity.Change
	t := affinity.NewTable("x", 0)
	h := affinity.Header{Stamp: affinity.NewStamp(time.Now(), 0), Origin: "d2", Format: affinity.Format}
	t.PutService(&affinity.Service{Header: h, Name: "ipsec", Num: 1, VIPs: []netip.Addr{netip.MustParseAddr("192.0.2.10")}, Match: []affinity.Match{{Proto: 50}}})
	t.PutTenant(&affinity.Tenant{Header: h, Covers: []netip.Prefix{netip.MustParsePrefix("100.64.0.0/10")}})
	for i := range affinity.Index(2) {
		name := fmt.Sprintf("rs%d", i+1)
		t.PutRealServer(&affinity.RealServer{Header: h, Name: name, Host: name, Addrs: []netip.Addr{netip.AddrFrom4([4]byte{198, 51, 100, byte(i + 1)})}, Services: []string{"ipsec"}, Weight: 1})
		t.SetLife(&affinity.Life{Header: h, RealServer: name, Incarnation: 1, Index: i + 1, Alive: true})
	}
	first, _ := t.Take()
	for i := range n {
		tun := site(i)
		tun.Header, tun.Created = h, h.Stamp
		t.PutTunnel(tun)
		t.SetPin(affinity.Pin{Header: h, Group: tun.GroupID(), Primary: affinity.Index(1 + i%2), Backup: affinity.Index(2 - i%2), Since: h.Stamp})
	}
	records, _ = t.Take()
	b.ReportAllocs()
	for b.Loop() {
		d, err := Open(b.Context(), load(b, nothing{}), Options{Name: "d1", Plane: nothing{}, Host: &machine{}, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			b.Fatal(err)
		}
		d.assigns = false
		for part := range slices.Chunk(slices.Concat(first, records), 1000) {
			m := &merge{from: "d2", done: make(chan error, 1)}
			for _, c := range part {
				m.records = append(m.records, affinity.Change{Kind: c.Kind, Key: c.Key, Value: c.Value})
			}
			d.merge(b.Context(), []*merge{m})
			if err := <-m.done; err != nil {
				b.Fatal(err)
			}
		}
		if d.Table().Len() != n || d.Table().Unplaced() != 0 {
			b.Fatalf("%d tunnels, %d unplaced", d.Table().Len(), d.Table().Unplaced())
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/tunnel")
}
