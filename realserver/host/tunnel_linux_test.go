package host

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// newTunnelSite is for method tunnel; it skips where the kernel has no tunnel devices.
func newTunnelSite(t *testing.T) (site, Instance) {
	t.Helper()
	s := newSite(t)
	in := s.instance()
	in.Method = Tunnel
	_, err := s.host(t, in).Apply(t.Context())
	if errors.Is(err, errors.ErrUnsupported) && os.Getenv("TUNNELDIRECTOR_VM") == "" {
		t.Skip(err)
	}
	must(t, err)
	_, err = s.host(t).Revert(t.Context())
	must(t, err)
	return s, in
}

// Without the kernel's modules the error says which, and nothing is left half done that Revert does not know.
func TestTunnelUnsupported(t *testing.T) {
	s := newSite(t)
	before := s.rs.snapshot()
	in := s.instance()
	in.Method = Tunnel
	_, err := s.host(t, in).Apply(t.Context())
	if err == nil {
		t.Skip("this kernel has tunnel devices")
	}
	if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "module ipip") {
		t.Error(err)
	}
	if strings.Contains(s.rs.ip("address show dev lo"), vip4.String()) {
		t.Error("the VIP is held by a host that takes no IPIP")
	}
	_, err = s.host(t).Revert(t.Context())
	must(t, err)
	if diff := cmp.Diff(before, s.rs.snapshot()); diff != "" {
		t.Errorf("Revert left:\n%s", diff)
	}
}

// wrap is a datagram in IPIP, without the outer header.
func wrap(t *testing.T, from, to netip.Addr, port uint16) []byte {
	t.Helper()
	b, err := datagram(from, to, 4500, port, []byte("x"))
	must(t, err)
	p := gopacket.NewPacket(b, layers.LayerTypeIPv4, gopacket.NoCopy)
	if to.Is6() {
		p = gopacket.NewPacket(b, layers.LayerTypeIPv6, gopacket.NoCopy)
	}
	if p.ErrorLayer() != nil {
		t.Fatal(p.ErrorLayer().Error())
	}
	return b
}

// takesOut sends to the VIP in IPIP, from a site far away, and tells whether it came.
func (s site) takesOut(t *testing.T, vip netip.Addr) bool {
	t.Helper()
	network, own, from := "ip4:4", "192.0.2.10", "203.0.113.7"
	if vip.Is6() {
		network, own, from = "ip6:41", "2001:db8::10", "2001:db8:7::7"
	}
	var server *net.UDPConn
	s.rs.in(func(*view) (err error) {
		server, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(vip, 4500)))
		return err
	})
	defer server.Close()
	for range 3 { // neighbours are found meanwhile
		s.router.in(func(*view) error {
			c, err := net.Dial(network, own)
			if err != nil {
				return err
			}
			defer c.Close()
			_, err = c.Write(wrap(t, netip.MustParseAddr(from), vip, 4500))
			return err
		})
		must(t, server.SetReadDeadline(time.Now().Add(time.Second)))
		if _, err := server.Read(make([]byte, 9)); err == nil {
			return true
		}
	}
	return false
}

func TestTunnelApplyRevert(t *testing.T) {
	s, in := newTunnelSite(t)
	for _, all := range []string{"0", "1", "2"} {
		t.Run("rp_filter "+all, func(t *testing.T) {
			s.rs.set("net/ipv4/conf/all/rp_filter", all)
			s.rs.set("net/ipv4/conf/default/rp_filter", all)
			before := s.rs.snapshot()
			h := s.host(t, in)
			_, err := h.Apply(t.Context())
			must(t, err)
			for _, vip := range in.VIPs {
				if !s.takesOut(t, vip) {
					t.Errorf("%v: what was sent in IPIP did not come", vip)
				}
			}
			if all == "1" { // what is set there is needed
				s.rs.ip("address del 192.0.2.100/32 dev td4-rs1\n")
				if s.takesOut(t, vip4) {
					t.Error("without an address on the device it comes, too: it is not needed")
				}
			}
			if changes, err := h.Apply(t.Context()); err != nil || all != "1" && len(changes) > 0 {
				t.Errorf("Apply a second time: %v, %v", changes, err)
			}
			_, err = h.Revert(t.Context())
			must(t, err)
			if diff := cmp.Diff(before, s.rs.snapshot()); diff != "" {
				t.Errorf("Revert left:\n%s", diff)
			}
		})
	}
}

func TestTunnelKilled(t *testing.T) {
	stride := 4 // in an emulated guest each takes two seconds
	if os.Getenv("SOAK") != "" {
		stride = 1
	}
	s, in := newTunnelSite(t)
	s.rs.set("net/ipv4/conf/all/rp_filter", "1")
	in.Holder = "vips"
	before := s.rs.snapshot()
	h := s.host(t, in)
	for n, killed := 0, true; killed; n += stride {
		looks := n
		_, err := h.Apply(dying{t.Context(), &looks})
		killed = err != nil
		_, err = h.Revert(t.Context())
		must(t, err)
		if diff := cmp.Diff(before, s.rs.snapshot()); diff != "" {
			t.Fatalf("killed after %d steps, Revert left:\n%s", n, diff)
		}
		if n > 100 {
			t.Fatal("Apply never ends")
		}
	}
}

// A device that takes out what comes is used, whoever made it, and stays.
func TestTunnelOccupied(t *testing.T) {
	s, in := newTunnelSite(t)
	s.rs.ip("link add theirs type ipip local 192.0.2.10\nlink set theirs up\n")
	s.rs.set("net/ipv4/conf/theirs/rp_filter", "1")
	before := s.rs.snapshot()
	h := s.host(t, in)
	changes, err := h.Apply(t.Context())
	must(t, err)
	if left := only(changes, true); len(left) != 1 || left[0].Object != "device theirs" {
		t.Errorf("left: %v", left)
	}
	if !s.takesOut(t, vip4) {
		t.Error("what was sent in IPIP did not come")
	}
	_, err = h.Revert(t.Context())
	must(t, err)
	if diff := cmp.Diff(before, s.rs.snapshot()); diff != "" {
		t.Errorf("Revert left:\n%s", diff)
	}
}

// Two real servers of one namespace have a device each; a device of that name that is somebody else's stays.
func TestTunnelDevices(t *testing.T) {
	s, in := newTunnelSite(t)
	s.rs.ip("address add 192.0.2.11/24 dev eth0\n")
	if _, err := s.host(t, in).Plan(t.Context()); err == nil || !strings.Contains(err.Error(), "say which") {
		t.Errorf("an interface with two addresses: %v", err)
	}
	in.VIPs, in.Own = []netip.Addr{vip4}, []netip.Addr{netip.MustParseAddr("192.0.2.10")}
	other := in
	other.Name, other.Own, other.VIPs = "a-name-that-is-long", []netip.Addr{netip.MustParseAddr("192.0.2.11")}, []netip.Addr{netip.MustParseAddr("192.0.2.101")}
	_, err := s.host(t, in, other).Apply(t.Context())
	must(t, err)
	if out := s.rs.ip("-d link show"); !strings.Contains(out, "td4-rs1") || !strings.Contains(out, decapName(&other, false)) {
		t.Errorf("devices:\n%s", out)
	}
	_, err = s.host(t).Revert(t.Context())
	must(t, err)
	other.Own = in.Own // one address for both: one device
	_, err = s.host(t, in, other).Apply(t.Context())
	must(t, err)
	if changes, err := s.host(t, in, other).Apply(t.Context()); err != nil || len(changes) > 0 {
		t.Errorf("two with one address, a second time: %v, %v", changes, err)
	}
	_, err = s.host(t).Revert(t.Context())
	must(t, err)
	s.rs.ip("link add td4-rs1 type dummy\n")
	if _, err := s.host(t, in).Apply(t.Context()); err == nil || !strings.Contains(err.Error(), "is there already, dummy") {
		t.Errorf("somebody else's device: %v", err)
	}
	_, err = s.host(t).Revert(t.Context())
	must(t, err)
	if out := s.rs.ip("link show"); !strings.Contains(out, "td4-rs1") {
		t.Error(fmt.Sprint("somebody else's device is gone:\n", out))
	}
}
