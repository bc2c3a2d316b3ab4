package main

import (
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"tunneldirector/director/config"
)

// check finds what would keep a director from taking part.
func TestClusterFaults(t *testing.T) {
	cfg := firstOf(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	busy := netip.MustParseAddrPort(taken.Addr().String())
	for want, change := range map[string]func(*config.Config){
		"":                             func(*config.Config) {},
		"cluster.listen: 192.0.2.1 is": func(c *config.Config) { c.Cluster.Listen = netip.MustParseAddrPort("192.0.2.1:7462") },
		"cluster.heartbeat[0]: 192.0.2.1 is": func(c *config.Config) {
			c.Cluster.Heartbeat = []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:7464")}
		},
		"cluster.gossip: another process": func(c *config.Config) { c.Cluster.Gossip = busy },
		"cluster.name: is \"test\"":       func(c *config.Config) { c.Cluster.Name = "test" },
		"is that of director d1":          func(c *config.Config) { c.Name = "d2" },
		"cluster.keyring: ":               func(c *config.Config) { c.Cluster.Keyring += "x" },
	} {
		one, c := cfg, *cfg.Cluster
		one.Cluster = &c
		change(&one)
		got := clusterFaults(one)
		if want == "" && len(got) > 0 || want != "" && (len(got) != 1 || !strings.Contains(got.Error(), want)) {
			t.Errorf("faults %v, want %q", got, want)
		}
	}
	if err := os.Chmod(cfg.Cluster.Keyring, 0o644); err != nil {
		t.Fatal(err)
	}
	if got := clusterFaults(cfg); !strings.Contains(got.Error(), "mode 0644") {
		t.Errorf("a keyring that all may read: %v", got)
	}
	if got := authorityTrouble(cfg.Cluster.Keyring); !strings.Contains(got, "is no directory") {
		t.Errorf("an authority that is a file: %q", got)
	}
}
