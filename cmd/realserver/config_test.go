package main

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"tunneldirector/director/config/tree"
)

const minimal = `
host: node-a
directors: [192.0.2.1:7460]
real_servers:
  - name: rs1
    vips: [192.0.2.10]
    interface: eth0
    terminator: {kind: strongswan}
`

var addrs = cmp.Options{cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{})}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func TestDefaults(t *testing.T) {
	got, err := Parse([]byte(minimal))
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Host, want.Directors = "node-a", []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:7460")}
	want.RealServers = []RealServer{{Name: "rs1", VIPs: []netip.Addr{addr("192.0.2.10")}, Method: "dr", Interface: "eth0", CPUCeiling: 80,
		Terminator: TerminatorConfig{Kind: "strongswan", Settings: newSettings("strongswan")}}}
	if d := cmp.Diff(want, got, addrs); d != "" {
		t.Error(d)
	}
}

func TestEverySetting(t *testing.T) {
	got, err := Parse([]byte(`
host: node-a
directors: [192.0.2.1:7460, "[2001:db8::1]:7460"]
tls: {cert: /a, key: /b, ca: /c}
state_dir: /s
socket: /r.sock
probe_port: 0
prepare_host: true
look: 2s
adopt: {rate: 0.5/s, burst: 7, retries: 0}
log: {level: warn, format: json}
drill: {allow: true, start: {rs1: [/s, fastd]}}
real_servers:
  - name: rs1
    vips: [192.0.2.10, "2001:db8::10"]
    method: tunnel
    interface: eth0
    namespace: blue
    own: [198.51.100.1]
    devices: [tunl0]
    holder: vip0
    via: [198.51.100.254]
    mark: 7
    share_l2: true
    mtu: 1400
    mss: -1
    sites: [203.0.113.1]
    protocols: [udp/10000]
    capacity: 100
    cpu_ceiling: 50%
    room: {receive_buffer: 4MiB, queue: 5000}
    terminator: {kind: fastd, socket: /f, port: 1, subnets: {site-1: [100.64.1.0/24]}, clear: /c}
  - {name: rs2, vips: [192.0.2.11], interface: eth0, cpu_ceiling: none, terminator: {kind: wireguard, device: wg0, socket: /w, sends_from_vip: true}}
  - name: rs3
    vips: [192.0.2.12]
    interface: eth0
    terminator: {socket: /v, connections: site-*, timeout: 1s, kernel_ipsec: false, proposals: [a], esp_proposals: [b], child: {updown: /u}, kind: strongswan}
  - {name: rs4, vips: [192.0.2.13], interface: eth0, terminator: {kind: libreswan, run_dir: /r, whack: /w, connections: b-*, timeout: 3s}}
  - {name: rs5, vips: [192.0.2.14], interface: eth0, terminator: {kind: xfrm}}
  - {name: rs6, vips: [192.0.2.15], interface: eth0, terminator: {kind: exec, tunnels: [/t], adopt: [/a, b], release: [/r], accept: [/c], carries: [/d], work: [/w], timeout: 1s}}
`))
	if err != nil {
		t.Fatal(err)
	}
	want := Config{Host: "node-a", Directors: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:7460"), netip.MustParseAddrPort("[2001:db8::1]:7460")},
		TLS: TLS{"/a", "/b", "/c"}, StateDir: "/s", Socket: "/r.sock", PrepareHost: true, Look: 2 * time.Second, Adopt: Adopt{0.5, 7, 0}, Log: Log{4, "json"}, Drill: Drill{true, map[string][]string{"rs1": {"/s", "fastd"}}},
		RealServers: []RealServer{
			{Name: "rs1", VIPs: []netip.Addr{addr("192.0.2.10"), addr("2001:db8::10")}, Method: "tunnel", Interface: "eth0", Namespace: "blue", Own: []netip.Addr{addr("198.51.100.1")},
				Devices: []string{"tunl0"}, Holder: "vip0", Via: []netip.Addr{addr("198.51.100.254")}, Mark: 7, ShareL2: true, MTU: 1400, MSS: -1, Sites: []netip.Addr{addr("203.0.113.1")},
				Protocols: []string{"udp/10000"}, Capacity: 100, CPUCeiling: 50, Room: Room{4 << 20, 5000},
				Terminator: TerminatorConfig{"fastd", &fastD{"/f", 1, map[string][]netip.Prefix{"site-1": {netip.MustParsePrefix("100.64.1.0/24")}}, "/c"}}},
			{Name: "rs2", VIPs: []netip.Addr{addr("192.0.2.11")}, Method: "dr", Interface: "eth0", CPUCeiling: noCeiling, Terminator: TerminatorConfig{"wireguard", &wireGuard{"wg0", "/w", true}}},
			{Name: "rs3", VIPs: []netip.Addr{addr("192.0.2.12")}, Method: "dr", Interface: "eth0", CPUCeiling: 80,
				Terminator: TerminatorConfig{"strongswan", &strongSwan{"/v", "site-*", time.Second, false, []string{"a"}, []string{"b"}, map[string]string{"updown": "/u"}}}},
			{Name: "rs4", VIPs: []netip.Addr{addr("192.0.2.13")}, Method: "dr", Interface: "eth0", CPUCeiling: 80, Terminator: TerminatorConfig{"libreswan", &libreSwan{"/r", "/w", "b-*", 3 * time.Second}}},
			{Name: "rs5", VIPs: []netip.Addr{addr("192.0.2.14")}, Method: "dr", Interface: "eth0", CPUCeiling: 80, Terminator: TerminatorConfig{"xfrm", &kernelSAs{}}},
			{Name: "rs6", VIPs: []netip.Addr{addr("192.0.2.15")}, Method: "dr", Interface: "eth0", CPUCeiling: 80, Terminator: TerminatorConfig{"exec",
				&programs{[]string{"/t"}, []string{"/a", "b"}, []string{"/r"}, []string{"/c"}, []string{"/d"}, []string{"/w"}, time.Second}}},
		}}
	if d := cmp.Diff(want, got, addrs); d != "" {
		t.Error(d)
	}
}

func TestFaults(t *testing.T) {
	tests := []struct {
		name, text string
		want       []string
	}{
		{"empty", "", []string{"is empty; it needs at least host and real_servers"}},
		{"not YAML", "a: [", []string{"not YAML: sequence end token ']' not found (line 1)"}},
		{"two documents", "a: 1\n---\nb: 2\n", []string{"is a second document; there is one (line 3)"}},
		{"a list", "- a\n", []string{"is not a mapping (key: value) (line 1)"}},
		{"nothing of use", "log: {level: info}\n", []string{
			"host: is missing; it is the name in this host's certificate, and in its real servers' records",
			"directors: are missing; name each director's address and port", "real_servers: are missing"}},
		{"unknown and twice", minimal + "hots: x\nlook: 1s\nlook: 2s\n", []string{
			"hots: unknown key; known here are host, directors, tls, state_dir, socket, probe_port, prepare_host, look, adopt, real_servers, log, drill (line 9)",
			"look: stands twice, first in line 10 (line 11)"}},
		{"drill", minimal + "drill: {allow: 1, start: {rs1: [start, fastd], rs2: [/a], rs3: x}, host: 1}\n", []string{
			"drill.allow: is not true or false (line 9)", "drill.start.rs3: is not a list ([a, b]) (line 9)", "drill.host: unknown key; known here are allow, start (line 9)",
			`drill.start.rs1: "start" is not the absolute path of a program (line 9)`, "drill.start.rs2: is of no real server of this file (line 9)"}},
		{"nothing to start", minimal + "drill: {start: {rs1: []}}\n", []string{"drill.start.rs1: is empty; name a program and its arguments"}},
		{"types", "host: [a]\ndirectors: {a: b}\nprobe_port: many\nprepare_host: 1\nlook: 5\nadopt: {rate: 20, burst: 99999999999999999999}\nreal_servers: x\n", []string{
			"host: is not text; put it in quotes (line 1)", "directors: is not a list ([a, b]) (line 2)", "probe_port: is not a whole number (line 3)",
			"prepare_host: is not true or false (line 4)", `look: "5" is not a duration; write a number and a unit: 200ms or 5s (line 5)`,
			`adopt.rate: "20" is not a rate; write 20/s (line 6)`, "adopt.burst: is not a whole number (line 6)", "real_servers: is not a list ([a, b]) (line 7)"}},
		{"ranges", "host: a/b\ndirectors: [192.0.2.1, 192.0.2.1:1, 192.0.2.1:1, ]\ntls: {key: rel}\nprobe_port: 70000\nlook: 1m\nadopt: {rate: 0/s, burst: 0, retries: -1}\nlog: {level: loud, format: xml}\nsocket: /" + strings.Repeat("x", 107) + "\nreal_servers: []\n", []string{
			"host: \"a/b\" is not a host's name: ", `directors[0]: "192.0.2.1" is not an address and a port; write 192.0.2.1:7460 or [2001:db8::1]:7460 (line 2)`,
			"directors[2]: 192.0.2.1:1 stands twice (line 2)", `tls.key: "rel" is not an absolute path (line 3)`, "probe_port: 70000 is out of range (line 4)",
			"look: 1m0s is not between 1s and 10s (line 5)", "adopt.rate: 0 is not between 0.1 and 10000 (line 6)", "adopt.burst: 0 is not between 1 and 10000 (line 6)",
			"adopt.retries: -1 is not between 0 and 100 (line 6)", `log.level: "loud" is not one of debug, info, warn, error (line 7)`, `log.format: "xml" is not one of text, json (line 7)`,
			"socket: has 108 bytes; the path of a unix socket has at most 107 (line 8)", "real_servers: are missing (line 9)"}},
		{"real servers", `
host: a
directors: [192.0.2.1:1]
real_servers:
  - {name: rs1, vips: [192.0.2.10], interface: eth0, cpu_ceiling: 101%, room: {receive_buffer: 1KiB, queue: 1}, terminator: {kind: charon}}
  - {name: rs1, vips: [192.0.2.10, nowhere], method: tunnel, interface: eth0, terminator: {kind: wireguard, device: wg0, port: 1}}
  - {name: rs3, method: masq, cpu_ceiling: 80, room: {receive_buffer: 4}, terminator: {}}
  - {name: "a name that is long", vips: [192.0.2.11], interface: eth0, method: tunnel, terminator: {kind: fastd, clear: rel}}
  -
  - {name: x, vips: [192.0.2.13], interface: eth0, terminator: {kind: exec, adopt: [ip, link], timeout: 1ms}}
  - terminator: {kind: strongswan, timeout: 5001ms, connections: "[", subnets: 1}
`, []string{
			"real_servers[0].cpu_ceiling: 101 is not between 1 and 100 (line 5)", "real_servers[0].room.receive_buffer: 1024 is not between 65536 and 1073741824 (line 5)",
			"real_servers[0].room.queue: 1 is not between 100 and 1000000 (line 5)", `real_servers[0].terminator.kind: "charon" is not one of `,
			`real_servers[1].vips[1]: "nowhere" is not an IP address (line 6)`, "real_servers[1].terminator.port: unknown key; known here are kind, device, socket, sends_from_vip (line 6)",
			`real_servers[1].name: "rs1" stands twice (line 6)`, "real_servers[1].method: is tunnel, and rs1 has VIP 192.0.2.10 by dr in the same network namespace; one way leads to an address (line 6)",
			`real_servers[2].cpu_ceiling: "80" is not a share; write 80%, or none (line 7)`, `real_servers[2].room.receive_buffer: "4" is not a size; write a number and a unit: 4MiB (line 7)`,
			`real_servers[2].method: "masq" is not one of dr, tunnel (line 7)`, "real_servers[2].vips: is missing (line 7)", "real_servers[2].interface: is missing (line 7)",
			"real_servers[2].terminator.kind: is missing; one of ",
			"real_servers[3].terminator.socket: is missing (line 8)", `real_servers[3].terminator.clear: "rel" is not an absolute path (line 8)`,
			"real_servers[4]: is empty", "real_servers[5].terminator.tunnels: is missing: the program that lists what is established (line 10)",
			`real_servers[5].terminator.adopt: "ip" is not the absolute path of a program (line 10)`, "real_servers[5].terminator.timeout: 1ms is not between 100ms and 5s (line 10)",
			"real_servers[6].terminator.subnets: unknown key", "real_servers[6].name: is missing (line 11)",
			"real_servers[6].vips: is missing (line 11)", "real_servers[6].interface: is missing (line 11)", "real_servers[6].terminator.timeout: 5.001s is not between 100ms and 5s (line 11)",
			`real_servers[6].terminator.connections: "[" is not a pattern of names; write site-* (line 11)`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := Parse([]byte(tt.text))
			var faults tree.Faults
			if !errors.As(err, &faults) {
				t.Fatalf("error %v", err)
			}
			for i := range max(len(faults), len(tt.want)) {
				got, want := "", ""
				if i < len(faults) {
					got = faults[i].Error()
				}
				if i < len(tt.want) {
					want = tt.want[i]
				}
				if got != want && (want == "" || !strings.HasPrefix(got, want) || strings.HasSuffix(want, ")")) {
					t.Errorf("fault %d:\n got %s\nwant %s", i, got, want)
				}
			}
			if d := cmp.Diff(Config{}, c, addrs); d != "" {
				t.Errorf("half a configuration was returned: %s", d)
			}
		})
	}
}

// TestExample: the example says the defaults that there are, and names every key.
func TestExample(t *testing.T) {
	data, err := os.ReadFile("../../examples/realserver.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c, err := Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Host, want.Directors, want.RealServers = c.Host, c.Directors, c.RealServers
	if d := cmp.Diff(want, c, addrs); d != "" {
		t.Errorf("other defaults than there are: %s", d)
	}
	list, err := instancesOf(c)
	if err != nil || len(list) != len(c.RealServers) {
		t.Errorf("%d terminators can be made: %v", len(list), err)
	}
	if _, err := hostOf(c); err != nil {
		t.Errorf("its host cannot be prepared: %v", err)
	}
	kinds := map[string]bool{}
	for _, s := range c.RealServers {
		kinds[s.Terminator.Kind] = true
	}
	for _, k := range kindNames() {
		if !kinds[k] {
			t.Errorf("no real server of kind %s", k)
		}
	}
	// With what is commented out it is the same: those are the defaults. What only explains has no key, or a comment behind it.
	var all bytes.Buffer
	for line := range strings.Lines(string(data)) {
		body, isComment := strings.CutPrefix(strings.TrimLeft(line, " "), "# ")
		if key, _, ok := strings.Cut(body, ": "); isComment && ok && !strings.ContainsAny(key, " `,;") && strings.HasPrefix(line, " ") {
			line = line[:strings.Index(line, "#")] + body
		}
		all.WriteString(line)
	}
	full, err := Parse(all.Bytes())
	if err != nil {
		t.Fatalf("with what is commented out: %v\n%s", err, all.String())
	}
	full.RealServers[0].Room = Room{} // an example, not a default
	if d := cmp.Diff(c, full, addrs, cmpopts.EquateEmpty()); d != "" {
		t.Errorf("what is commented out is not the default: %s", d)
	}
	for _, key := range keysOf(Config{}, RealServer{}, Room{}, Adopt{}, TLS{}, Log{}, Drill{}, *newSettings("strongswan").(*strongSwan), libreSwan{}, wireGuard{}, fastD{}, programs{}) {
		if !strings.Contains(string(data), key+":") {
			t.Errorf("key %s is not in the example", key)
		}
	}
}

func FuzzParse(f *testing.F) {
	data, err := os.ReadFile("../../examples/realserver.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	for _, s := range []string{minimal, "a: &b [*b]", "? [a]\n: b", "<<: {a: 1}", "---\n---\n", "a: |\n  b", "{", "- - -", "\x00", "real_servers: [{terminator: [1]}]", "real_servers: [{terminator: {kind: fastd, subnets: {a: 1}}}]"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		_, err := Parse(data)
		var faults tree.Faults
		if err != nil && (!errors.As(err, &faults) || len(faults) == 0) {
			t.Fatalf("%T %v, want Faults", err, err)
		}
	})
}

// What undo-faults needs is read whatever else is wrong, and else is wrong itself.
func TestParsePlaces(t *testing.T) {
	for name, tt := range map[string]struct {
		text, dir, err string
	}{
		"all else is wrong": {"host: [1]\nodd: 1\nlook: x\nstate_dir: /x\nreal_servers: {}\n", "/x", ""},
		"the default":       {"host: a\n", Default().StateDir, ""},
		"no text":           {"state_dir: [1]\nhost: a\n", "", "state_dir"},
		"no path":           {"state_dir: x\n", "", "state_dir"},
		"another is wrong":  {"state_dir: /x\nsocket: y\n", "", "socket"},
		"twice":             {"state_dir: /x\nstate_dir: /y\n", "", "state_dir"},
		"no YAML":           {"state_dir: /x\nhost: [\n", "", "not YAML"},
	} {
		c, err := ParsePlaces([]byte(tt.text))
		if c.StateDir != tt.dir || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: %q, %v", name, c.StateDir, err)
		}
	}
}
