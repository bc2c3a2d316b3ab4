package vip

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tunneldirector/integration/spaces"
)

func openHolder(t *testing.T, f *Filter) *Holder {
	t.Helper()
	h, err := OpenHolder(Config{Tunnel: []string{"tun0"}, Subnet: []string{"in0"}}, f, slog.New(slog.DiscardHandler))
	must(t, err)
	t.Cleanup(func() { h.Close() })
	return h
}

func TestHold(t *testing.T) {
	dir, site, _, f := filterLab(t)
	h := openHolder(t, f)
	both := []netip.Addr{vip4, vip6}
	w := Wanted{VIPs: both}
	onLink(site, "198.51.100.1/32")
	onLink(site, "2001:db8:1::1/128")

	var heard func() [][]byte
	site.Do(func() { heard = listen(t, "eth0") })
	ch, err := h.Hold(t.Context(), w, Held{VIPs: both})
	want := []Address{{vip4, "lo"}, {vip6, "tun0"}}
	if err != nil || !ch.Built || ch.FilterAdded != 2 || !slices.Equal(ch.AddressesAdded, want) {
		t.Fatalf("changed %+v (%v), want the filter built and %v", ch, err, want)
	}
	frames := heard()
	for _, v := range both {
		l, err := net.InterfaceByName("tun0")
		must(t, err)
		b, err := frame(v, l.HardwareAddr)
		must(t, err)
		if !slices.ContainsFunc(frames, func(x []byte) bool { return bytes.HasPrefix(x, b) }) {
			t.Errorf("%v was not announced", v)
		}
		if !echo(site, v.String(), 10) {
			t.Errorf("%v does not answer echo", v)
		}
		if refused(site, v.String()) {
			t.Errorf("%v is open", v)
		}
	}
	if ch, err := h.Hold(t.Context(), w, Held{VIPs: both}); err != nil || ch.Any() {
		t.Fatalf("the second time changed %+v (%v)", ch, err)
	}
	// An adopting daemon moves IPv4 to its device and keeps the rest; the mark is all it knows.
	h2, err := OpenHolder(Config{Device: "tun0", Tunnel: []string{"tun0"}}, f, slog.New(slog.DiscardHandler))
	must(t, err)
	defer h2.Close()
	ch, err = h2.Hold(t.Context(), w, Held{VIPs: both})
	if err != nil || !slices.Equal(ch.AddressesAdded, []Address{{vip4, "tun0"}}) || !slices.Equal(ch.AddressesRemoved, []Address{{vip4, "lo"}}) || ch.FilterAdded+ch.FilterRemoved > 0 {
		t.Fatalf("to another device: changed %+v (%v)", ch, err)
	}
	if src := source(dir, "192.0.2.2"); src != "192.0.2.1" {
		t.Errorf("the director's own traffic leaves from %s", src)
	}
	if src := source(dir, "2001:db8::2"); src != "2001:db8::1" {
		t.Errorf("the director's own traffic leaves from %s", src)
	}
	ch, err = h2.Hold(t.Context(), Wanted{VIPs: both}, Held{VIPs: []netip.Addr{vip6}})
	if err != nil || len(ch.AddressesRemoved) != 1 || ch.FilterRemoved != 0 {
		t.Fatalf("released one: changed %+v (%v); the filter must keep what is wanted closed", ch, err)
	}
	ch, err = h2.Hold(t.Context(), Wanted{}, Held{})
	if err != nil || len(ch.AddressesRemoved) != 1 || ch.FilterRemoved != 2 {
		t.Fatalf("released all: changed %+v (%v)", ch, err)
	}
	all, err := h.rtnl.addresses()
	must(t, err)
	if len(all) < 4 || slices.ContainsFunc(all, func(a address) bool { return a.protocol == Protocol }) {
		t.Fatalf("left: %v", all)
	}
}

// source is the address that the node's own traffic to dst has.
func source(s spaces.Space, dst string) (src string) {
	s.Do(func() {
		c, err := net.Dial("udp", net.JoinHostPort(dst, "9"))
		must(s.T, err)
		defer c.Close()
		src, _, _ = net.SplitHostPort(c.LocalAddr().String())
	})
	return src
}

// listen collects frames until it is asked for them, and a little longer.
func listen(t *testing.T, ifname string) (heard func() [][]byte) {
	t.Helper()
	ifi, err := net.InterfaceByName(ifname)
	must(t, err)
	c, err := packet.Listen(ifi, packet.Raw, unix.ETH_P_ALL, nil)
	must(t, err)
	out := make(chan [][]byte, 1)
	go func() {
		defer c.Close()
		var frames [][]byte
		for {
			b := make([]byte, 1600)
			n, _, err := c.ReadFrom(b)
			if err != nil {
				out <- frames
				return
			}
			frames = append(frames, b[:n])
		}
	}()
	return func() [][]byte {
		t.Helper()
		must(t, c.SetReadDeadline(time.Now().Add(time.Second)))
		return <-out
	}
}

// Why IPv6 VIPs are not on lo: nobody would answer for them.
func TestKernelAnswersOnLink(t *testing.T) {
	dir, site, _, _ := filterLab(t)
	onLink(site, "198.51.100.1/32")
	onLink(site, "2001:db8:1::1/128")
	dir.Give("lo", "198.51.100.1/32")
	dir.Give("lo", "2001:db8:1::1/128")
	if !echo(site, vip4.String(), 10) {
		t.Error("no answer to ARP for an address on lo")
	}
	if echo(site, vip6.String(), 5) {
		t.Error("neighbour solicitations are answered for addresses on lo: IPv6 VIPs could be there")
	}
	dir.Give("tun0", "2001:db8:1::1/128")
	if !echo(site, vip6.String(), 20) {
		t.Error("no answer to neighbour solicitations for an address on the interface")
	}
}

// onLink makes s look for an address among its neighbours on eth0.
func onLink(s spaces.Space, prefix string) {
	s.T.Helper()
	s.Do(func() {
		dst, err := netlink.ParseIPNet(prefix)
		must(s.T, err)
		l, err := netlink.LinkByName("eth0")
		must(s.T, err)
		must(s.T, netlink.RouteAdd(&netlink.Route{Dst: dst, LinkIndex: l.Attrs().Index}))
	})
}

func TestHoldRefusesForeign(t *testing.T) {
	dir, site, _, f := filterLab(t)
	h := openHolder(t, f)
	dir.Give("in0", vip4.String()+"/24")
	both := []netip.Addr{vip4, vip6}
	ch, err := h.Hold(t.Context(), Wanted{VIPs: both}, Held{VIPs: both})
	if err == nil || !strings.Contains(err.Error(), vip4.String()) || !strings.Contains(err.Error(), "interface in0") {
		t.Errorf("error %v; want one that names the address and in0", err)
	}
	if !slices.Equal(ch.AddressesAdded, []Address{{vip6, "tun0"}}) {
		t.Errorf("added %v, want the other VIP", ch.AddressesAdded)
	}
	if !refused(site, vip4.String()) {
		t.Error("an address of somebody else was closed")
	}
	// The other way round: what we hold stays closed when somebody adds it a second time.
	dir.Give("in0", vip6.String()+"/64")
	if _, err := h.Hold(t.Context(), Wanted{VIPs: both}, Held{VIPs: both}); err == nil {
		t.Error("the second address was not reported")
	}
	if refused(site, vip6.String()) || !echo(site, vip6.String(), 10) {
		t.Error("a VIP that we hold was opened or lost")
	}
}

func TestHoldFilterFirst(t *testing.T) {
	filterLab(t)
	h := openHolder(t, openFilter(t))
	bad := Wanted{SubnetInterfaces: map[string][]netip.Prefix{"": nil}}
	if ch, err := h.Hold(t.Context(), bad, Held{VIPs: []netip.Addr{vip4}}); err == nil || ch.Any() {
		t.Errorf("without a filter: changed %+v, error %v", ch, err)
	}
	all, err := h.rtnl.addresses()
	must(t, err)
	if slices.ContainsFunc(all, func(a address) bool { return a.prefix.Addr() == vip4 }) {
		t.Error("the address was added without the filter")
	}
}

func TestHoldMissingInterface(t *testing.T) {
	dir, _, _, f := filterLab(t)
	h, err := OpenHolder(Config{Tunnel: []string{"tun0", "gone"}}, f, slog.New(slog.DiscardHandler))
	must(t, err)
	defer h.Close()
	both := []netip.Addr{vip4, vip6}
	ch, err := h.Hold(t.Context(), Wanted{VIPs: both}, Held{VIPs: both})
	if err == nil || !strings.Contains(err.Error(), "interface gone") || len(ch.AddressesAdded) != 2 {
		t.Errorf("changed %+v, error %v; want the two possible places and an error naming the other", ch, err)
	}
	dir.Sysctl("net/ipv6/conf/tun0/disable_ipv6", "1") // takes the addresses away, and others cannot be added
	if _, err := h.Hold(t.Context(), Wanted{VIPs: both}, Held{VIPs: both}); !errors.Is(err, unix.EACCES) || !strings.Contains(err.Error(), "disable_ipv6") {
		t.Errorf("error %v; want the remedy", err)
	}
}

func TestCheckReadsThisKernel(t *testing.T) {
	filterLab(t)
	if _, err := Check(os.DirFS("/proc/sys"), Config{}, labInterfaces, Held{VIPs: []netip.Addr{vip4, vip6}, Gateways: []netip.Addr{gw4, gw6}}); err != nil {
		t.Error(err)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
