package vip

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"tunneldirector/integration/spaces"
)

var (
	vip4 = netip.MustParseAddr("198.51.100.1")
	vip6 = netip.MustParseAddr("2001:db8:1::1")
	gw4  = netip.MustParseAddr("203.0.113.254")
	gw6  = netip.MustParseAddr("2001:db8:9::fe")
)

func openFilter(t *testing.T) *Filter {
	t.Helper()
	f, err := OpenFilter()
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

func prefixes(s ...string) (out []netip.Prefix) {
	for _, p := range s {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

func TestFilterReconciles(t *testing.T) {
	spaces.New(t, 1)
	f := openFilter(t)
	w := Wanted{VIPs: []netip.Addr{vip4, vip6}, Routed: []string{"rs0"}, SubnetInterfaces: map[string][]netip.Prefix{
		"in0": prefixes("100.64.0.0/10", "100.64.1.0/24", "2001:db8:5::/48"), "in1": prefixes("100.64.0.0/10")}}
	wider := Wanted{VIPs: []netip.Addr{vip4}, SubnetInterfaces: map[string][]netip.Prefix{
		"in0": prefixes("100.0.0.0/8", "2001:db8:5:1::/64"), "in1": prefixes("100.64.0.0/10")}}
	set := func(name string, w Wanted, want Changes) {
		t.Helper()
		got, err := f.Set(t.Context(), w)
		if err != nil || got.Built != want.Built || got.FilterAdded != want.FilterAdded || got.FilterRemoved != want.FilterRemoved {
			t.Fatalf("%s: changed %+v, error %v; want %+v", name, got, err, want)
		}
	}
	set("first", w, Changes{Built: true, FilterAdded: 6})
	set("again", w, Changes{})
	set("difference", wider, Changes{FilterAdded: 2, FilterRemoved: 4})
	set("back", w, Changes{FilterAdded: 4, FilterRemoved: 2})

	second := openFilter(t)
	if ch, err := second.Set(t.Context(), w); err != nil || ch.Any() {
		t.Fatalf("a new daemon changed %+v (%v) in what the old one left", ch, err)
	}
	must(t, f.Remove())
	set("removed", w, Changes{Built: true, FilterAdded: 6})
}

func TestFilterTakesManyCovers(t *testing.T) {
	spaces.New(t, 1)
	f := openFilter(t)
	var ps []netip.Prefix
	for i := range 5000 {
		ps = append(ps, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 7), byte(i << 1), 0}), 24))
	}
	w := Wanted{SubnetInterfaces: map[string][]netip.Prefix{"in0": ps}}
	if ch, err := f.Set(t.Context(), w); err != nil || ch.FilterAdded != len(ps) {
		t.Fatalf("added %d (%v), want %d", ch.FilterAdded, err, len(ps))
	}
	if ch, err := f.Set(t.Context(), w); err != nil || ch.Any() {
		t.Fatalf("the second time changed %+v (%v)", ch, err)
	}
}

func TestFilterRefuses(t *testing.T) {
	spaces.New(t, 1)
	f := openFilter(t)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Set(cancelled, Wanted{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	for name, w := range map[string]Wanted{
		"loopback":      {VIPs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}},
		"multicast":     {VIPs: []netip.Addr{netip.MustParseAddr("ff02::1")}},
		"link local":    {VIPs: []netip.Addr{netip.MustParseAddr("fe80::1")}},
		"invalid":       {VIPs: []netip.Addr{{}}},
		"long name":     {SubnetInterfaces: map[string][]netip.Prefix{"sixteen-bytes-xx": nil}},
		"routed to it":  {Routed: []string{"sixteen-bytes-xx"}},
		"not canonical": {SubnetInterfaces: map[string][]netip.Prefix{"in0": {netip.MustParsePrefix("100.64.0.1/10")}}},
	} {
		if _, err := f.Set(t.Context(), w); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// The lab: site --tun0-- director --in0-- target; the director routes, and the site has an address that the target's
// packets would reach by the default route.
func filterLab(t *testing.T) (dir, site, target spaces.Space, f *Filter) {
	s := spaces.New(t, 3)
	dir, site, target = s[0], s[1], s[2]
	spaces.Wire(dir, "tun0", site, "eth0")
	spaces.Wire(dir, "in0", target, "eth0")
	for _, a := range []struct {
		s        spaces.Space
		dev, pfx string
	}{{dir, "tun0", "192.0.2.1/24"}, {dir, "tun0", "2001:db8::1/64"}, {site, "eth0", "192.0.2.2/24"}, {site, "eth0", "2001:db8::2/64"},
		{dir, "in0", "203.0.113.1/24"}, {dir, "in0", "2001:db8:9::1/64"}, {target, "eth0", "203.0.113.2/24"}, {target, "eth0", "2001:db8:9::2/64"},
		{site, "lo", "100.64.0.1/32"}, {site, "lo", "100.127.0.1/32"}, {site, "lo", "100.200.0.1/32"}, {site, "lo", "2001:db8:5::1/128"}, {site, "lo", "2001:db8:6::1/128"}} {
		a.s.Give(a.dev, a.pfx)
	}
	for _, path := range []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"} {
		dir.Sysctl(path, "1")
	}
	dir.Route("0.0.0.0/0", "192.0.2.2")
	dir.Route("::/0", "2001:db8::2")
	site.Route("0.0.0.0/0", "192.0.2.1")
	site.Route("::/0", "2001:db8::1")
	target.Route("0.0.0.0/0", "203.0.113.1")
	target.Route("::/0", "2001:db8:9::1")
	return dir, site, target, openFilter(t)
}

// echo asks dst from s; n tries of 100 ms.
func echo(s spaces.Space, dst string, tries int) bool {
	s.T.Helper()
	var answered bool
	s.Do(func() {
		network, src, proto := "ip4:icmp", "0.0.0.0", 1
		var kind, reply icmp.Type = ipv4.ICMPTypeEcho, ipv4.ICMPTypeEchoReply
		if netip.MustParseAddr(dst).Is6() {
			network, src, proto, kind, reply = "ip6:ipv6-icmp", "::", 58, ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply
		}
		c, err := icmp.ListenPacket(network, src)
		must(s.T, err)
		defer c.Close()
		for try := 0; try < tries && !answered; try++ {
			b, err := (&icmp.Message{Type: kind, Body: &icmp.Echo{ID: 7, Seq: try, Data: []byte("?")}}).Marshal(nil)
			must(s.T, err)
			_, err = c.WriteTo(b, &net.IPAddr{IP: net.ParseIP(dst)})
			must(s.T, err)
			must(s.T, c.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
			for buf := make([]byte, 1500); !answered; {
				n, _, err := c.ReadFrom(buf)
				if err != nil {
					break
				}
				m, err := icmp.ParseMessage(proto, buf[:n])
				answered = err == nil && m.Type == reply
			}
		}
	})
	return answered
}

// refused tells whether something answered a UDP packet to dst with an ICMP error.
func refused(s spaces.Space, dst string) bool {
	s.T.Helper()
	var err error
	s.Do(func() {
		c, derr := net.Dial("udp", net.JoinHostPort(dst, "500"))
		must(s.T, derr)
		defer c.Close()
		_, werr := c.Write([]byte("?"))
		must(s.T, werr)
		must(s.T, c.SetReadDeadline(time.Now().Add(500*time.Millisecond)))
		_, err = c.Read(make([]byte, 1))
	})
	return errors.Is(err, unix.ECONNREFUSED)
}

func TestFilterClosesVIP(t *testing.T) {
	dir, site, _, f := filterLab(t)
	for _, v := range []string{vip4.String() + "/32", vip6.String() + "/128"} {
		dir.Give("lo", v)
	}
	for _, v := range []string{vip4.String(), vip6.String()} {
		if !echo(site, v, 20) || !refused(site, v) {
			t.Fatalf("without the filter the lab does not answer at %s", v)
		}
	}
	_, err := f.Set(t.Context(), Wanted{VIPs: []netip.Addr{vip4, vip6}})
	must(t, err)
	for _, v := range []string{vip4.String(), vip6.String()} {
		if refused(site, v) {
			t.Errorf("the director's own stack answered UDP to %s", v)
		}
		if !echo(site, v, 5) {
			t.Errorf("no echo from %s", v)
		}
	}
	if !refused(site, "192.0.2.1") {
		t.Error("the director's own address was closed too")
	}
	if d, err := f.Dropped(); err != nil || d != (Dropped{Input: 2}) {
		t.Errorf("counted %+v (%v), want 2 at input", d, err)
	}
}

func TestFilterForward(t *testing.T) {
	_, site, target, f := filterLab(t)
	site.Give("lo", vip4.String()+"/32") // where a VIP that is not local here would be routed on to
	all := []string{vip4.String(), "100.64.0.1", "100.127.0.1", "100.200.0.1", "2001:db8:5::1", "2001:db8:6::1"}
	for _, a := range all {
		if !echo(target, a, 20) {
			t.Fatalf("the lab does not route to %s", a)
		}
	}
	w := Wanted{VIPs: []netip.Addr{vip4}, SubnetInterfaces: map[string][]netip.Prefix{"in0": prefixes("100.64.0.0/10", "2001:db8:5::/48")}}
	_, err := f.Set(t.Context(), w)
	must(t, err)
	for _, a := range all {
		want := a == "100.200.0.1" || a == "2001:db8:6::1"
		if got := echo(target, a, map[bool]int{true: 5, false: 1}[want]); got != want {
			t.Errorf("%s: routed %v, want %v", a, got, want)
		}
	}
	if d, err := f.Dropped(); err != nil || d != (Dropped{Forward: 1, Cover: 3}) {
		t.Errorf("counted %+v (%v), want 1 forward, 3 cover", d, err)
	}
	// Where the kernel routes to real servers, covers are open towards these, and VIPs are not.
	for _, routed := range []string{"rs0", "tun0"} {
		w.Routed = []string{routed}
		_, err = f.Set(t.Context(), w)
		must(t, err)
		for a, want := range map[string]bool{"100.64.0.1": routed == "tun0", "2001:db8:5::1": routed == "tun0", vip4.String(): false} {
			if got := echo(target, a, map[bool]int{true: 5, false: 1}[want]); got != want {
				t.Errorf("%s, real servers by %s: routed %v, want %v", a, routed, got, want)
			}
		}
	}
	w.Routed = nil
	w.SubnetInterfaces = map[string][]netip.Prefix{"in1": prefixes("100.64.0.0/10")}
	_, err = f.Set(t.Context(), w)
	must(t, err)
	if !echo(target, "100.64.0.1", 5) {
		t.Error("a cover of another interface closed in0")
	}
}
