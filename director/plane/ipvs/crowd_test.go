package ipvs

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
)

// A service with very many destinations is warned of while it has them, and the log hears of it each time that they have doubled.
func TestCrowds(t *testing.T) {
	const servers = 64
	c := small()
	c.RealServers = nil
	for i := range servers {
		c.RealServers = append(c.RealServers, plane.RealServer{Index: affinity.Index(i + 1), Name: fmt.Sprintf("rs%d", i+1),
			Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 9, 0, byte(i + 1)})}, Alive: true})
	}
	var all []plane.Entry // each of another pair
	for i := range 2 * crowded {
		a := netip.AddrFrom4([4]byte{203, 0, byte(i >> 8), byte(i)})
		all = append(all, pin(a, 0, affinity.Index(i%servers+1), affinity.Index((i+1+i/servers)%servers+1)))
	}
	k := newKernel()
	p := open(k)
	var log bytes.Buffer
	p.o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	if err := p.Replace(t.Context(), c, slices.Values(all[:crowded-1])); err != nil {
		t.Fatal(err)
	}
	warned := func(want bool, logged int) {
		t.Helper()
		if got := strings.Contains(strings.Join(p.Warnings(), "\n"), "destinations, and the kernel walks them"); got != want {
			t.Errorf("warned: %t, want %t: %q", got, want, p.Warnings())
		}
		if n := strings.Count(log.String(), "very many destinations"); n != logged {
			t.Errorf("the log has heard of it %d times, want %d:\n%s", n, logged, log.String())
		}
	}
	warned(false, 0)
	apply(t, p, all[crowded-1])
	warned(true, 1)
	apply(t, p, all[crowded])
	warned(true, 1)
	apply(t, p, all[crowded+1:]...)
	warned(true, 2)
	var gone []plane.Entry
	for _, e := range all[:crowded+1] {
		gone = append(gone, cut(e))
	}
	apply(t, p, gone...)
	warned(false, 2)
	apply(t, p, all[:crowded+1]...)
	warned(true, 2)
}
