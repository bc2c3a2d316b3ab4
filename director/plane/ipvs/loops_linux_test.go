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

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
	"tunneldirector/director/plane/frame"
)

// What a real server sends back is cut, behind IPVS and behind the routes of subnets, and shown as it came.
func TestReturnedIsShown(t *testing.T) {
	for m, where := range map[affinity.Method]string{affinity.DR: "sub0", affinity.IPIP: ""} { // by IPIP the kernel no longer knows
		t.Run(fmt.Sprint(m), func(t *testing.T) {
			r := newRig(t)
			p, err := Open(Options{Interfaces: testInterfaces()})
			must(t, err)
			t.Cleanup(func() { must(t, p.Close()) })
			c := smallBy(m)
			c.Services[0].Method = m
			subnet := plane.Entry{Subnet: plane.SubnetKey{Prefix: netip.MustParsePrefix("10.60.1.0/24")}, Target: plane.Target{Primary: 1, Backup: 2}}
			must(t, settled{p, r, map[netip.Addr]bool{}}.Replace(t.Context(), c, slices.Values([]plane.Entry{pin(site1, 0, 1, 2), subnet})))
			sender := testHosts()[0].MAC
			inside := plane.Packet{Interface: "sub0", Src: netip.MustParseAddr("172.16.0.1"), Dst: netip.MustParseAddr("10.60.1.9"), Proto: protoUDP, SrcPort: 5, DstPort: 6, Hops: 64}
			for _, pk := range []plane.Packet{esp(site1), inside} {
				b, err := frame.Build(pk, frame.MACs{Src: sender, Dst: r.macs[pk.Interface]})
				must(t, err)
				_, err = r.ends[pk.Interface].WriteTo(b, &packet.Addr{HardwareAddr: b[:6]})
				must(t, err)
			}
			want := []string{
				fmt.Sprint(plane.DropLoop, plane.TunnelSide, "tun0", 1, 1, sender, site1, vip4),
				fmt.Sprint(plane.DropLoop, plane.SubnetSide, where, 0, 1, sender, inside.Src, inside.Dst),
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			var got []string
			must(t, p.Samples(ctx, func(s plane.Sample) {
				pk, err := frame.Parse(s.Head)
				if err != nil {
					t.Errorf("%x: %v", s.Head, err)
				}
				got = append(got, fmt.Sprint(s.Reason, s.Side, s.Interface, s.Service, s.RealServer, net.HardwareAddr(s.Head[6:12]), pk.Src, pk.Dst))
				if len(got) == len(want) {
					cancel()
				}
			}))
			if !slices.Equal(got, want) {
				t.Errorf("shown %q, want %q", got, want)
			}
			drops, err := p.Drops()
			if err != nil || drops[plane.DropLoop] != 2 {
				t.Errorf("%d cut (%v), want 2", drops[plane.DropLoop], err)
			}
		})
	}
}
