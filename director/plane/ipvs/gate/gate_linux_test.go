package gate

import (
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tunneldirector/director/plane"
	"tunneldirector/director/vip/ruleset"
	"tunneldirector/integration/spaces"
)

const (
	vip4, vip6     = "198.51.100.1", "2001:db8:1::1" // local here, with all services
	bare4          = "198.51.100.2"                  // local here, without a service
	away4, away6   = "198.51.100.3", "2001:db8:1::3" // held elsewhere
	site4, site6   = "192.0.2.2", "2001:db8::2"
	known4, known6 = "203.0.113.5", "2001:db8:7::5" // whose packets the stand-in takes
	split4         = "203.0.113.6"                  // pins by port only
)

var wanted = Wanted{
	VIPs:   []netip.Addr{addr(vip4), addr(vip6), addr(bare4), addr(away4), addr(away6)},
	Own:    []netip.Addr{addr("203.0.113.200"), addr("2001:db8:7::200")}, // not really there, so that the kernel does not know
	Tunnel: []string{"tun0"}, Subnet: []string{"in0"}, RealServers: []string{"rs0"},
	Services: []Allowed{
		{addr(vip4), protoUDP, 500, 500}, {addr(vip4), protoUDP, 4500, 4510}, {addr(vip4), protoESP, 0, 0}, {addr(vip4), protoAH, 0, 0},
		{addr(vip6), protoUDP, 500, 500}, {addr(vip6), protoESP, 0, 0}, {addr(vip6), protoAH, 0, 0},
	},
	NoPort: []Source{{addr(vip4), addr(split4)}},
}

// A lab: site --tun0-- director --in0-- target, director --rs0-- rs.
type lab struct {
	dir, site, target, rs spaces.Space
	gate                  *Gate
	standIn               *ruleset.Keeper
}

func openGate(t testing.TB) *Gate {
	t.Helper()
	g, err := Open()
	must(t, err)
	t.Cleanup(func() { g.Close() })
	return g
}

func newLab(t *testing.T) *lab {
	s := spaces.New(t, 4)
	l := &lab{dir: s[0], site: s[1], target: s[2], rs: s[3]}
	spaces.Wire(l.dir, "tun0", l.site, "eth0")
	spaces.Wire(l.dir, "in0", l.target, "eth0")
	spaces.Wire(l.dir, "rs0", l.rs, "eth0")
	l.dir.Give("tun0", "192.0.2.1/24", "2001:db8::1/64")
	l.site.Give("eth0", site4+"/24", site6+"/64")
	l.dir.Give("in0", "10.1.0.1/24", "2001:db8:a::1/64")
	l.target.Give("eth0", "10.1.0.2/24", "2001:db8:a::2/64")
	l.dir.Give("rs0", "10.2.0.1/24", "2001:db8:b::1/64")
	l.rs.Give("eth0", "10.2.0.2/24", "2001:db8:b::2/64")
	l.dir.Give("lo", vip4+"/32", vip6+"/128", bare4+"/32")
	for _, path := range []string{"ip_forward", "conf/all/route_localnet"} {
		l.dir.Sysctl("net/ipv4/"+path, "1")
	}
	l.dir.Sysctl("net/ipv6/conf/all/forwarding", "1")
	l.dir.Route("100.64.0.0/10", "10.2.0.2")
	l.dir.Route("2001:db8:5::/48", "2001:db8:b::2")
	l.dir.Route("203.0.113.0/24", site4)
	l.dir.Route("2001:db8:7::/48", site6)
	isLocal := func() bool {
		r, err := netlink.RouteGet(addr(vip6).AsSlice())
		return err == nil && r[0].Type == unix.RTN_LOCAL
	}
	for deadline := time.Now().Add(2 * time.Second); !isLocal(); { // the kernel takes a moment
		if time.Now().After(deadline) {
			t.Fatal("the VIP did not become local")
		}
	}
	l.gate = openGate(t)
	return l
}

// standIn takes the place of IPVS, at its priority: it takes what comes from the known endpoints, refuses UDP of others, and
// leaves what else there is. It counts markers, too.
func standIn(t *testing.T) *ruleset.Keeper {
	t.Helper()
	table := ruleset.New("standin", "1")
	table.Counter("taken", "refused", "marker")
	in := table.Hook("input", nftables.ChainHookInput, 99)
	table.Rule(in, ruleset.Is(ruleset.Protocol(), protoUDP), ruleset.Is(ruleset.Transport(2, 2), 0, 9), ruleset.Drop("marker"))
	for v, vip := range map[int]string{4: vip4, 6: vip6} {
		known := map[int]string{4: known4, 6: known6}[v]
		toVIP := append(ruleset.Family(v), ruleset.Is(ruleset.Dst(v), addr(vip).AsSlice()...)...)
		table.Rule(in, toVIP, ruleset.Is(ruleset.Src(v), addr(known).AsSlice()...), ruleset.Drop("taken"))
		table.Rule(in, toVIP, ruleset.Is(ruleset.Protocol(), protoUDP), ruleset.Count("refused"),
			[]expr.Any{&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_PORT_UNREACH}})
	}
	return keep(t, table)
}

// keep puts a table of the test's own into the kernel.
func keep(t *testing.T, table *ruleset.Table) *ruleset.Keeper {
	t.Helper()
	k, err := ruleset.Open(table)
	must(t, err)
	t.Cleanup(func() { k.Close() })
	_, err = k.Keep(t.Context(), nil)
	must(t, err)
	return k
}

// counts are all counters that are not zero, in packets.
func (l *lab) counts(t *testing.T) map[string]uint64 {
	t.Helper()
	out := map[string]uint64{}
	for _, k := range []*ruleset.Keeper{l.gate.table, l.standIn} {
		c, err := k.Counters()
		must(t, err)
		for name, n := range c {
			out[name] = n.Packets
		}
	}
	maps.DeleteFunc(out, func(_ string, n uint64) bool { return n == 0 })
	return out
}

// count is what counters rise by until a marker that is sent after the packets has come through the same wire.
func (l *lab) count(t *testing.T, from spaces.Space, toName string, packets ...[]byte) string {
	t.Helper()
	before := l.counts(t)
	marker := map[string][]byte{"tun0": udp(site4, "192.0.2.1", 9), "in0": udp("10.1.0.2", "10.1.0.1", 9), "rs0": udp("10.2.0.2", "10.2.0.1", 9)}[toName]
	send(from, "eth0", l.dir, toName, append(packets, marker)...)
	after := l.counts(t)
	for deadline := time.Now().Add(2 * time.Second); after["marker"] == before["marker"]; after = l.counts(t) {
		if time.Now().After(deadline) {
			t.Fatal("the marker did not come through")
		}
	}
	delete(after, "marker")
	var out []string
	for _, name := range []string{"taken", "refused", counterRole, counterSource, counterICMP, counterService, counterPort, counterUnknown, counterSubnet, counterSeal, counterRedirect} {
		if n := after[name] - before[name]; n > 0 {
			out = append(out, fmt.Sprintf("%s %d", name, n))
		}
	}
	return strings.Join(out, ", ")
}

func TestTunnelSide(t *testing.T) {
	l := newLab(t)
	l.standIn = standIn(t)
	_, err := l.gate.Set(t.Context(), wanted)
	must(t, err)
	big := make([]byte, 1600)
	frag := func(offset uint16, part []byte) []byte {
		return fragment(addr(known4), addr(vip4), protoESP, offset, part)
	}
	tests := []struct {
		name   string
		packet [][]byte
		want   string
	}{
		{"5 another VIP", [][]byte{udp(away4, vip4, 500), udp(away6, vip6, 500)}, "bad_source 2"},
		{"5 an own address", [][]byte{esp("203.0.113.200", vip4), esp("2001:db8:7::200", vip6)}, "bad_source 2"},
		{"5 loopback, class E", [][]byte{udp("127.0.0.2", vip4, 500), udp("240.0.0.1", vip4, 500)}, "bad_source 2"},
		{"5 unspecified", [][]byte{udp("::", vip6, 500)}, "bad_source 1"},
		{"5 before 6", [][]byte{icmp(away4, vip4, 8)}, "bad_source 1"},
		{"5 dies before", [][]byte{udp("0.0.0.0", vip4, 500), udp("224.0.0.1", vip4, 500), udp("255.255.255.255", vip4, 500), udp(vip4, vip4, 500),
			udp("::1", vip6, 500), udp("ff02::1", vip6, 500)}, ""},
		{"6 echo", [][]byte{icmp(site4, vip4, 8), icmp(site6, vip6, 128), icmp(site4, bare4, 8)}, ""},
		{"6 neighbours", [][]byte{icmp(site6, vip6, 135), icmp(site6, vip6, 136)}, ""},
		{"6 errors", [][]byte{icmp(known4, vip4, 3), icmp(known4, vip4, 11), icmp(known4, vip4, 12), icmp(known6, vip6, 1), icmp(known6, vip6, 2),
			icmp(known6, vip6, 3), icmp(known6, vip6, 4)}, "taken 7"},
		{"6 errors about nobody", [][]byte{icmp(site4, vip4, 3), icmp(site6, vip6, 1)}, "unknown_endpoint 2"},
		{"6 other ICMP", [][]byte{icmp(known4, vip4, 5), icmp(known4, vip4, 13), icmp(known4, vip4, 0), icmp(known6, vip6, 129), icmp(known6, vip6, 133)}, "icmp 5"},
		{"6 ICMP of the other family", [][]byte{ip(known4, vip4, unix.IPPROTO_ICMPV6, make([]byte, 8)...)}, "no_service 1"},
		{"6 ICMP cut short", [][]byte{ip(known4, vip4, unix.IPPROTO_ICMP)}, "icmp 1"},
		{"7 UDP", [][]byte{udp(known4, vip4, 500), udp(known4, vip4, 4500), udp(known4, vip4, 4505), udp(known4, vip4, 4510), udp(known6, vip6, 500)}, "taken 5"},
		{"7 UDP of no service", [][]byte{udp(known4, vip4, 499), udp(known4, vip4, 501), udp(known4, vip4, 4499), udp(known4, vip4, 4511), udp(known4, vip4, 0),
			udp(known4, bare4, 500), udp(known6, vip6, 4500)}, "no_service 7"},
		{"7 ESP and AH", [][]byte{esp(known4, vip4), ah(known4, vip4), esp(known6, vip6), ah(known6, vip6)}, "taken 4"},
		{"7 protocols of no service", [][]byte{ip(known4, vip4, 6, make([]byte, 20)...), ip(known4, vip4, 47, make([]byte, 20)...), ip(known4, vip4, 4, make([]byte, 20)...),
			esp(known4, bare4), ah(known4, bare4)}, "no_service 5"},
		{"7 UDP cut short", [][]byte{ip(known4, vip4, protoUDP, 1, 2, 3)}, "no_service 1"},
		{"7 fragments are whole again", [][]byte{frag(0x2000, big[:800]), frag(100, big[800:])}, "taken 1"},
		{"8 no port", [][]byte{esp(split4, vip4), ah(split4, vip4)}, "no_port 2"},
		{"8 the same with a port", [][]byte{udp(split4, vip4, 4500)}, "refused 1, unknown_endpoint 1"},
		{"9 unknown ESP", [][]byte{esp(site4, vip4), ah(site4, vip4), esp(site6, vip6)}, "unknown_endpoint 3"},
		{"no VIP", [][]byte{udp(site4, "192.0.2.1", 7), udp(site6, "2001:db8::1", 7), ip(site4, "192.0.2.1", 47)}, ""},
	}
	for _, tt := range tests {
		if got := l.count(t, l.site, "tun0", tt.packet...); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
	if got := l.count(t, l.rs, "rs0", udp(known4, vip4, 500), icmp(known4, vip4, 8), udp(known6, vip6, 500), udp("10.2.0.2", "10.2.0.1", 7)); got != "no_role 3" {
		t.Errorf("4 without the role: %q", got)
	}
	reasons, _, err := l.gate.Counters()
	want := map[plane.Reason]uint64{plane.DropRole: 3, plane.DropSource: 8, plane.DropICMP: 6, plane.DropNoService: 14, plane.DropNoPort: 2, plane.DropUnknown: 6, plane.DropLoop: 0}
	if d := cmp.Diff(want, reasons); d != "" || err != nil {
		t.Errorf("counters (%v):\n%s", err, d)
	}
}

func TestSubnetSide(t *testing.T) {
	l := newLab(t)
	l.standIn = standIn(t)
	_, err := l.gate.Set(t.Context(), wanted)
	must(t, err)
	tests := []struct {
		name   string
		from   spaces.Space
		by     string
		packet [][]byte
		want   string
	}{
		{"forwarded", l.target, "in0", [][]byte{udp("10.1.0.2", "100.64.0.1", 500), esp("2001:db8:a::2", "2001:db8:5::1"), ip("10.9.9.9", "100.64.0.1", 4)}, "subnet 3"},
		{"12 bad sources", l.target, "in0", [][]byte{udp(away4, "100.64.0.1", 500), udp("203.0.113.200", "100.64.0.1", 500), udp("240.0.0.1", "100.64.0.1", 500),
			udp(vip6, "2001:db8:5::1", 500), udp("2001:db8:7::200", "2001:db8:5::1", 500)}, "bad_source 5"},
		{"by another interface", l.site, "tun0", [][]byte{udp(site4, "100.64.0.1", 500), udp(away4, "100.64.0.1", 500)}, ""},
		{"not to a real server", l.target, "in0", [][]byte{udp("10.1.0.2", "203.0.113.77", 500)}, ""},
	}
	for _, tt := range tests {
		if got := l.count(t, tt.from, tt.by, tt.packet...); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
	if _, subnet, err := l.gate.Counters(); err != nil || subnet != (plane.Traffic{Packets: 3, Bytes: 32 + 64 + 20}) {
		t.Errorf("forwarded %+v (%v), want 3 packets, 116 bytes", subnet, err)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
