package ipvs

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"tunneldirector/director/plane"
	"tunneldirector/director/plane/frame"
)

// showing calls Samples until the test or end ends it, and gives what it shows.
func showing(t *testing.T, p *Plane) (shown chan plane.Sample, end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	shown = make(chan plane.Sample, 10)
	ended := make(chan error, 1)
	go func() { ended <- p.Samples(ctx, func(s plane.Sample) { shown <- s }) }()
	return shown, func() {
		t.Helper()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Samples ended with %v", err)
		}
	}
}

// The kernel tells why the gate dropped a packet; service, tenant, and what becomes of a packet that is watched are by the table.
func TestSamplesAreExplained(t *testing.T) {
	c := small()
	c.Tenants = []plane.Tenant{{Num: 3, Name: "blue", Covers: []netip.Prefix{netip.MustParsePrefix("10.60.0.0/16")}}}
	subnet := plane.Entry{Subnet: plane.SubnetKey{Tenant: 3, Prefix: netip.MustParsePrefix("10.60.1.0/24")}, Target: plane.Target{Primary: 2, Backup: 3}}
	k := newKernel()
	p := open(k)
	if err := p.Replace(t.Context(), c, slices.Values([]plane.Entry{pin(site1, 0, 1, 2), subnet})); err != nil {
		t.Fatal(err)
	}
	shown, end := showing(t, p)
	defer end()
	target := plane.Packet{Interface: "blue0", Src: netip.MustParseAddr("172.16.0.1"), Proto: 1, Hops: 64, ICMPType: 8}
	to := func(a string) plane.Packet {
		q := target
		q.Dst = netip.MustParseAddr(a)
		return q
	}
	elsewhere := to("10.60.1.9")
	elsewhere.Interface = "sub0"
	other := natt(site1, 4500)
	other.DstPort = 99
	for _, tt := range []struct {
		name   string
		packet plane.Packet
		shown  plane.Sample // by the gate
		want   plane.Sample
	}{
		{"dropped, of an unknown endpoint", natt(site2, 4500), plane.Sample{Reason: plane.DropUnknown, Side: plane.TunnelSide},
			plane.Sample{Reason: plane.DropUnknown, Side: plane.TunnelSide, Service: 1}},
		{"dropped, of no service", other, plane.Sample{Reason: plane.DropNoService, Side: plane.TunnelSide},
			plane.Sample{Reason: plane.DropNoService, Side: plane.TunnelSide}},
		{"dropped, for another reason than the table would have", natt(site2, 4500), plane.Sample{Reason: plane.DropNoPort, Side: plane.TunnelSide},
			plane.Sample{Reason: plane.DropNoPort, Side: plane.TunnelSide}},
		{"dropped, of a tenant", to("10.60.1.9"), plane.Sample{Reason: plane.DropSource, Side: plane.SubnetSide},
			plane.Sample{Reason: plane.DropSource, Side: plane.SubnetSide, Tenant: 3}},
		{"dropped, of the default tenant", elsewhere, plane.Sample{Reason: plane.DropSource, Side: plane.SubnetSide},
			plane.Sample{Reason: plane.DropSource, Side: plane.SubnetSide}},
		{"dropped, because its real server had sent it", esp(site1), plane.Sample{Reason: plane.DropLoop},
			plane.Sample{Reason: plane.DropLoop, Side: plane.TunnelSide, Service: 1, RealServer: 1}},
		{"dropped, because its real server had sent it, of a tenant", to("10.60.1.9"), plane.Sample{Reason: plane.DropLoop},
			plane.Sample{Reason: plane.DropLoop, Side: plane.SubnetSide, Tenant: 3, RealServer: 2}},
		{"watched, and forwarded from a site", esp(site1), plane.Sample{Watched: true},
			plane.Sample{Watched: true, Foretold: true, Side: plane.TunnelSide, Service: 1, RealServer: 1}},
		{"watched, and forwarded from a target", to("10.60.1.9"), plane.Sample{Watched: true},
			plane.Sample{Watched: true, Foretold: true, Side: plane.SubnetSide, Tenant: 3, RealServer: 2}},
		{"watched, in a tenant's cover", to("10.60.2.9"), plane.Sample{Watched: true},
			plane.Sample{Watched: true, Foretold: true, Side: plane.SubnetSide, Tenant: 3, Reason: plane.DropCover}},
		{"watched, and unknown", natt(site2, 4500), plane.Sample{Watched: true},
			plane.Sample{Watched: true, Foretold: true, Side: plane.TunnelSide, Service: 1, Reason: plane.DropUnknown}},
		{"watched, and not for the plane", to("192.0.2.200"), plane.Sample{Watched: true},
			plane.Sample{Watched: true, Foretold: true, Reason: plane.PassLocal}},
	} {
		var err error
		tt.shown.Head, err = frame.Build(tt.packet, frame.MACs{Src: net.HardwareAddr{2, 0, 0, 0, 0, 9}, Dst: net.HardwareAddr{2, 0, 0, 0, 0, 1}})
		if err != nil {
			t.Fatal(err)
		}
		tt.shown.Interface, tt.shown.Length = tt.packet.Interface, len(tt.shown.Head)
		k.shown <- tt.shown
		tt.want.Interface, tt.want.Length = tt.shown.Interface, tt.shown.Length
		if d := cmp.Diff(tt.want, <-shown, cmpopts.IgnoreFields(plane.Sample{}, "Head")); d != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, d)
		}
	}
	k.shown <- plane.Sample{Watched: true, Head: make([]byte, 13)}
	if got := <-shown; got.Reason != plane.DropMalformed || !got.Foretold {
		t.Errorf("watched, and half a header: %v", got.Reason)
	}
}

// While another program listens to the gate that is a warning, and the plane tries again; what goes wrong later is the same.
func TestSamplesTryAgain(t *testing.T) {
	for _, what := range []string{"bind", "read"} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newKernel()
				k.failTimes(what, 2)
				p := open(k)
				shown, end := showing(t, p)
				synctest.Wait()
				if w := strings.Join(p.Warnings(), "\n"); !strings.Contains(w, listening) {
					t.Errorf("warnings %q, want one that no packets are shown", w)
				}
				time.Sleep(2 * relisten)
				synctest.Wait()
				if w := p.Warnings(); len(w) > 0 {
					t.Errorf("still warns %q", w)
				}
				k.shown <- plane.Sample{Reason: plane.DropRole}
				if s := <-shown; s.Reason != plane.DropRole {
					t.Errorf("shown %+v", s)
				}
				end()
			})
		})
	}
}

// A watch is of the plane's own interfaces, and is taken out when it is over; so is one that an earlier run left.
func TestWatchIsTakenOut(t *testing.T) {
	k := newKernel()
	p := open(k)
	step := func(name string, pass time.Duration, want ...string) {
		t.Helper()
		k.pass(pass)
		k.watched = nil
		if err := p.endWatch(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(k.watched, want) {
			t.Errorf("%s: %q, want %q", name, k.watched, want)
		}
	}
	const over = "invalid Prefix [] 0s"
	step("at first", 0, over)
	step("afterwards", 0)
	w := plane.Watch{Src: netip.PrefixFrom(site1, 32)}
	k.watched = nil
	if err := p.Watch(w, k.now.Add(10*time.Second)); err != nil {
		t.Fatal(err)
	}
	if want := []string{"203.0.113.1/32 [tun0 sub0 blue0 rs0 all0] 10s"}; !slices.Equal(k.watched, want) {
		t.Errorf("told %q, want %q", k.watched, want)
	}
	step("before it is over", 9*time.Second)
	step("when it is over", time.Second, over)
	if err := p.Watch(w, k.now); err != nil {
		t.Fatal(err)
	}
	step("one that was over when it came", time.Second)

	if err := p.Watch(w, k.now.Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	k.failTimes("watch", 1)
	k.pass(time.Second)
	if err := p.endWatch(t.Context()); err == nil {
		t.Error("the kernel did not let go of the watch, and that is no error")
	}
	step("again", 0, over)
	k.fail = func(string) error { return errors.New("no") }
	if err := p.Watch(w, k.now.Add(time.Second)); err == nil {
		t.Error("a watch that the kernel refused is no error")
	}
}
