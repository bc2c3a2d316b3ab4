package config

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// sameCluster compares addresses as values.
var sameCluster = cmpopts.EquateComparable(netip.AddrPort{})

const member = minimal + `cluster:
  rank: 1
  keyring: /k
  tls: {cert: /c, key: /p, ca: /a}
`

func TestCluster(t *testing.T) {
	at := netip.MustParseAddrPort
	tls := MutualTLS{"/c", "/p", "/a"}
	tests := []struct {
		name, text string // after member
		want       Cluster
	}{
		{"one address", "  listen: 10.0.0.1:7462\n", Cluster{Rank: 1, Role: "both", Listen: at("10.0.0.1:7462"), Gossip: at("10.0.0.1:7463"),
			Heartbeat: []netip.AddrPort{at("10.0.0.1:7464")}, Keyring: "/k", TLS: tls, PreemptAfter: time.Minute, DeadAfter: 600 * time.Millisecond}},
		{"the paths say it", "  heartbeat: [\"[2001:db8::1]:1\", 172.16.0.1:7464]\n  gossip:\n", Cluster{Rank: 1, Role: "both", Listen: at("[2001:db8::1]:7462"), Gossip: at("[2001:db8::1]:7463"),
			Heartbeat: []netip.AddrPort{at("[2001:db8::1]:1"), at("172.16.0.1:7464")}, Keyring: "/k", TLS: tls, PreemptAfter: time.Minute, DeadAfter: 600 * time.Millisecond}},
		{"everything", `  name: prod
  role: subnet
  listen: 10.0.0.1:1
  gossip: 10.0.0.1:2
  heartbeat: [10.0.0.1:3]
  join: [10.0.0.1:2, "[2001:db8::2]:7463", directors.example.org:7463, d3:7463]
  authority: /ca/
  addresses: all
  preempt_after: 0s
  dead_after: 1s
`, Cluster{"prod", 1, "subnet", at("10.0.0.1:1"), at("10.0.0.1:2"), []netip.AddrPort{at("10.0.0.1:3")},
			[]string{"10.0.0.1:2", "[2001:db8::2]:7463", "directors.example.org:7463", "d3:7463"}, "/k", tls, "/ca", true, 0, time.Second}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			text := member + tt.text
			if tt.want.Role == RoleSubnetSide {
				text = strings.Replace(text, "[tunnel, subnet, realservers]", "[subnet, realservers]", 1)
			}
			c, err := Parse([]byte(text))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(&tt.want, c.Cluster, sameCluster); diff != "" {
				t.Error(diff)
			}
			if c.Silent() != tt.want.AddressesAll {
				t.Errorf("silent: %v", c.Silent())
			}
			if w := c.Warnings(); w != nil {
				t.Errorf("warnings %q", w)
			}
		})
	}
}

func TestClusterFaults(t *testing.T) {
	const (
		rank = "another one for each director: of the live ones the lowest assigns"
		tls  = "needs cert, key and ca, all three: directors know each other by certificates; `director cluster init` and `director cluster join` make them"
		ring = "is missing; the file with the keys of gossip and heartbeats, made by `director cluster init` and `director cluster join`"
	)
	tests := []struct {
		name, text string // after member, or after minimal if it starts with "!"
		want       []string
	}{
		{"nothing said", "!cluster: {role: both}\n", []string{
			"cluster.rank: is missing; 1 to 16, " + rank + " (line 5)", "cluster.keyring: " + ring + " (line 5)", "cluster.tls: " + tls + " (line 5)",
			"cluster.listen: is missing; an address of this director that the others reach: 10.0.0.1:7462; gossip and heartbeat follow it where they are not said (line 5)"}},
		{"not a mapping", "!cluster: 10.0.0.1\n", []string{"cluster: is text, not a mapping (key: value) (line 5)"}},
		{"values", "!cluster:\n  name: a..b\n  rank: 17\n  role: left\n  keyring: k\n  tls: {cert: /c, key: /p}\n  authority: ca\n  addresses: some\n  preempt_after: 60\n  dead_after: 100ms\n  listen: 10.0.0.1\n  peers: []\n", []string{
			`cluster.name: "a..b" is not the name of a cluster: 1 to 63 letters and digits, with single . or - between them (line 6)`,
			"cluster.rank: 17 is not between 1 and 16 (line 7)", `cluster.role: "left" is not one of tunnel, subnet, both (line 8)`,
			`cluster.keyring: "k" is not an absolute path (line 9)`, "cluster.tls: " + tls + " (line 10)",
			`cluster.authority: "ca" is not an absolute path (line 11)`, `cluster.addresses: "some" is not one of owned, all (line 12)`,
			"cluster.preempt_after: 60 lacks a unit; write 200ms or 5s (line 13)", "cluster.dead_after: 100ms is not between 300ms and 1m0s (line 14)",
			`cluster.listen: "10.0.0.1" is not ADDRESS:PORT; write an address of this director: 10.0.0.1:7462 or [2001:db8::1]:7462 (line 15)`,
			"cluster.peers: unknown key; known here are name, rank, role, listen, gossip, heartbeat, join, keyring, tls, authority, addresses, preempt_after, dead_after (line 16, column 3)"}},
		{"addresses that nobody dials", "  listen: 0.0.0.0:7462\n  gossip: '[::]:7463'\n  heartbeat: ['[fe80::1%eth0]:1', 224.0.0.1:1, '[::ffff:10.0.0.1]:1', 10.0.0.1:0]\n", []string{
			"cluster.listen: 0.0.0.0:7462 is every address, and the other directors have to dial one: write the address of this director that they reach, for example 10.0.0.1:7462 (line 9)",
			"cluster.gossip: [::]:7463 is every address, and the other directors have to dial one: write the address of this director that they reach, for example 10.0.0.1:7463 (line 10)",
			"cluster.heartbeat[0]: [fe80::1%eth0]:1 is not an address that other directors can dial; write a global or private one of this director (line 11)",
			"cluster.heartbeat[1]: 224.0.0.1:1 is not an address that other directors can dial; write a global or private one of this director (line 11)",
			"cluster.heartbeat[2]: [::ffff:10.0.0.1]:1 is an IPv4 address in IPv6 clothes; write 10.0.0.1:1 (line 11)",
			`cluster.heartbeat[3]: "10.0.0.1:0" is not ADDRESS:PORT; write an address of this director: 10.0.0.1:7464 or [2001:db8::1]:7464 (line 11)`}},
		{"paths", "  listen: 10.0.0.1:7462\n  heartbeat: [10.0.0.1:7464, 10.0.0.2:7464, 10.0.0.1:7464, 10.0.0.1:7463, 10.0.0.3:1]\n", []string{
			"cluster.heartbeat: has 5 paths; at most 4 (line 10)",
			"cluster.heartbeat[2]: 10.0.0.1:7464 stands twice; each path has an address of its own (line 10)",
			"cluster.heartbeat[3]: 10.0.0.1:7463 is cluster.gossip already; heartbeats need a port of their own (line 10)"}},
		{"one port for two", "  listen: 10.0.0.1:7463\n", []string{"cluster.listen: 10.0.0.1:7463 is cluster.gossip already; streams and gossip need a port each (line 9)"}},
		{"the same, said", "  listen: 10.0.0.1:1\n  gossip: 10.0.0.1:1\n", []string{"cluster.gossip: 10.0.0.1:1 is cluster.listen already; streams and gossip need a port each (line 10)"}},
		{"ports of others", "  listen: 10.0.0.1:7460\n  gossip: 10.0.0.1:9480\nagents:\n  listen: [0.0.0.0:7460]\n  tls: {cert: /c, key: /p, ca: /a}\napi: {tokens_file: /t}\nmetrics: {listen: 10.0.0.1:9480}\n", []string{
			"cluster.listen: 10.0.0.1:7460 is taken by agents.listen[0] (0.0.0.0:7460); it needs a port of its own (line 9)",
			"cluster.gossip: 10.0.0.1:9480 is taken by metrics.listen (10.0.0.1:9480); it needs a port of its own (line 10)"}},
		{"join", "  listen: 10.0.0.1:7462\n  join: [d2, d2:x, 'd 2:1', 10.0.0.300:1, 0.0.0.0:1, d2:7463, d2:7463, 5]\n", []string{
			`cluster.join[0]: "d2" is not HOST:PORT; write the gossip address of another director: 10.0.0.2:7463, [2001:db8::2]:7463 or directors.example.org:7463 (line 10)`,
			`cluster.join[1]: "d2:x" is not HOST:PORT; write the gossip address of another director: 10.0.0.2:7463, [2001:db8::2]:7463 or directors.example.org:7463 (line 10)`,
			`cluster.join[2]: "d 2:1" is not HOST:PORT; write the gossip address of another director: 10.0.0.2:7463, [2001:db8::2]:7463 or directors.example.org:7463 (line 10)`,
			`cluster.join[3]: "10.0.0.300:1" is not HOST:PORT; write the gossip address of another director: 10.0.0.2:7463, [2001:db8::2]:7463 or directors.example.org:7463 (line 10)`,
			"cluster.join[4]: 0.0.0.0:1 is not where a director can be dialled; write its gossip address: 10.0.0.2:7463 (line 10)",
			"cluster.join[7]: is a number, not text; put it in quotes (line 10)", `cluster.join[6]: "d2:7463" stands twice (line 10)`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rest, alone := strings.CutPrefix(tt.text, "!")
			text := member + rest
			if alone {
				text = minimal + rest
			}
			_, err := Parse([]byte(text))
			if diff := cmp.Diff(tt.want, words(t, err)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A director of one side needs no interface of the other.
func TestSides(t *testing.T) {
	const text = "name: d1\ninterfaces:\n  - {name: eth0, roles: [%]}\ncluster: {rank: 1, role: $, listen: 10.0.0.1:7462, keyring: /k, tls: {cert: /c, key: /p, ca: /a}}\n"
	for _, tt := range []struct{ role, interfaces, missing string }{
		{"tunnel", "tunnel, realservers", ""}, {"subnet", "subnet, realservers", ""}, {"both", "tunnel, subnet, realservers", ""},
		{"subnet", "tunnel, realservers", RoleSubnet}, {"tunnel", "subnet, realservers", RoleTunnel}, {"subnet", "subnet", RoleRealServers},
	} {
		_, err := Parse([]byte(strings.NewReplacer("%", tt.interfaces, "$", tt.role).Replace(text)))
		if (err == nil) != (tt.missing == "") || err != nil && !strings.Contains(err.Error(), "none has the role "+tt.missing) {
			t.Errorf("a director of side %s with %s: %v", tt.role, tt.interfaces, err)
		}
	}
}

func TestClusterWarnings(t *testing.T) {
	c, err := Parse([]byte(member + "  listen: 127.0.0.1:7462\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"cluster: only directors on this machine reach 127.0.0.1:7462; write the address that others reach"}
	if diff := cmp.Diff(want, c.Warnings()); diff != "" {
		t.Error(diff)
	}
}
