package xfrm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"tunneldirector/integration/spaces"
	"tunneldirector/realserver/space"
)

// namespace is one of the test's own, which has no name but that of an open file.
func namespace(t testing.TB) space.Space {
	t.Helper()
	spaces.Root(t)
	var h netns.NsHandle
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine
		var err error
		h, err = netns.New()
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	s := space.Space(fmt.Sprintf("/proc/self/fd/%d", h))
	err := s.Do(func() error {
		return add(netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), 0, 999, "192.0.2.3/32")
	})
	if missing := errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.ENOSYS); missing && os.Getenv("TUNNELDIRECTOR_VM") == "" {
		t.Skip("missing here: the kernel's IPsec (modules xfrm_user, esp4); run in the virtual machine")
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// add gives the kernel a tunnel. It is called in a namespace, by another goroutine than the test's.
func add(vip, site netip.Addr, port, number int, subnet string) error {
	sa := func(src, dst netip.Addr, sport, dport, spi int) *netlink.XfrmState {
		s := &netlink.XfrmState{
			Src: src.AsSlice(), Dst: dst.AsSlice(), Proto: netlink.XFRM_PROTO_ESP, Mode: netlink.XFRM_MODE_TUNNEL, Spi: spi, Reqid: number,
			Aead: &netlink.XfrmStateAlgo{Name: "rfc4106(gcm(aes))", Key: bytes.Repeat([]byte{byte(spi)}, 20), ICVLen: 128},
		}
		if port != 0 {
			s.Encap = &netlink.XfrmStateEncap{Type: netlink.XFRM_ENCAP_ESPINUDP, SrcPort: sport, DstPort: dport, OriginalAddress: net.IPv4zero}
		}
		return s
	}
	_, far, err := net.ParseCIDR(subnet)
	if err != nil {
		return err
	}
	near := &net.IPNet{IP: net.IPv4(10, 0, 0, 0).To4(), Mask: net.CIDRMask(8, 32)}
	return errors.Join(
		netlink.XfrmStateAdd(sa(site, vip, port, 4500, 0x1000+2*number)), netlink.XfrmStateAdd(sa(vip, site, 4500, port, 0x1001+2*number)),
		netlink.XfrmPolicyAdd(&netlink.XfrmPolicy{Src: near, Dst: far, Dir: netlink.XFRM_DIR_OUT, Tmpls: []netlink.XfrmPolicyTmpl{{
			Src: vip.AsSlice(), Dst: site.AsSlice(), Proto: netlink.XFRM_PROTO_ESP, Mode: netlink.XFRM_MODE_TUNNEL, Reqid: number,
		}}}))
}

// TestKernel: what the kernel holds is told, and that it changed.
func TestKernel(t *testing.T) {
	s := namespace(t)
	d, err := New(Options{Space: s, VIPs: []netip.Addr{vip, vip6}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	changed, ended := make(chan struct{}, 1), make(chan error, 1)
	go func() { ended <- d.Watch(ctx, changed) }()
	<-changed
	if all, err := d.Tunnels(ctx); err != nil || len(all) > 0 {
		t.Fatalf("%v, %v", all, err)
	}
	if err := s.Do(func() error {
		return errors.Join(
			add(vip, site, 0, 1, "100.64.1.0/28"),
			add(vip, nat, 1024, 2, "100.64.2.0/28"),
			add(vip, nat, 1025, 3, "100.64.3.0/28"),
			add(vip6, netip.MustParseAddr("2001:db8:a::c"), 0, 4, "100.64.4.0/28"),
			add(netip.MustParseAddr("198.51.100.1"), site, 0, 5, "100.64.5.0/28"),
		)
	}); err != nil {
		t.Fatal(err)
	}
	<-changed
	all, err := d.Tunnels(ctx)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"203.0.113.11": "100.64.1.0/28", "203.0.113.254:1024": "100.64.2.0/28", "203.0.113.254:1025": "100.64.3.0/28", "2001:db8:a::c": "100.64.4.0/28"}
	for _, one := range all {
		if !slices.Equal(one.Subnets, []netip.Prefix{netip.MustParsePrefix(want[one.Peer])}) || time.Since(one.Since) > time.Minute {
			t.Errorf("%+v", one)
		}
	}
	if n, err := d.Carries(ctx); n != len(want) || len(all) != len(want) || err != nil {
		t.Errorf("%d tunnels, it carries %d (%v), want %d", len(all), n, err, len(want))
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("cancelled, and Watch says %v", err)
	}
	if _, err := d.Tunnels(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled, and Tunnels says %v", err)
	}
}

// TestElsewhere: a namespace that is not there is an error.
func TestElsewhere(t *testing.T) {
	d, err := New(Options{Space: "td-there-is-no-such", VIPs: []netip.Addr{vip}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Tunnels(t.Context()); err == nil {
		t.Error("no error")
	}
	if err := d.Watch(t.Context(), make(chan struct{}, 1)); err == nil {
		t.Error("no error")
	}
}

// BenchmarkTunnels reads 10,000 tunnels: 20,000 SAs and as many policies.
func BenchmarkTunnels(b *testing.B) {
	s := namespace(b)
	d, err := New(Options{Space: s, VIPs: []netip.Addr{vip}})
	if err != nil {
		b.Fatal(err)
	}
	if err := s.Do(func() error {
		for i := range 10_000 {
			subnet := netip.AddrFrom4([4]byte{100, 64, byte(i >> 8), byte(i)}).String() + "/32"
			if err := add(vip, netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}), 0, i+1, subnet); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if all, err := d.Tunnels(b.Context()); err != nil || len(all) != 10_000 {
			b.Fatalf("%d tunnels, %v", len(all), err)
		}
	}
}
