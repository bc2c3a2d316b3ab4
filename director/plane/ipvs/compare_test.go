package ipvs

import (
	"context"
	"iter"
	"net/netip"
	"strings"
	"testing"

	"tunneldirector/director/plane"
	"tunneldirector/director/plane/ipvs/conntab"
)

// A stale entry is told, of the endpoint that is asked for and of no other; so is one that is missing.
func TestCompare(t *testing.T) {
	p, k := scene(t, pin(site1, 0, 1, 2), pin(site2, 0, 3, 2))
	compare := func(site netip.Addr) (out []plane.Difference) {
		t.Helper()
		pk := plane.Packet{Src: site, Dst: netip.MustParseAddr("192.0.2.10"), Proto: 50}
		if err := p.Compare(t.Context(), pk, func(d plane.Difference) { out = append(out, d) }); err != nil {
			t.Fatal(err)
		}
		return out
	}
	if d := compare(site1); len(d) > 0 {
		t.Fatalf("differences %v", d)
	}
	var other netip.AddrPort
	for _, c := range k.conns {
		if c.Client.Addr() == site2 {
			other = c.Dest
		}
	}
	for _, c := range k.conns {
		if c.Client.Addr() == site1 && c.VIP.Port() == 500 {
			c.Dest = netip.AddrPortFrom(other.Addr(), c.Dest.Port())
			if c.dest = nil; c.Dest.Addr() != other.Addr() {
				t.Fatal("the test shows nothing")
			}
		}
	}
	d := compare(site1)
	if len(d) != 1 || !strings.HasPrefix(d[0].Want, "rs1, backup rs2") || !strings.HasPrefix(d[0].Have, "rs3, backup rs2") || d[0].Key != "endpoint 203.0.113.1, any port, at UDP 192.0.2.10:500" {
		t.Errorf("differences %+v", d)
	}
	if d := compare(site2); len(d) > 0 {
		t.Errorf("the other endpoint differs: %v", d)
	}
	k.conns = nil
	if d := compare(site2); len(d) != 2 || d[0].Have != "nothing" {
		t.Errorf("an empty table: %v", d)
	}
}

// What takes longer than there is time for is an error, and no answer.
func TestCompareEnds(t *testing.T) {
	p, _ := scene(t, pin(site1, 0, 1, 2))
	p.conns = endless
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	pk := plane.Packet{Src: site1, Dst: netip.MustParseAddr("192.0.2.10"), Proto: 50}
	if err := p.Compare(ctx, pk, func(plane.Difference) {}); err == nil || !strings.Contains(err.Error(), "canceled") {
		t.Error(err)
	}
}

func endless() iter.Seq2[conntab.Entry, error] {
	return func(yield func(conntab.Entry, error) bool) {
		for yield(conntab.Entry{}, nil) {
		}
	}
}
