package config

import (
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"tunneldirector/director/config/tree"
)

// prefixes are compared as values.
var prefixes = cmpopts.EquateComparable(netip.Prefix{})

const minimal = `
name: d1
interfaces:
  - {name: eth0, roles: [tunnel, subnet, realservers]}
`

func TestDefaults(t *testing.T) {
	got, err := Parse([]byte(minimal))
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Name = "d1"
	want.Interfaces = []Interface{{Name: "eth0", Roles: []string{RoleTunnel, RoleSubnet, RoleRealServers}}}
	if diff := cmp.Diff(want, got, prefixes); diff != "" {
		t.Error(diff)
	}
	if v := got.Probe.Verdict(); v >= time.Second {
		t.Errorf("a death is noticed after %s by default, want under 1 s", v)
	}
	if w := got.Warnings(); w != nil {
		t.Errorf("warnings %q", w)
	}
}

func TestEverySetting(t *testing.T) {
	got, err := Parse([]byte(`
name: d1
data_dir: /srv/td/
plane: xdp
interfaces:
  - name: eth0
    roles: [tunnel, realservers]
  - name: eth1.7
    roles: [subnet]
    tenant: acme
    vlans: {100: globex, 200: default}
api:
  socket: {path: /run/x.sock, mode: "0600", group: netops}
  listen: [192.0.2.1:8480, "[::]:443", localhost:80]
  tls: {cert: /a.crt, key: /a.key}
  tokens_file: /t.yaml
metrics: {listen: 192.0.2.1:9480}
agents:
  listen: [192.0.2.1:7460, "[2001:db8::5]:7460"]
  tls: {cert: /d1.crt, key: /d1.key, ca: /ca.crt}
probe: {interval: 1s, timeout: 300ms, dead_after: 3, alive_after: 1}
limits: {max_delete: 25%, max_pins: 2_000_000, max_subnets: 5000}
ipvs: {pairs: ["fd00:1::/96", 10.255.0.0/18], timeout: 90m, set_sysctls: true}
store: {reserve: 1GiB}
journal: {max_size: 1GiB, max_age: 36h}
blackbox: {max_size: 128MiB}
drill: {allow: true, restarted: true}
log: {level: warn, format: json}
`))
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		Name: "d1", DataDir: "/srv/td", Plane: PlaneXDP,
		Interfaces: []Interface{
			{Name: "eth0", Roles: []string{RoleTunnel, RoleRealServers}},
			{Name: "eth1.7", Roles: []string{RoleSubnet}, Tenant: "acme", VLANs: map[uint16]string{100: "globex", 200: ""}},
		},
		API: API{
			Socket: Socket{"/run/x.sock", 0o600, "netops"}, Listen: []string{"192.0.2.1:8480", "[::]:443", "localhost:80"},
			TLS: TLS{"/a.crt", "/a.key"}, TokensFile: "/t.yaml",
		},
		Metrics: Metrics{"192.0.2.1:9480"},
		Agents:  Agents{[]string{"192.0.2.1:7460", "[2001:db8::5]:7460"}, MutualTLS{"/d1.crt", "/d1.key", "/ca.crt"}},
		Probe:   Probe{time.Second, 300 * time.Millisecond, 3, 1},
		Limits:  Limits{25, 2_000_000, 5000},
		IPVS:    IPVS{netip.MustParsePrefix("10.255.0.0/18"), netip.MustParsePrefix("fd00:1::/96"), 90 * time.Minute, true},
		Store:   Store{1 << 30},
		Journal: Journal{1 << 30, 36 * time.Hour}, BlackBox: BlackBox{128 << 20},
		Drill: Drill{Allow: true, Restarted: true},
		Log:   Log{slog.LevelWarn, "json"},
	}
	if diff := cmp.Diff(want, got, prefixes); diff != "" {
		t.Error(diff)
	}
}

func TestParseFaults(t *testing.T) {
	const loopback = "without api.tokens_file only loopback addresses and the unix socket may listen; set it, or listen on 127.0.0.1 or [::1]"
	tests := []struct {
		name string
		text string // after minimal, unless it starts with "!"
		want []string
	}{
		{"empty", "!", []string{"is empty; it needs at least name and interfaces"}},
		{"only a comment", "!# nothing\n", []string{"is empty; it needs at least name and interfaces"}},
		{"not YAML", "!name: [d1\n", []string{"not YAML: sequence end token ']' not found (line 1, column 7)"}},
		{"a list", "![a]", []string{"is a list, not a mapping (key: value) (line 1)"}},
		{"two documents", "---\nname: d2\n", []string{"is a second document; a node's file has one (line 6)"}},
		{"unknown key", "colour: red\n", []string{"colour: unknown key; known here are name, data_dir, plane, interfaces, api, metrics, agents, cluster, probe, limits, ipvs, store, journal, blackbox, drill, log (line 5, column 1)"}},
		{"key twice", "name: d2\n", []string{"name: stands twice, first in line 2 (line 5, column 1)"}},
		{"anchors", "store: &s {reserve: 1GiB}\n", []string{"store: is an anchor or alias (not read here: write it out), not a mapping (key: value) (line 5)"}},
		{"name", "!name: a b\nplane: mem\n", []string{`name: "a b" is not a name: 1 to 128 letters, digits and . _ : - that start with a letter or a digit (line 1)`}},
		{"name a number", "!name: 7\nplane: mem\n", []string{"name: is a number, not text; put it in quotes (line 1)"}},
		{"no name", "!plane: mem\n", []string{"name: is missing; a director needs a name that no peer has (line 1)"}},
		{"data_dir", "data_dir: var\n", []string{`data_dir: "var" is not an absolute path (line 5)`}},
		{"plane", "plane: dpdk\n", []string{`plane: "dpdk" is not one of auto, ipvs, xdp, shadow, mem (line 5)`}},
		{"interfaces", "!name: d1\ninterfaces:\n  - name: eth0\n    roles: [tunnel, realservers]\n  - name: a/b\n    roles: [tunel]\n  - name: eth0\n  - roles: [subnet]\n    vlans: {0: a, 5: , x: b}\n" +
			"  - name: eth4\n    roles: [tunnel, tunnel]\n    tenant: acme\n    vlans: {1: a}\n  -\n", []string{
			`interfaces[1].name: "a/b" is not the name of a network interface (line 5)`,
			`interfaces[1].roles[0]: "tunel" is not one of tunnel, subnet, realservers (line 6)`,
			`interfaces[2].name: "eth0" stands in interfaces[0] already; give one entry all its roles (line 7)`,
			"interfaces[2].roles: is missing; one or more of tunnel, subnet, realservers (line 7)",
			"interfaces[3].name: is missing (line 8)",
			`interfaces[3].vlans.0: "0" is not a VLAN tag between 1 and 4094 (line 9)`,
			"interfaces[3].vlans.5: names no tenant (line 9)",
			`interfaces[3].vlans.x: "x" is not a VLAN tag between 1 and 4094 (line 9)`,
			`interfaces[4].roles: "tunnel" stands twice (line 11)`,
			"interfaces[4].tenant: tells tenants apart on the subnet side; add the role subnet or leave it out (line 12)",
			"interfaces[4].vlans: tells tenants apart on the subnet side; add the role subnet or leave it out (line 13)",
			"interfaces[5]: is empty (line 14)"}},
		{"roles", "!name: d1\ninterfaces:\n  - {name: eth0, roles: [subnet]}\n", []string{
			"interfaces: none has the role tunnel; plane auto needs one (shadow and mem do not) (line 2)",
			"interfaces: none has the role realservers; plane auto needs one (shadow and mem do not) (line 2)"}},
		{"roles not a list", "!name: d1\ninterfaces:\n  - {name: eth0, roles: tunnel}\n", []string{"interfaces[0].roles: is text, not a list ([a, b]) (line 3)"}},
		{"socket", "api:\n  socket: {path: run/x, mode: 0660, group: [a]}\n", []string{
			`api.socket.path: "run/x" is not an absolute path (line 6)`,
			"api.socket.mode: is a number, not text; put it in quotes (line 6)", "api.socket.group: is a list, not text; put it in quotes (line 6)"}},
		{"socket mode", "api: {socket: {mode: \"1660\"}}\n", []string{`api.socket.mode: "1660" is not a file mode; write it in quotes and octal: "0660" (line 5)`}},
		{"socket path too long", "api: {socket: {path: /" + strings.Repeat("x", 107) + "}}\n", []string{"api.socket.path: has 108 bytes; the path of a unix socket has at most 107 (line 5)"}},
		{"nothing listens", "api: {socket: {path: none}}\n", []string{"api: nothing listens; give api.socket.path or api.listen (line 5)"}},
		{"listen", "api:\n  listen: [example.org:80, 127.0.0.1, ':80', 127.0.0.1:80, 127.0.0.1:80]\n", []string{
			`api.listen[0]: "example.org:80" is not ADDRESS:PORT; write 127.0.0.1:8480, [::1]:8480, or [::]:8480 for all addresses (line 6)`,
			`api.listen[1]: "127.0.0.1" is not ADDRESS:PORT; write 127.0.0.1:8480, [::1]:8480, or [::]:8480 for all addresses (line 6)`,
			`api.listen[2]: ":80" is not ADDRESS:PORT; write 127.0.0.1:8480, [::1]:8480, or [::]:8480 for all addresses (line 6)`,
			`api.listen[1]: "127.0.0.1:80" stands twice (line 6)`}},
		{"open without tokens", "api:\n  listen: [127.0.0.1:80, '[::]:80', 192.0.2.1:80]\nmetrics:\n  listen: 0.0.0.0:90\n", []string{
			"api.listen[1]: [::]:80 is not loopback: " + loopback + " (line 6)", "api.listen[2]: 192.0.2.1:80 is not loopback: " + loopback + " (line 6)",
			"metrics.listen: 0.0.0.0:90 is not loopback: " + loopback + " (line 8)"}},
		{"metrics on the API's socket", "api:\n  listen: [127.0.0.1:80]\nmetrics:\n  listen: 127.0.0.1:80\n",
			[]string{`metrics.listen: "127.0.0.1:80" is in api.listen already, and /metrics is served there too (line 8)`}},
		{"half of TLS", "api:\n  tls: {cert: /a}\n", []string{"api.tls: needs both cert and key, or neither (line 6)"}},
		{"agents without TLS", "agents:\n  listen: [192.0.2.1:7460]\n", []string{"agents.listen: agents are known by certificates; set agents.tls (director ca issue makes the files), or listen nowhere (line 6)"}},
		{"agents' TLS for nothing", "agents:\n  tls: {cert: /a, key: /b, ca: /c}\n", []string{"agents.tls: is for nothing without agents.listen; set that, or leave it out (line 6)"}},
		{"a part of agents' TLS", "agents:\n  listen: [192.0.2.1:7460]\n  tls: {cert: /a, key: /b}\n", []string{"agents.tls: needs cert, key and ca, all three; director ca issue makes them (line 7)"}},
		{"agents' TLS and nothing else", "agents:\n  tls: {ca: /c}\n", []string{"agents.tls: needs cert, key and ca, all three; director ca issue makes them (line 6)"}},
		{"agents", "agents:\n  listen: [':7460', 127.0.0.1:1, 127.0.0.1:1, 127.0.0.1:2, 127.0.0.1:3, node-a]\n  tls: {cert: a, key: /b, ca: 7, name: x}\napi:\n  listen: [127.0.0.1:2]\nmetrics: {listen: 127.0.0.1:3}\n", []string{
			`agents.listen[0]: ":7460" is not ADDRESS:PORT; write 127.0.0.1:8480, [::1]:8480, or [::]:8480 for all addresses (line 6)`,
			`agents.listen[5]: "node-a" is not ADDRESS:PORT; write 127.0.0.1:8480, [::1]:8480, or [::]:8480 for all addresses (line 6)`,
			`agents.listen[2]: "127.0.0.1:1" stands twice (line 6)`,
			`agents.listen[3]: "127.0.0.1:2" is in api.listen already; agents need a port of their own (line 6)`,
			`agents.listen[4]: "127.0.0.1:3" is metrics.listen already; agents need a port of their own (line 6)`,
			`agents.tls.cert: "a" is not an absolute path (line 7)`, "agents.tls.ca: is a number, not text; put it in quotes (line 7)",
			"agents.tls.name: unknown key; known here are cert, key, ca (line 7, column 34)"}},
		{"probe", "probe: {interval: 1ms, timeout: 5, dead_after: 1, alive_after: many}\n", []string{
			"probe.interval: 1ms is not between 10ms and 1m0s (line 5)", "probe.timeout: 5 lacks a unit; write 200ms or 5s (line 5)",
			"probe.dead_after: 1 is not between 2 and 100 (line 5)", "probe.alive_after: is text, not a whole number between 1 and 1000 (line 5)"}},
		{"duration", "probe: {interval: soon}\n", []string{`probe.interval: "soon" is not a duration; write a number and a unit: 200ms or 5s (line 5)`}},
		{"timeout over interval", "probe: {interval: 100ms}\n", []string{"probe.timeout: 120ms is longer than the interval 100ms; at most as long (line 5)"}},
		{"limits", "limits: {max_delete: 101, max_pins: -5, max_subnets: 18446744073709551616}\n", []string{
			"limits.max_delete: 101 is not between 0 and 100 (line 5)", "limits.max_pins: -5 is not between 1000 and 67108864 (line 5)",
			"limits.max_subnets: is text, not a whole number between 1000 and 67108864 (line 5)"}},
		{"percent", "limits: {max_delete: 300%}\n", []string{`limits.max_delete: "300%" is not a percentage between 0 and 100 (line 5)`}},
		{"ipvs", "ipvs:\n  pairs: [10.0.0.0/24, 10.1.0.1/16, 10.2.0.0/16, 10.3.0.0/16, 'fd00::/120', '::ffff:10.0.0.0/112', 224.0.0.0/8, all]\n  timeout: 30\n  set_sysctls: yes please\n", []string{
			"ipvs.pairs[0]: 10.0.0.0/24 is too small: there is an address for each pair of real servers; at most /20 (line 6)",
			"ipvs.pairs[1]: 10.1.0.1/16 has host bits set; write 10.1.0.0/16 (line 6)",
			"ipvs.pairs[2]: 10.2.0.0/16 is the second of its family; one IPv4 and one IPv6 prefix (line 6)",
			"ipvs.pairs[3]: 10.3.0.0/16 is the second of its family; one IPv4 and one IPv6 prefix (line 6)",
			"ipvs.pairs[4]: fd00::/120 is too small: there is an address for each pair of real servers; at most /112 (line 6)",
			"ipvs.pairs[5]: ::ffff:10.0.0.0/112: addresses in it are not routed; write a private or a reserved prefix (line 6)",
			"ipvs.pairs[6]: 224.0.0.0/8: addresses in it are not routed; write a private or a reserved prefix (line 6)",
			`ipvs.pairs[7]: "all" is not a prefix; write an address and a length: 100.64.0.0/10 (line 6)`,
			"ipvs.timeout: 30 lacks a unit; write 200ms or 5s (line 7)", "ipvs.set_sysctls: is text, not true or false (line 8)"}},
		{"ipvs timeout", "ipvs: {timeout: 1s}\n", []string{"ipvs.timeout: 1s is not between 1m0s and 720h0m0s (line 5)"}},
		{"ipvs and tags", "!name: d1\nplane: ipvs\ninterfaces:\n  - {name: eth0, roles: [tunnel, realservers]}\n  - name: eth1\n    roles: [subnet]\n    vlans: {100: acme}\n", []string{
			"interfaces[1].vlans: plane ipvs takes no 802.1Q tags off; name the VLAN devices (eth1.100) as interfaces, each with its tenant, or take plane: xdp (line 7)"}},
		{"reserve", "store: {reserve: 256}\n", []string{"store.reserve: 256 lacks a unit; write 256MiB (line 5)"}},
		{"reserve too small", "store: {reserve: 1MiB}\n", []string{"store.reserve: 1MiB is not between 64 MiB and 1.0 TiB (line 5)"}},
		{"black box", "blackbox: {max_size: 1MiB}\n", []string{"blackbox.max_size: 1MiB is not between 16 MiB and 64 GiB (line 5)"}},
		{"journal", "journal: {max_size: 100KiB, max_age: 90}\n", []string{"journal.max_size: 100KiB is not between 1.0 MiB and 64 GiB (line 5)", "journal.max_age: 90 lacks a unit; write 200ms or 5s (line 5)"}},
		{"drill", "drill: {allow: maybe, kinds: [partition]}\n", []string{"drill.allow: is text, not true or false (line 5)", "drill.kinds: unknown key; known here are allow, restarted (line 5, column 23)"}},
		{"reserve no size", "store: {reserve: much}\n", []string{`store.reserve: "much" is not a size; write a number and a unit: 256MiB (line 5)`}},
		{"log", "log: {level: loud, format: xml}\n", []string{`log.level: "loud" is not one of debug, info, warn, error (line 5)`, `log.format: "xml" is not one of text, json (line 5)`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			text, whole := strings.CutPrefix(tt.text, "!")
			if !whole {
				text = minimal + tt.text
			}
			c, err := Parse([]byte(text))
			if diff := cmp.Diff(tt.want, words(t, err)); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(Config{}, c, prefixes); diff != "" {
				t.Errorf("half a configuration was returned: %s", diff)
			}
		})
	}
}

// words are the texts of Faults.
func words(t testing.TB, err error) (list []string) {
	t.Helper()
	var faults Faults
	if !errors.As(err, &faults) {
		t.Fatalf("error %v, want Faults", err)
	}
	for _, f := range faults {
		list = append(list, f.Error())
	}
	return list
}

func TestManyFaultsAndLargeFiles(t *testing.T) {
	got := words(t, func() error {
		_, err := Parse([]byte(minimal + "log:\n" + strings.Repeat("  x: 1\n", 500)))
		return err
	}())
	if len(got) != tree.MaxFaults+1 || got[tree.MaxFaults] != "and 400 more faults" {
		t.Errorf("%d faults, the last %q", len(got), got[len(got)-1])
	}
	got = words(t, func() error { _, err := Parse(make([]byte, maxFile+1)); return err }())
	if want := []string{"has 1048577 bytes; at most 1048576"}; !cmp.Equal(want, got) {
		t.Errorf("%q", got)
	}
}

func TestWarnings(t *testing.T) {
	c := Default()
	c.API.Listen = []string{"127.0.0.1:1", "192.0.2.1:2"}
	c.API.Socket.Mode = 0o666
	c.Probe.DeadAfter = 50
	want := []string{
		"api.listen[1]: tokens travel to 192.0.2.1:2 in the clear; set api.tls",
		"api.socket.mode: 0666 lets every user of this machine be an operator; 0660 and a group is safer",
		"probe: a dead real server is noticed after up to 7.6 s",
	}
	if diff := cmp.Diff(want, c.Warnings()); diff != "" {
		t.Error(diff)
	}
}

func TestRead(t *testing.T) {
	dir := t.TempDir()
	if _, err := Read(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
	path := filepath.Join(dir, "bad.yaml")
	if err := os.WriteFile(path, []byte("name: d1\nplane: x\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := Read(path)
	if err == nil || !strings.HasPrefix(err.Error(), "configuration "+path+":\n") || !strings.HasSuffix(err.Error(), `plane: "x" is not one of auto, ipvs, xdp, shadow, mem (line 2)`) {
		t.Errorf("error %v", err)
	}
}

func TestExample(t *testing.T) {
	c, err := Read("../../examples/director.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Name = "director-1"
	want.Interfaces = []Interface{
		{Name: "eth0", Roles: []string{RoleTunnel}},
		{Name: "eth1", Roles: []string{RoleSubnet, RoleRealServers}, VLANs: map[uint16]string{100: "acme", 200: "globex"}},
	}
	want.API.Listen = []string{"127.0.0.1:8480"}
	if diff := cmp.Diff(want, c, prefixes); diff != "" {
		t.Errorf("the example says other defaults than there are: %s", diff)
	}
}
