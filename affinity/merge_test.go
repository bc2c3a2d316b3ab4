package affinity

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// history is what three directors write that do not hear each other: versions of few records, so that most meet others.
func history(r *rand.Rand) []Change {
	var out []Change
	clocks := map[string]*Clock{"d1": {}, "d2": {}, "d3": {}}
	scratch := NewTable("scratch", 0)
	note := func(change func(t *Table)) {
		change(scratch)
		log, _ := scratch.Take()
		out = append(out, log...)
	}
	for range 120 {
		origin := fmt.Sprintf("d%d", 1+r.IntN(3))
		h := Header{Stamp: clocks[origin].Next(scratchTime, 0) + Stamp(r.IntN(40)), Origin: origin, Format: Format}
		clocks[origin].Observe(h.Stamp)
		id := fmt.Sprintf("site-%d", r.IntN(6))
		switch r.IntN(9) {
		case 0, 1, 2:
			w := &world{r: r}
			tun := w.tunnel()
			tun.Header, tun.ID, tun.Created = h, id, NewStamp(scratchTime, uint16(r.IntN(4)))
			note(func(t *Table) { t.PutTunnel(tun) })
		case 3:
			note(func(t *Table) { t.DeleteTunnel(&Tunnel{Header: h, ID: id, Service: "ipsec"}) })
		case 4, 5:
			h.Epoch = uint32(r.IntN(4))
			note(func(t *Table) {
				t.SetPin(Pin{Header: h, Group: GroupID([]string{id, "@nat-a", "@nat-b"}[r.IntN(3)]), Primary: Index(1 + r.IntN(3)), Backup: Index(r.IntN(4))})
			})
		case 6:
			i := Index(1 + r.IntN(4))
			h.Epoch, h.Deleted = uint32(r.IntN(4)), r.IntN(4) == 0
			note(func(t *Table) {
				t.SetLife(&Life{Header: h, RealServer: fmt.Sprintf("rs%d", i), Incarnation: uint32(1 + r.IntN(2)), Index: i, Alive: r.IntN(2) == 0})
			})
		case 7:
			s := &Service{Header: h, Name: []string{"ipsec", "l2tp"}[r.IntN(2)], Num: uint16(1 + r.IntN(2)), VIPs: []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, byte(10 + r.IntN(2))})}, Match: []Match{{Proto: 50}}}
			s.Header.Deleted = r.IntN(4) == 0
			note(func(t *Table) { t.PutService(s) })
		case 8:
			n := &Tenant{Header: h, Name: []string{"", "acme"}[r.IntN(2)], Covers: []netip.Prefix{prefix("100.64.0.0/10")}}
			if n.Name != "" {
				n.Num = uint16(1 + r.IntN(2))
			}
			n.Header.Deleted = n.Name != "" && r.IntN(4) == 0
			note(func(t *Table) { t.PutTenant(n) })
		}
	}
	return out
}

var scratchTime = time.Unix(1_700_000_000, 0)

// all are a table's records by kind and key.
func all(t *Table) map[string]Change {
	out := map[string]Change{}
	t.Records(func(k Kind, key string) bool {
		c, ok := t.Record(k, key)
		if h, _ := t.Version(k, key); !ok || h != c.Now {
			panic(fmt.Sprintf("record %s %q: %v", k, key, ok))
		}
		c.Value = nil // numbers of services and tenants may differ
		out[fmt.Sprintf("%s %q", k, key)] = c
		return true
	})
	return out
}

// answers are who gets what.
func answers(t *Table) map[string]string {
	out := map[string]string{}
	t.EachEndpoint(func(k EndpointKey, tunnel string, p, b Index) bool {
		out[fmt.Sprint(k)] = fmt.Sprint(tunnel, p, b)
		return true
	})
	t.EachSubnet(func(k SubnetKey, tunnel string, p, b Index) bool {
		name := ""
		for _, n := range t.Tenants() {
			if n.Num == k.Tenant {
				name = n.Name
			}
		}
		out[fmt.Sprintf("%q %v", name, k.Prefix)] = fmt.Sprint(tunnel, p, b)
		return true
	})
	for _, rs := range []string{"rs1", "rs2", "rs3", "rs4"} {
		if l, ok := t.LifeOf(rs); ok {
			out[rs] = fmt.Sprint(l.Index, l.Incarnation, l.Alive)
		}
	}
	out["loads"] = fmt.Sprint(t.Unplaced(), t.Alone(), t.Load(1), t.Load(2), t.Load(3), t.Len())
	return out
}

// TestMergeInAnyOrder: records that arrive in any order, some twice, from disk or from others, make the same table.
func TestMergeInAnyOrder(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 1))
		changes := history(r)
		var want *Table
		var sum *Digest
		for round := range 4 {
			shuffled := slices.Clone(changes)
			r.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
			shuffled = append(shuffled, shuffled[:20]...)
			tab, d := NewTable("x", 0), new(Digest)
			for _, c := range shuffled {
				if _, err := tab.Merge(c.Kind, c.Key, c.Value, 0); err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
				log, _ := tab.Take()
				d.Note(log)
			}
			if round == 0 {
				want, sum = tab, d
				continue
			}
			if diff := cmp.Diff(all(want), all(tab)); diff != "" {
				t.Fatalf("seed %d: records: %s", seed, diff)
			}
			if diff := cmp.Diff(answers(want), answers(tab)); diff != "" {
				t.Fatalf("seed %d: answers: %s", seed, diff)
			}
			a, n := sum.Root()
			if b, m := d.Root(); a != b || n != m || sum.GroupSums() != d.GroupSums() {
				t.Fatalf("seed %d: digests %x of %d and %x of %d", seed, a, n, b, m)
			}
		}
		disk := NewTable("disk", 0)
		d := new(Digest)
		records := all(want)
		for _, key := range slices.Sorted(maps.Keys(records)) {
			c, _ := want.Record(records[key].Kind, records[key].Key)
			h, err := disk.Restore(c.Kind, c.Key, c.Value)
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			d.Add(c.Kind, c.Key, h)
		}
		if diff := cmp.Diff(answers(want), answers(disk)); diff != "" {
			t.Fatalf("seed %d: after a restart: %s", seed, diff)
		}
		a, _ := sum.Root()
		if b, _ := d.Root(); a != b {
			t.Fatalf("seed %d: digest after a restart %x, want %x", seed, b, a)
		}
	}
}

// TestMergeRefuses: what is no record, or stands under another's key, is not taken.
func TestMergeRefuses(t *testing.T) {
	tab := newTestTable()
	tun := &Tunnel{Header: Header{Stamp: 5, Origin: "d2", Format: Format}, ID: "a", Service: "ipsec"}
	good, err := tun.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]Change{
		"half":        {Kind: KindTunnel, Key: "a", Value: good[:len(good)/2]},
		"another key": {Kind: KindTunnel, Key: "b", Value: good},
		"no kind":     {Kind: 'x', Key: "a", Value: good},
		"empty":       {Kind: KindTunnel, Key: "a"},
	} {
		if newer, err := tab.Merge(c.Kind, c.Key, c.Value, 0); err == nil || newer {
			t.Errorf("%s: taken (%v, %v)", name, newer, err)
		}
	}
	if log, _ := tab.Take(); len(log) != 0 {
		t.Errorf("%d changes", len(log))
	}
}
