package affinity

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }
func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// newTestTable has services ipsec (v4, v6) and l2tp (the same v4 VIP), tenants "" and acme, real servers rs1 to rs3 alive
// at indexes 1 to 3.
func newTestTable() *Table {
	t := NewTable("store", 0)
	t.PutService(&Service{Name: "ipsec", Num: 1, VIPs: []netip.Addr{addr("192.0.2.10"), addr("2001:db8::10")},
		Match: []Match{{Proto: 50}, {Proto: 17, Lo: 500, Hi: 500}, {Proto: 17, Lo: 4500, Hi: 4500}}})
	t.PutService(&Service{Name: "l2tp", Num: 2, VIPs: []netip.Addr{addr("192.0.2.10")}, Match: []Match{{Proto: 17, Lo: 1701, Hi: 1701}}})
	t.PutTenant(&Tenant{Name: "", Num: 0, Covers: []netip.Prefix{prefix("100.64.0.0/10"), prefix("2001:db8:100::/40")}})
	t.PutTenant(&Tenant{Name: "acme", Num: 1, Covers: []netip.Prefix{prefix("100.64.0.0/10")}})
	for i := 1; i <= 3; i++ {
		name := fmt.Sprintf("rs%d", i)
		t.PutRealServer(&RealServer{Name: name, Host: name, Addrs: []netip.Addr{netip.AddrFrom4([4]byte{198, 51, 100, byte(i)})}, Services: []string{"ipsec", "l2tp"}, Weight: 100})
		t.SetLife(&Life{RealServer: name, Incarnation: 1, Index: Index(i), Alive: true})
	}
	t.Take()
	return t
}

// world replays random changes on a Table and remembers the records, for a naive recomputation.
type world struct {
	r       *rand.Rand
	t       *Table
	clock   Clock
	tunnels map[string]*Tunnel
	pins    map[GroupID]Pin
}

func (w *world) header() Header {
	return Header{Stamp: w.clock.Next(time.Unix(1_700_000_000, 0), 0), Origin: "d1", Format: Format}
}

func (w *world) tunnel() *Tunnel {
	r := w.r
	t := &Tunnel{Header: w.header(), ID: fmt.Sprintf("site-%d", r.IntN(12)), Service: []string{"ipsec", "l2tp"}[r.IntN(2)],
		Bandwidth: uint64(r.IntN(3)) * 1000, State: State(r.IntN(4))}
	t.Created = t.Header.Stamp
	if old, ok := w.tunnels[t.ID]; ok {
		t.Created = old.Created
	}
	for range r.IntN(3) {
		ep := netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(1 + r.IntN(5))}), []uint16{0, 0, 5000, 6000}[r.IntN(4)])
		if t.Service == "ipsec" && r.IntN(3) == 0 {
			ep = netip.AddrPortFrom(addr(fmt.Sprintf("2001:db8:2::%d", r.IntN(4)+1)), ep.Port())
		}
		if !slices.Contains(t.Endpoints, ep) {
			t.Endpoints = append(t.Endpoints, ep)
		}
	}
	for range r.IntN(3) {
		p, _ := netip.AddrFrom4([4]byte{100, 64, byte(r.IntN(2)), byte(r.IntN(4) * 64)}).Prefix(24 + r.IntN(5))
		if !slices.Contains(t.Subnets, p) {
			t.Subnets = append(t.Subnets, p)
		}
	}
	t.Group = []string{"", "", "nat-a", "nat-b"}[r.IntN(4)]
	t.Tenant = []string{"", "acme"}[r.IntN(2)]
	return t
}

func (w *world) step() {
	switch r := w.r; r.IntN(10) {
	case 0, 1, 2, 3, 4:
		t := w.tunnel()
		w.t.PutTunnel(t)
		w.tunnels[t.ID] = t
	case 5, 6:
		for id, t := range w.tunnels {
			dead := *t
			dead.Header = w.header()
			dead.Header.Deleted = true
			w.t.DeleteTunnel(&dead)
			delete(w.tunnels, id)
			w.t.DropPin(GroupID(id), w.header())
			delete(w.pins, GroupID(id))
			if !slices.ContainsFunc(slices.Collect(mapValues(w.tunnels)), func(o *Tunnel) bool { return o.Group != "" && o.Group == t.Group }) {
				w.t.DropPin(t.GroupID(), w.header())
				delete(w.pins, t.GroupID())
			}
			break
		}
	case 7, 8:
		g := GroupID([]string{"@nat-a", "@nat-b", fmt.Sprintf("site-%d", r.IntN(12))}[r.IntN(3)])
		p := Pin{Header: w.header(), Group: g, Primary: Index(r.IntN(4)), Backup: Index(r.IntN(4))}
		w.t.SetPin(p)
		w.pins[g] = p
	case 9:
		g := GroupID(fmt.Sprintf("site-%d", r.IntN(12)))
		w.t.DropPin(g, w.header())
		delete(w.pins, g)
	}
}

func mapValues[K comparable, V any](m map[K]V) func(func(V) bool) {
	return func(yield func(V) bool) {
		for _, v := range m {
			if !yield(v) {
				return
			}
		}
	}
}

// placedBy and the sums are recomputed from the records alone.
func (w *world) pinOf(t *Tunnel) Pin {
	if p, ok := w.pins[GroupID(t.ID)]; ok {
		return p
	}
	return w.pins[t.GroupID()]
}

func (w *world) holder(match func(*Tunnel) bool) *Tunnel {
	var best *Tunnel
	for _, t := range w.tunnels {
		if match(t) && (best == nil || t.Created < best.Created || t.Created == best.Created && t.ID < best.ID) {
			best = t
		}
	}
	return best
}

func (w *world) compare(t *testing.T, words string) {
	t.Helper()
	want := map[Index]Load{}
	unplaced := uint32(0)
	for _, tun := range w.tunnels {
		p := w.pinOf(tun)
		if p.Primary == 0 {
			unplaced++
			continue
		}
		want[p.Primary] = want[p.Primary].Add(tun.load())
	}
	for i := Index(1); i <= 3; i++ {
		if got := w.t.Load(i); got != want[i] {
			t.Fatalf("%s: load of %d is %v, want %v", words, i, got, want[i])
		}
	}
	if got := w.t.Unplaced(); got != unplaced {
		t.Fatalf("%s: %d unplaced, want %d", words, got, unplaced)
	}
	w.compareEndpoints(t, words)
	w.compareSubnets(t, words)
}

func (w *world) compareEndpoints(t *testing.T, words string) {
	t.Helper()
	want := map[EndpointKey]string{}
	for _, tun := range w.tunnels {
		svc, _ := w.t.Service(tun.Service)
		for _, ep := range tun.Endpoints {
			for _, vip := range svc.VIPs {
				if vip.Is4() != ep.Addr().Is4() {
					continue
				}
				k := EndpointKey{vip, ep.Addr(), ep.Port()}
				h := w.holder(func(o *Tunnel) bool {
					s, _ := w.t.Service(o.Service)
					return slices.Contains(o.Endpoints, ep) && slices.Contains(s.VIPs, vip)
				})
				want[k] = fmt.Sprint(h.ID, w.pinOf(h).Primary)
				if k.Port = 0; want[k] == "" {
					want[k] = "0"
				}
			}
		}
	}
	got := map[EndpointKey]string{}
	w.t.EachEndpoint(func(k EndpointKey, tunnel string, p, _ Index) bool {
		if old, twice := got[k]; twice && old != "0" {
			t.Fatalf("%s: %v comes twice", words, k)
		}
		got[k] = tunnel + fmt.Sprint(p)
		h, ok := w.t.AtEndpoint(k)
		if !ok || h.Tunnel != tunnel || h.Pin.Primary != p {
			t.Fatalf("%s: AtEndpoint(%v) is %+v, EachEndpoint says %s at %d", words, k, h, tunnel, p)
		}
		return true
	})
	if d := cmp.Diff(want, got, cmp.Comparer(func(a, b EndpointKey) bool { return a == b })); d != "" {
		t.Fatalf("%s: endpoints (-want +got)\n%s", words, d)
	}
}

func (w *world) compareSubnets(t *testing.T, words string) {
	t.Helper()
	for _, tenant := range []string{"", "acme"} {
		n, _ := w.t.Tenant(tenant)
		for range 8 {
			a := netip.AddrFrom4([4]byte{100, 64, byte(w.r.IntN(3)), byte(w.r.IntN(256))})
			var best netip.Prefix
			for _, tun := range w.tunnels {
				for _, p := range tun.Subnets {
					if tun.Tenant == tenant && p.Contains(a) && (!best.IsValid() || p.Bits() > best.Bits()) {
						best = p
					}
				}
			}
			k, h, ok := w.t.LongestMatch(n.Num, a)
			if ok != best.IsValid() || ok && k.Prefix != best {
				t.Fatalf("%s: longest match of %s for %q is %v, want %v", words, a, tenant, k, best)
			}
			if !ok {
				continue
			}
			want := w.holder(func(o *Tunnel) bool { return o.Tenant == tenant && slices.Contains(o.Subnets, best) })
			if h.Tunnel != want.ID || h.Pin.Primary != w.pinOf(want).Primary {
				t.Fatalf("%s: %s is held by %s, want %s", words, best, h.Tunnel, want.ID)
			}
		}
	}
}

func TestTableAgainstRecords(t *testing.T) {
	for seed := uint64(1); seed <= 25; seed++ {
		w := &world{r: rand.New(rand.NewPCG(seed, 1)), t: newTestTable(), tunnels: map[string]*Tunnel{}, pins: map[GroupID]Pin{}}
		for i := range 60 {
			before, snapshot := w.t, w.t.Clone()
			frozen := dump(snapshot)
			w.t = before
			w.step()
			words := fmt.Sprintf("seed %d, step %d", seed, i)
			if got := dump(snapshot); got != frozen {
				t.Fatalf("%s: a clone changed:\n%s", words, cmp.Diff(frozen, got))
			}
			w.compare(t, words)
		}
		w.restored(t, seed)
	}
}

// restored replays the log of changes as a disk would and expects the same table.
func (w *world) restored(t *testing.T, seed uint64) {
	t.Helper()
	log, _ := w.t.Take()
	disk := map[string]Change{}
	for _, c := range log {
		disk[string(c.Kind)+c.Key] = c
	}
	again := newTestTable()
	for _, k := range slices.Sorted(mapKeys(disk)) {
		if c := disk[k]; c.Value != nil {
			if _, err := again.Restore(c.Kind, c.Key, c.Value); err != nil {
				t.Fatalf("seed %d: restore %s: %v", seed, k, err)
			}
		}
	}
	if d := cmp.Diff(dump(w.t), dump(again)); d != "" {
		t.Fatalf("seed %d: restored table differs:\n%s", seed, d)
	}
}

func mapKeys[K comparable, V any](m map[K]V) func(func(K) bool) {
	return func(yield func(K) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// dump is all of a table that can be seen.
func dump(t *Table) string {
	var b strings.Builder
	t.Tunnels("", func(tun *Tunnel) bool {
		p, _ := t.PinOf(tun)
		fmt.Fprintln(&b, *tun, p, t.Contested(tun), t.Split(tun))
		return true
	})
	t.EachEndpoint(func(k EndpointKey, id string, p, q Index) bool { fmt.Fprintln(&b, k, id, p, q); return true })
	t.EachSubnet(func(k SubnetKey, id string, p, q Index) bool { fmt.Fprintln(&b, k, id, p, q); return true })
	t.Pairs(func(p, q Index, l Load) { fmt.Fprintln(&b, p, q, l) })
	fmt.Fprintln(&b, t.Unplaced(), t.Alone(), t.ContestedCount(), t.SplitCount(), t.Len(), t.ServiceLoad(1), t.ServiceLoad(2))
	return b.String()
}

// A table that deletes writes to no record that another one, or the caller, has.
func TestDeleteWritesToNoShared(t *testing.T) {
	t1 := NewTable("s", 0)
	s := &Service{Name: "ipsec", Num: 1}
	n := &Tenant{Name: "acme", Num: 2}
	r := &RealServer{Name: "rs1"}
	tun := &Tunnel{ID: "a", Service: "ipsec"}
	t1.PutService(s)
	t1.PutTenant(n)
	t1.PutRealServer(r)
	t1.PutTunnel(tun)
	t2 := t1.Clone()
	t2.DeleteTunnel(tun)
	t2.DeleteRealServer(r)
	t2.DeleteTenant(n)
	t2.DeleteService(s)
	if kept, ok := t1.Tunnel("a"); !ok || kept.Header.Deleted || tun.Header.Deleted || s.Header.Deleted || n.Header.Deleted || r.Header.Deleted {
		t.Errorf("deleted in the first table too: %+v %+v %+v %+v", kept, s, n, r)
	}
	for k, key := range map[Kind]string{KindTunnel: "a", KindService: "ipsec", KindTenant: "acme", KindRealServer: "rs1"} {
		if h, ok := t2.Version(k, key); !ok || !h.Deleted {
			t.Errorf("%v %s: version %+v, %t", k, key, h, ok)
		}
		if h, ok := t1.Version(k, key); !ok || h.Deleted {
			t.Errorf("%v %s before: version %+v, %t", k, key, h, ok)
		}
	}
}
