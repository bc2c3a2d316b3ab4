package host

import (
	"net/netip"
	"os/exec"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
)

// ids are the distinct kinds of findings.
func ids(t *testing.T, h *Host) []string {
	t.Helper()
	found, err := h.Doctor(t.Context())
	must(t, err)
	list := []string{}
	for _, f := range found {
		if f.ID == "" || f.Instance == "" || f.What == "" || f.Causes == "" || f.Remedy == "" || f.Severity == "" {
			t.Errorf("a finding lacks something: %+v", f)
		}
		t.Log(f)
		list = append(list, f.ID)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// A breakage is what somebody does to a host that was right, and what the doctor says of it.
type breakage struct {
	name    string
	prepare func(*Instance)
	broken  func(s site)
	want    []string
}

func (b breakage) try(t *testing.T, s site, in Instance) {
	if b.prepare != nil {
		b.prepare(&in)
	}
	h := s.host(t, in)
	_, err := h.Apply(t.Context())
	must(t, err)
	if got := ids(t, h); len(got) > 0 {
		t.Fatalf("before anything is broken: %v", got)
	}
	b.broken(s)
	broken := s.rs.snapshot()
	if got := ids(t, h); !slices.Equal(got, b.want) {
		t.Errorf("found %v, want %v", got, b.want)
	}
	if diff := cmp.Diff(broken, s.rs.snapshot()); diff != "" {
		t.Errorf("Doctor changed something:\n%s", diff)
	}
}

func ip(lines string) func(site) { return func(s site) { s.rs.ip(lines) } }

func sysctls(path, value string) func(site) { return func(s site) { s.rs.set(path, value) } }

// third puts a switch between real server and router, and a host with an address into the segment.
func third(address string) func(site) {
	return func(s site) {
		s.router.ip("link add br0 type bridge\nlink set br0 up\n")
		wire(s.router, "sw1", s.inner, "x0")
		s.inner.set("net/ipv4/conf/all/arp_ignore", "1")
		s.inner.ip("address add " + address + " dev x0\n")
		s.router.ip("link set rs0 master br0\nlink set sw1 master br0\n")
		s.router.until("link show dev sw1", "state UP")
	}
}

// second plugs another interface of the real server into the segment.
func second(lines string) func(site) {
	return func(s site) {
		s.router.ip("link add br0 type bridge\nlink set br0 up\n")
		wire(s.router, "sw0", s.rs, "eth2")
		s.router.ip("link set rs0 master br0\nlink set sw0 master br0\n")
		s.rs.ip(lines)
		s.rs.until("link show dev eth2", "state UP")
		s.rs.settle("eth2")
	}
}

func gateways(in *Instance) {
	in.Via = []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}
}

func TestDoctor(t *testing.T) {
	for _, b := range []breakage{
		{"VIP is gone", nil, ip("address del 192.0.2.100/32 dev lo\n"), []string{"vip-missing"}},
		{"IPv6 VIP is gone", nil, ip("address del 2001:db8::100/128 dev lo\n"), []string{"vip-missing"}},
		{"VIP is on the interface", nil, ip("address del 192.0.2.100/32 dev lo\naddress add 192.0.2.100/32 dev eth0\n"), []string{"vip-on-interface"}},
		{"VIP is there with more than itself", nil, ip("address del 192.0.2.100/32 dev lo\naddress add 192.0.2.100/28 dev lo scope host\n"), []string{"vip-wide"}},
		{"ARP is answered", nil, sysctls("net/ipv4/conf/eth0/arp_ignore", "0"), []string{"vip-answers-arp"}},
		{"ARP is answered by a value that means nothing", nil, sysctls("net/ipv4/conf/all/arp_ignore", "4"), []string{"vip-answers-arp"}},
		{"ARP announces", nil, sysctls("net/ipv4/conf/eth0/arp_announce", "1"), []string{"vip-announced-arp"}},
		{"neighbour proxy", nil, func(s site) {
			s.rs.set("net/ipv6/conf/eth0/proxy_ndp", "1")
			s.rs.ip("neigh add proxy 2001:db8::100 dev eth0\n")
		}, []string{"vip-proxied"}},
		{"somebody else has the VIP", nil, func(s site) {
			third("192.0.2.100/24")(s)
			s.router.ip("address add 192.0.2.100/24 dev br0\n") // the director
		}, []string{"vip-taken"}},
		{"somebody else has the own address", nil, third("192.0.2.10/24"), []string{"own-address-taken"}},
		{"a second interface without an address answers", nil, second(""), []string{"arp-flux-seen", "vip-answered-here"}},
		{"a second interface with an address", nil, second("address add 192.0.2.12/24 dev eth2\n"),
			[]string{"arp-flux", "arp-flux-seen", "vip-announced-arp", "vip-answered-here", "vip-answers-arp"}},
		{"one MAC for two", nil, func(s site) {
			second("address add 192.0.2.12/24 dev eth2\n")(s)
			s.rs.set("net/ipv4/conf/eth2/arp_ignore", "1")
			s.rs.set("net/ipv4/conf/eth2/arp_announce", "2")
			s.rs.in(func(v *view) error {
				a, err := v.nl.LinkByName("eth0")
				if err != nil {
					return err
				}
				b, err := v.nl.LinkByName("eth2")
				if err != nil {
					return err
				}
				return netlink.LinkSetHardwareAddr(b, a.Attrs().HardwareAddr)
			})
		}, []string{"shared-mac"}},
		{"strict reverse path", nil, func(s site) {
			s.rs.ip("route replace default via 10.9.0.1\n")
			s.rs.set("net/ipv4/conf/eth0/rp_filter", "1")
		}, []string{"rp-filter"}},
		{"a site's address is our own", nil, ip("address add 198.18.0.1/32 dev lo\n"), []string{"no-route-back", "vip-refused"}},
		{"a rule goes before the local one", nil, ip(`rule add pref 100 lookup local
rule add pref 50 to 192.0.2.100 lookup 99
route add default via 192.0.2.1 table 99
rule del pref 0
`), []string{"vip-not-local"}},
		{"no default route", nil, ip("route del default\n-6 route del default\n"), []string{"no-route-back"}},
		{"replies by another gateway", gateways, ip("rule del pref 7600 from 192.0.2.100\nroute replace default via 10.9.0.1\n"), []string{"reply-elsewhere"}},
		{"marked packets have another source", func(in *Instance) { gateways(in); in.Mark = 7 }, ip("rule del pref 7600 fwmark 7\n"), []string{"reply-source"}},
		{"no forwarding", nil, sysctls("net/ipv4/ip_forward", "0"), []string{"forwarding-off"}},
		{"no IPv6 forwarding", nil, sysctls("net/ipv6/conf/all/forwarding", "0"), []string{"forwarding-off"}},
		{"no forwarding by one interface", nil, sysctls("net/ipv4/conf/eth0/forwarding", "0"), []string{"forwarding-off"}},
		{"small MTU", nil, ip("link set eth0 mtu 1400\n"), []string{"mtu-small"}},
		{"IPv6 is off", nil, sysctls("net/ipv6/conf/lo/disable_ipv6", "1"), []string{"ipv6-off", "vip-missing"}},
		{"interface is gone", nil, ip("link del eth0\n"), []string{"interface-missing"}},
		{"interface is down", nil, ip("link set eth1 down\nlink set eth0 down\n"), []string{"interface-down", "no-route-back"}},
		{"the other end is down", nil, func(s site) {
			s.router.ip("link set rs0 down\n")
			s.rs.until("link show dev eth0", "state DOWN")
		}, []string{"no-carrier"}},
	} {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel() // mostly it waits
			s := newSite(t)
			b.try(t, s, s.instance())
		})
	}
}

func TestDoctorNoNamespace(t *testing.T) {
	s := newSite(t)
	in := s.instance()
	in.Space = "tdhost-absent"
	if got := ids(t, s.host(t, in)); !slices.Equal(got, []string{"namespace-missing"}) {
		t.Errorf("found %v", got)
	}
}

func TestDoctorNoTunnel(t *testing.T) {
	s := newSite(t)
	in := s.instance()
	_, err := s.host(t, in).Apply(t.Context())
	must(t, err)
	s.rs.ip("link set eth0 mtu 1540\n")
	in.Method = Tunnel
	want := "module-missing"
	if hasModule("ipip") {
		want = "decap-missing"
	}
	if got := ids(t, s.host(t, in)); !slices.Equal(got, []string{want}) {
		t.Errorf("found %v, want %v", got, want)
	}
}

func TestDoctorTunnel(t *testing.T) {
	_, in := newTunnelSite(t)
	for _, b := range []breakage{
		{"device is gone", nil, ip("link del td4-rs1\n"), []string{"decap-missing"}},
		{"IPv6 device is gone", nil, ip("link del td6-rs1\n"), []string{"decap-missing"}},
		{"device is down", nil, ip("link set td4-rs1 down\n"), []string{"decap-down"}},
		{"strict reverse path", nil, sysctls("net/ipv4/conf/td4-rs1/rp_filter", "1"), []string{"decap-rp-filter"}},
		{"loose reverse path for all", nil, sysctls("net/ipv4/conf/all/rp_filter", "2"), []string{"decap-rp-filter"}},
		{"what comes out is dropped", nil, func(s site) {
			s.rs.nft("add table inet x; add chain inet x y { type filter hook prerouting priority 0; }; add rule inet x y iifname td6-rs1 drop")
		}, []string{"decap-dead", "firewall-drops"}},
		{"two own addresses", nil, ip("address add 192.0.2.12/24 dev eth0\n"), []string{"own-address-unclear"}},
		{"WireGuard's source", func(in *Instance) { gateways(in); in.Mark, in.Protocols = 7, []string{"udp/51820"} }, ip("rule del pref 7600 fwmark 7\n"), []string{"reply-source"}},
		{"small MTU", nil, ip("link set eth0 mtu 1500\n"), []string{"mtu-small"}},
	} {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			for _, at := range []room{s.rs, s.router} {
				at.ip("link set " + map[bool]string{true: "eth0", false: "rs0"}[at == s.rs] + " mtu 1540\n")
			}
			in := in
			in.Space = s.rs.ns
			b.try(t, s, in)
		})
	}
}

// nft runs commands of nft(8) there.
func (r room) nft(commands string) {
	r.Helper()
	if out, err := exec.Command("ip", "netns", "exec", string(r.ns), "nft", commands).CombinedOutput(); err != nil {
		r.Fatalf("nft %s: %v: %s", commands, err, out)
	}
}
