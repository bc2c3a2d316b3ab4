package ipvs

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"tunneldirector/director/plane"
	"tunneldirector/director/plane/ipvs/inject"
)

// An entry that leads to another real server than the table says is found in the kernel, and so is who it belongs to.
func TestStaleEntry(t *testing.T) {
	c := newCrowd(t, 50)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	find := func(n uint32) (out []plane.Difference) {
		t.Helper()
		must(t, c.p.Compare(ctx, plane.Packet{Src: source(n), Dst: vip4, Proto: 50}, func(d plane.Difference) { out = append(out, d) }))
		return out
	}
	if d := find(0); len(d) > 0 {
		t.Fatalf("before: %v", d)
	}
	other := uint32(1)
	for c.pins[other] == c.pins[0] {
		other++
	}
	var stale inject.Conn
	c.p.mu.Lock()
	for _, s := range c.p.services {
		if s.key.Addr() == vip4 && s.key.Port() == 500 {
			stale = c.p.entry(netip.AddrPortFrom(source(0), 0), s.key, s.at[kind{c.pins[other], false}])
		}
	}
	c.p.mu.Unlock()
	must(t, c.p.inject.Send(ctx, []inject.Conn{stale}))
	var d []plane.Difference
	for d = find(0); len(d) == 0 && ctx.Err() == nil; d = find(0) { // the kernel takes a message in when it comes to it
		time.Sleep(10 * time.Millisecond)
	}
	if len(d) != 1 || d[0].Have != c.p.sayAddr(stale.Dest) {
		t.Errorf("found %+v, want one that leads to %s", d, c.p.sayAddr(stale.Dest))
	}
	sum, err := c.p.Audit(ctx, func(plane.Difference) bool { return true })
	must(t, err)
	if sum.Other != 1 || sum.Missing+sum.Surplus != 0 {
		t.Errorf("the audit finds %+v", sum)
	}
}
