package vip

import (
	"bytes"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"tunneldirector/integration/spaces"
)

// announced are the interfaces of dir on whose other end an announcement of each address is heard while f runs.
func announced(t *testing.T, dir spaces.Space, ends map[string]spaces.Space, addrs []netip.Addr, f func()) map[netip.Addr]string {
	t.Helper()
	heard := map[string]func() [][]byte{}
	for name, far := range ends {
		far.Do(func() { heard[name] = listen(t, "eth0") })
	}
	f()
	out := map[netip.Addr]string{}
	for name := range ends {
		frames := heard[name]()
		mac := dir.Link(name).Attrs().HardwareAddr
		for _, a := range addrs {
			b, err := frame(a, mac)
			must(t, err)
			if slices.ContainsFunc(frames, func(x []byte) bool { return bytes.HasPrefix(x, b) }) {
				out[a] += name
			}
		}
	}
	return out
}

var sameAddr = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

func TestGateways(t *testing.T) {
	dir, site, target, f := filterLab(t)
	dir.Sysctl("net/ipv4/conf/in0/arp_ignore", "1") // as it has to be where real servers are, too
	h := openHolder(t, f)
	w := Wanted{VIPs: four.VIPs}
	all := slices.Concat(four.VIPs, four.Gateways)
	var ch Changes
	got := announced(t, dir, map[string]spaces.Space{"tun0": site, "in0": target}, all, func() {
		var err error
		ch, err = h.Hold(t.Context(), w, four)
		must(t, err)
	})
	if want := map[netip.Addr]string{vip4: "tun0", vip6: "tun0", gw4: "in0", gw6: "in0"}; !cmp.Equal(want, got, sameAddr) {
		t.Errorf("announced on %v, want %v", got, want)
	}
	if want := []Address{{vip4, "lo"}, {vip6, "tun0"}, {gw4, "in0"}, {gw6, "in0"}}; !slices.Equal(ch.AddressesAdded, want) {
		t.Errorf("added %v, want %v", ch.AddressesAdded, want)
	}
	// Lost frames: the same again 200 ms later.
	got = announced(t, dir, map[string]spaces.Space{"in0": target}, all, func() {
		if _, err := h.Repeat(time.Now().Add(200 * time.Millisecond)); err != nil {
			t.Error(err)
		}
	})
	if want := map[netip.Addr]string{gw4: "in0", gw6: "in0"}; !cmp.Equal(want, got, sameAddr) {
		t.Errorf("announced again on %v, want %v", got, want)
	}
	for _, a := range four.Gateways {
		if !echo(target, a.String(), 10) {
			t.Errorf("%v does not answer", a)
		}
		if !refused(target, a.String()) {
			t.Errorf("gateway %v is closed", a)
		}
	}
	for dst, want := range map[string]string{"203.0.113.2": "203.0.113.1", "2001:db8:9::2": "2001:db8:9::1"} {
		if src := source(dir, dst); src != want {
			t.Errorf("the director's own traffic to %s leaves from %s, want %s", dst, src, want)
		}
	}
	// Another daemon knows them again, as what they are.
	h2 := openHolder(t, f)
	if ch, err := h2.Hold(t.Context(), w, four); err != nil || ch.Any() {
		t.Errorf("a new daemon changed %+v (%v)", ch, err)
	}
	if ch, err := h2.Hold(t.Context(), w, Held{VIPs: four.VIPs}); err != nil || !slices.Equal(ch.AddressesRemoved, []Address{{gw4, "in0"}, {gw6, "in0"}}) || ch.FilterAdded+ch.FilterRemoved > 0 {
		t.Errorf("gateways released: changed %+v (%v)", ch, err)
	}
}

// TestAnnouncedAnew: an address that had gone is announced when it is back, one on an interface that was down when that is up, and one
// of which neighbours may have been told otherwise at once.
func TestAnnouncedAnew(t *testing.T) {
	dir, site, target, f := filterLab(t)
	h := openHolder(t, f)
	w := Wanted{VIPs: four.VIPs}
	ends := map[string]spaces.Space{"tun0": site, "in0": target}
	all := slices.Concat(four.VIPs, four.Gateways)
	hold := func() {
		if _, err := h.Hold(t.Context(), w, four); err != nil {
			t.Error(err)
		}
	}
	in0 := dir.Link("in0")
	set := func(change func(netlink.Link) error) { dir.Do(func() { must(t, change(in0)) }) }
	set(netlink.LinkSetDown)
	if got, want := announced(t, dir, ends, all, hold), (map[netip.Addr]string{vip4: "tun0", vip6: "tun0"}); !cmp.Equal(want, got, sameAddr) {
		t.Errorf("with in0 down, announced on %v, want %v", got, want)
	}
	now := time.Now()
	repeat := func() {
		if _, err := h.Repeat(now); err != nil {
			t.Error(err)
		}
	}
	for range 2 * len(repeats) { // from now on it is once a minute
		now = now.Add(repeatEvery)
		repeat()
	}
	set(netlink.LinkSetUp)
	now = now.Add(downAgain)
	got := announced(t, dir, ends, all, repeat)
	if want := (map[netip.Addr]string{gw4: "in0", gw6: "in0"}); !cmp.Equal(want, got, sameAddr) {
		t.Errorf("with in0 up again, announced on %v, want %v", got, want)
	}
	must(t, h.rtnl.remove(vip4, dir.Link("lo").Attrs().Index))
	got = announced(t, dir, ends, all, hold)
	if want := (map[netip.Addr]string{vip4: "tun0"}); !cmp.Equal(want, got, sameAddr) {
		t.Errorf("with %v back, announced on %v, want %v", vip4, got, want)
	}
	disputed := four
	disputed.Again = []netip.Addr{vip6, gw4}
	got = announced(t, dir, ends, []netip.Addr{vip6, gw4, gw6}, func() {
		_, err := h.Hold(t.Context(), w, disputed)
		must(t, err)
	})
	if want := (map[netip.Addr]string{vip6: "tun0", gw4: "in0"}); !cmp.Equal(want, got, sameAddr) {
		t.Errorf("with two disputed, announced on %v, want %v", got, want)
	}
}

// An address that somebody else holds as his own is refused, as a VIP is.
func TestGatewayRefusesForeign(t *testing.T) {
	dir, _, target, f := filterLab(t)
	h := openHolder(t, f)
	dir.Give("in0", gw4.String()+"/24")
	_, err := h.Hold(t.Context(), Wanted{}, Held{Gateways: four.Gateways})
	if err == nil || !strings.Contains(err.Error(), "hold gateway 203.0.113.254: it is on interface in0 already") {
		t.Errorf("error %v", err)
	}
	if !echo(target, gw6.String(), 10) || !echo(target, gw4.String(), 10) {
		t.Error("the other gateway, or the foreign address, does not answer")
	}
}

// others are the routes and neighbours of an interface that are not ours.
func others(t *testing.T, dir spaces.Space, ifname string) (out []string) {
	t.Helper()
	link := dir.Link(ifname)
	dir.Do(func() {
		for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
			routes, err := netlink.RouteListFiltered(family, &netlink.Route{LinkIndex: link.Attrs().Index}, netlink.RT_FILTER_OIF)
			must(t, err)
			for _, r := range routes {
				out = append(out, "route "+r.Dst.String()+" "+r.Src.String())
			}
			neighbours, err := netlink.NeighList(link.Attrs().Index, family)
			must(t, err)
			for _, n := range neighbours {
				if n.State == netlink.NUD_PERMANENT {
					out = append(out, "neighbour "+n.IP.String())
				}
			}
		}
	})
	slices.Sort(out)
	return out
}

// Releasing, or losing, an address takes nothing of others with it; not even where an interface has no address of its own,
// as Linux flushes routes and neighbours with an interface's last address.
func TestReleaseLeavesOthersAlone(t *testing.T) {
	for _, name := range []string{"numbered", "not numbered"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, _, target, f := filterLab(t)
			in0 := dir.Link("in0")
			dir.Do(func() {
				if name == "not numbered" {
					list, err := netlink.AddrList(in0, netlink.FAMILY_V4)
					must(t, err)
					must(t, netlink.AddrDel(in0, &list[0]))
				}
				dst, err := netlink.ParseIPNet("203.0.113.2/32")
				must(t, err)
				must(t, netlink.RouteAdd(&netlink.Route{Dst: dst, LinkIndex: in0.Attrs().Index, Scope: netlink.SCOPE_LINK}))
				must(t, netlink.NeighAdd(&netlink.Neigh{LinkIndex: in0.Attrs().Index, IP: net.ParseIP("203.0.113.9"), State: netlink.NUD_PERMANENT, HardwareAddr: in0.Attrs().HardwareAddr}))
			})
			h := openHolder(t, f)
			before := others(t, dir, "in0")
			held := lasting(5 * time.Second)
			for _, release := range []string{"by hand", "by time"} {
				_, err := h.Hold(t.Context(), Wanted{VIPs: four.VIPs}, held)
				must(t, err)
				if !echo(target, gw4.String(), 10) {
					t.Error("the gateway does not answer")
				}
				if release == "by hand" {
					_, err = h.Hold(t.Context(), Wanted{VIPs: four.VIPs}, Held{Lifetime: held.Lifetime})
					must(t, err)
				} else {
					until(t, h, time.Now(), 30*time.Second)
				}
				if diff := cmp.Diff(before, others(t, dir, "in0")); diff != "" {
					t.Errorf("released %s: %s", release, diff)
				}
			}
		})
	}
}

// Where all directors hold every VIP, nobody is told of it, and nobody who asks is answered; it is found by a route.
func TestSilent(t *testing.T) {
	dir, site, target, f := filterLab(t)
	dir.Sysctl("net/ipv4/conf/tun0/arp_ignore", "1")
	h := openHolder(t, f)
	w := Wanted{VIPs: four.VIPs}
	ends := map[string]spaces.Space{"tun0": site, "in0": target}
	all := slices.Concat(four.VIPs, four.Gateways)
	silent := four
	silent.Silent = true
	var ch Changes
	got := announced(t, dir, ends, all, func() {
		var err error
		ch, err = h.Hold(t.Context(), w, silent)
		must(t, err)
	})
	if want := map[netip.Addr]string{gw4: "in0", gw6: "in0"}; !cmp.Equal(want, got, sameAddr) {
		t.Errorf("announced on %v, want the gateways alone", got)
	}
	if want := []Address{{vip4, "lo"}, {vip6, "lo"}, {gw4, "in0"}, {gw6, "in0"}}; !slices.Equal(ch.AddressesAdded, want) {
		t.Errorf("added %v, want %v", ch.AddressesAdded, want)
	}
	for _, a := range four.VIPs {
		if !echo(site, a.String(), 10) {
			t.Errorf("%v is not found by its route", a)
		}
		if refused(site, a.String()) {
			t.Errorf("%v is open", a)
		}
	}
	onLink(site, vip4.String()+"/32")
	onLink(site, vip6.String()+"/128")
	for _, a := range four.VIPs {
		if echo(site, a.String(), 3) {
			t.Errorf("%v answers neighbours", a)
		}
	}
	if src := source(dir, "2001:db8::2"); src != "2001:db8::1" {
		t.Errorf("the director's own traffic leaves from %s", src)
	}
	got = announced(t, dir, ends, four.VIPs, func() {
		var err error
		ch, err = h.Hold(t.Context(), w, four)
		must(t, err)
	})
	if want := map[netip.Addr]string{vip4: "tun0", vip6: "tun0"}; !cmp.Equal(want, got, sameAddr) {
		t.Errorf("owned again, announced on %v, want %v", got, want)
	}
	if !slices.Equal(ch.AddressesAdded, []Address{{vip6, "tun0"}}) || !slices.Equal(ch.AddressesRemoved, []Address{{vip6, "lo"}}) {
		t.Errorf("owned again: changed %+v", ch)
	}
}

// On one interface with both roles an address can change sides.
func TestAddressChangesSides(t *testing.T) {
	_, _, _, f := filterLab(t)
	h, err := OpenHolder(Config{Device: "tun0", Tunnel: []string{"tun0"}, Subnet: []string{"tun0"}}, f, slog.New(slog.DiscardHandler))
	must(t, err)
	defer h.Close()
	both := []netip.Addr{vip4, vip6}
	for i, step := range []struct {
		w    Wanted
		held Held
		mark uint8
	}{{Wanted{VIPs: both}, Held{VIPs: both}, Protocol}, {Wanted{}, Held{Gateways: both}, ProtocolGateway}, {Wanted{VIPs: both}, Held{VIPs: both}, Protocol}} {
		if _, err := h.Hold(t.Context(), step.w, step.held); err != nil {
			t.Fatal(err)
		}
		ours := marked(t, h)
		if len(ours) != 2 || slices.ContainsFunc(ours, func(a address) bool { return a.protocol != step.mark }) {
			t.Errorf("step %d: %+v, want two marked %#x", i, ours, step.mark)
		}
	}
}

// A director of one side holds nothing of the other's.
func TestOneSide(t *testing.T) {
	_, _, _, f := filterLab(t)
	if _, err := OpenHolder(Config{}, f, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("opened without an interface")
	}
	h, err := OpenHolder(Config{Subnet: []string{"in0"}}, f, slog.New(slog.DiscardHandler))
	must(t, err)
	defer h.Close()
	ch, err := h.Hold(t.Context(), Wanted{VIPs: four.VIPs}, Held{Gateways: four.Gateways})
	if err != nil || len(ch.AddressesAdded) != 2 || ch.FilterAdded != 2 {
		t.Errorf("changed %+v (%v), want both gateways, and both VIPs closed", ch, err)
	}
	if _, err := h.Hold(t.Context(), Wanted{}, Held{VIPs: []netip.Addr{vip6}}); err == nil || !strings.Contains(err.Error(), "no interface is of its side") {
		t.Errorf("error %v", err)
	}
}
