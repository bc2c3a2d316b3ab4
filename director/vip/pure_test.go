package vip

import (
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"tunneldirector/director/plane"
	"tunneldirector/director/vip/sysctl"
)

var labInterfaces = []plane.Interface{{Name: "tun0", Roles: plane.RoleTunnel}, {Name: "in0", Roles: plane.RoleSubnet | plane.RoleRealServers}}

// quiet are settings that nothing is to be said about.
func quiet() map[string]string {
	m := map[string]string{"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1", "net/ipv6/conf/tun0/disable_ipv6": "0",
		"net/ipv6/conf/in0/disable_ipv6": "0", "net/ipv6/conf/lo/disable_ipv6": "0"}
	for _, i := range []string{"all", "tun0", "in0"} {
		for _, s := range []string{"rp_filter", "accept_local", "send_redirects", "arp_ignore", "arp_announce", "forwarding"} {
			m["net/ipv4/conf/"+i+"/"+s] = "0"
		}
	}
	m["net/ipv4/conf/in0/arp_ignore"] = "1"
	m["net/ipv4/conf/in0/forwarding"] = "1"
	m["net/ipv4/conf/in0/accept_local"] = "1"
	return m
}

func TestCheck(t *testing.T) {
	vips := []netip.Addr{netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("2001:db8:1::1")}
	held := Held{VIPs: vips}
	silent := Held{VIPs: vips, Silent: true}
	gateways := Held{Gateways: []netip.Addr{netip.MustParseAddr("203.0.113.254"), netip.MustParseAddr("2001:db8:9::fe")}}
	tests := []struct {
		name                      string
		held                      Held
		path, value, what, remedy string
	}{
		{"nothing", held, "", "", "", ""},
		{"no routing", held, "net/ipv4/ip_forward", "0", "ip_forward = 0", "net.ipv4.ip_forward=1"},
		{"no routing here", held, "net/ipv4/conf/in0/forwarding", "0", "in0.forwarding = 0", "net.ipv4.conf.in0.forwarding=1"},
		{"no IPv6 routing", held, "net/ipv6/conf/all/forwarding", "0", "forwarding = 0", "net.ipv6.conf.all.forwarding=1"},
		{"strict on one", held, "net/ipv4/conf/tun0/rp_filter", "1", "strict reverse-path filter on tun0", "tun0.rp_filter=2"},
		{"martians", held, "net/ipv4/conf/in0/accept_local", "0", "in0.accept_local = 0", "in0.accept_local=1"},
		{"redirects", held, "net/ipv4/conf/in0/send_redirects", "1", "send_redirects on in0", "in0.send_redirects=0"},
		{"nobody answers", held, "net/ipv4/conf/tun0/arp_ignore", "2", "arp_ignore = 2 on tun0", "hold VIPs on tun0"},
		{"two answer", held, "net/ipv4/conf/in0/arp_ignore", "0", "arp_ignore = 0 on in0", "in0.arp_ignore=1"},
		{"no IPv6", held, "net/ipv6/conf/tun0/disable_ipv6", "1", "disable_ipv6 = 1", "tun0.disable_ipv6=0"},
		{"silent", silent, "", "", "", ""},
		{"silent, and all answer", silent, "net/ipv4/conf/tun0/arp_ignore", "0", "arp_ignore = 0 on tun0", "tun0.arp_ignore=1"},
		{"silent, and says it in passing", silent, "net/ipv4/conf/tun0/arp_announce", "1", "arp_announce = 1 on tun0", "tun0.arp_announce=2"},
		{"silent, no IPv6 there", silent, "net/ipv6/conf/tun0/disable_ipv6", "1", "", ""},
		{"silent, no IPv6", silent, "net/ipv6/conf/lo/disable_ipv6", "1", "lo.disable_ipv6 = 1", "lo.disable_ipv6=0"},
		{"gateways", gateways, "", "", "", ""},
		{"gateways and VIPs' ARP", gateways, "net/ipv4/conf/in0/arp_ignore", "0", "", ""},
		{"nobody answers for gateways", gateways, "net/ipv4/conf/in0/arp_ignore", "8", "arp_ignore = 8 on in0", "in0.arp_ignore=1"},
		{"no IPv6 for gateways", gateways, "net/ipv6/conf/in0/disable_ipv6", "1", "in0.disable_ipv6 = 1", "in0.disable_ipv6=0"},
		{"routing for gateways", gateways, "net/ipv6/conf/all/forwarding", "0", "forwarding = 0", "net.ipv6.conf.all.forwarding=1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			settings := quiet()
			if tt.held.Silent {
				settings["net/ipv4/conf/tun0/arp_ignore"], settings["net/ipv4/conf/tun0/arp_announce"] = "1", "2"
			}
			if tt.path != "" {
				settings[tt.path] = tt.value
			}
			if settings["net/ipv4/ip_forward"] == "0" { // which the kernel writes to all interfaces
				settings["net/ipv4/conf/in0/forwarding"] = "0"
			}
			proc := fstest.MapFS{}
			for path, value := range settings {
				proc[path] = &fstest.MapFile{Data: []byte(value + "\n")}
			}
			found, err := Check(proc, Config{}, labInterfaces, tt.held)
			if err != nil {
				t.Fatal(err)
			}
			if tt.what == "" {
				if len(found) > 0 {
					t.Fatalf("found %v", found)
				}
				return
			}
			if len(found) != 1 || !strings.Contains(found[0].What, tt.what) || !strings.Contains(found[0].String(), tt.remedy) {
				t.Fatalf("found %v; want %q with remedy %q", found, tt.what, tt.remedy)
			}
		})
	}
	if _, err := Check(fstest.MapFS{}, Config{}, labInterfaces, held); err == nil {
		t.Error("unreadable settings were not reported")
	}
}

// What mends one finding must not be another finding, nor concern interfaces that are not the director's.
func TestMendingEndsTheFindings(t *testing.T) {
	for _, filter := range [][2]string{{"0", "1"}, {"1", "0"}, {"2", "1"}, {"1", "2"}} {
		all, own := filter[0], filter[1]
		settings := quiet()
		settings["net/ipv4/conf/all/rp_filter"] = all
		settings["net/ipv4/conf/in0/rp_filter"], settings["net/ipv4/conf/tun0/rp_filter"] = own, own
		settings["net/ipv4/conf/in0/accept_local"] = "0"
		proc := fstest.MapFS{}
		for path, value := range settings {
			proc[path] = &fstest.MapFile{Data: []byte(value)}
		}
		check := func() []sysctl.Finding {
			found, err := Check(proc, Config{}, labInterfaces, Held{VIPs: []netip.Addr{netip.MustParseAddr("198.51.100.1")}})
			if err != nil {
				t.Fatal(err)
			}
			return found
		}
		for _, f := range check() {
			for _, s := range f.Settings {
				proc[s.Path] = &fstest.MapFile{Data: []byte(strconv.Itoa(s.Value))}
			}
		}
		if found := check(); len(found) > 0 {
			t.Errorf("all %s, own %s: after mending: %v", all, own, found)
		}
		if now := string(proc["net/ipv4/conf/all/rp_filter"].Data); now != all {
			t.Errorf("all %s, own %s: the filter of all other interfaces is %s now", all, own, now)
		}
	}
}

func TestOutermost(t *testing.T) {
	parse := func(s string) (out []netip.Prefix) {
		for _, f := range strings.Fields(s) {
			out = append(out, netip.MustParsePrefix(f))
		}
		return out
	}
	for in, want := range map[string]string{
		"": "",
		"10.0.0.0/8 10.1.0.0/16 10.0.0.0/8 11.0.0.0/8": "10.0.0.0/8 11.0.0.0/8",
		"10.1.0.0/16 0.0.0.0/0 2001:db8::/32 ::/0":     "0.0.0.0/0 ::/0",
		"10.0.0.0/9 10.128.0.0/9 10.0.0.0/32":          "10.0.0.0/9 10.128.0.0/9",
	} {
		if d := cmp.Diff(parse(want), outermost(parse(in)), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); d != "" {
			t.Errorf("outermost(%s):\n%s", in, d)
		}
	}
}
