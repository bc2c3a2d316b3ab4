package ipvs

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"

	"tunneldirector/director/plane"
	"tunneldirector/director/plane/frame"
)

// IPVS itself is between what comes in and what is shown.
func TestSamplesOfTheKernel(t *testing.T) {
	r := newRig(t)
	must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: r.near.Link("tun0").Attrs().Index, Dst: &net.IPNet{IP: net.IPv4(203, 0, 113, 0), Mask: net.CIDRMask(24, 32)}}))
	p, err := Open(Options{Interfaces: testInterfaces()})
	must(t, err)
	t.Cleanup(func() { must(t, p.Close()) })
	must(t, settled{p, r, map[netip.Addr]bool{}}.Replace(t.Context(), small(), slices.Values([]plane.Entry{pin(site1, 0, 1, 2)})))
	if w := p.Warnings(); len(w) > 0 {
		t.Errorf("warnings %q", w)
	}
	before, err := p.Drops()
	must(t, err)
	put := func(pk plane.Packet) {
		t.Helper()
		b, err := frame.Build(pk, frame.MACs{Src: net.HardwareAddr{2, 0, 0, 5, 0, 9}, Dst: r.macs[pk.Interface]})
		must(t, err)
		_, err = r.ends[pk.Interface].WriteTo(b, &packet.Addr{HardwareAddr: b[:6]})
		must(t, err)
	}
	must(t, p.Watch(plane.Watch{Src: netip.PrefixFrom(site1, 32)}, time.Now().Add(time.Hour)))
	packets := []plane.Packet{esp(site2), natt(site2, 4500), esp(site1), natt(site1, 4500)}
	for _, pk := range packets { // before anybody reads
		put(pk)
	}
	want := []string{
		fmt.Sprint(plane.DropUnknown, "tun0", 1, 0, false, false), // left by IPVS
		fmt.Sprint(plane.DropUnknown, "", 1, 0, false, false),     // refused by it
		fmt.Sprint(plane.None, "tun0", 1, 1, true, true),
		fmt.Sprint(plane.None, "tun0", 1, 1, true, true),
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var got []string
	must(t, p.Samples(ctx, func(s plane.Sample) {
		got = append(got, fmt.Sprint(s.Reason, s.Interface, s.Service, s.RealServer, s.Watched, s.Foretold))
		if len(got) == len(want) {
			cancel()
		}
	}))
	if !slices.Equal(got, want) {
		t.Errorf("shown %q, want %q", got, want)
	}
	after, err := p.Drops()
	if n := after[plane.DropUnknown] - before[plane.DropUnknown]; err != nil || n != 2 {
		t.Errorf("%d drops of unknown endpoints (%v), want 2", n, err)
	}
	must(t, p.Watch(plane.Watch{}, time.Time{}))
}
