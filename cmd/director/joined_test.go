package main

import (
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tunneldirector/affinity/badgerstore"
	"tunneldirector/cluster"
	"tunneldirector/cmd/console"
	"tunneldirector/director/api"
	"tunneldirector/director/config"
)

// firstOf is the node's file of the first director of a cluster, as init writes it.
func firstOf(t *testing.T) config.Config {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "director.yaml")
	put(t, file, "name: d1\nplane: mem\ndata_dir: "+filepath.Join(dir, "data"))
	runIn(t.Context(), t, strings.NewReader(""), nil, "cluster", "init", "--dir", filepath.Join(dir, "c"), "--cluster", "prod", "--name", "d1", "--listen", "127.0.0.1", "--write", file).Exits(console.ExitOK)
	cfg, err := config.Read(file)
	if err != nil {
		t.Fatal(err)
	}
	here := netip.MustParseAddrPort("127.0.0.1:0")
	cfg.Cluster.Listen, cfg.Cluster.Gossip, cfg.Cluster.Heartbeat = here, here, []netip.AddrPort{here, here}
	return cfg
}

// What keeps a director from taking part is an error with the field, and what to do; nothing stays open.
func TestOpenJoined(t *testing.T) {
	cfg := firstOf(t)
	log := slog.New(slog.DiscardHandler)
	disk, err := badgerstore.Open(t.Context(), badgerstore.Options{Dir: cfg.DataDir, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	elsewhere, busy := netip.MustParseAddrPort("192.0.2.1:7462"), netip.MustParseAddrPort(taken.Addr().String())
	for want, change := range map[string]func(*config.Cluster){
		"":                                   func(*config.Cluster) {},
		"cluster.listen: 192.0.2.1 is no":    func(c *config.Cluster) { c.Listen = elsewhere },
		"cluster.listen: another process":    func(c *config.Cluster) { c.Listen = busy },
		"cluster.heartbeat[1]: 192.0.2.1 is": func(c *config.Cluster) { c.Heartbeat[1] = elsewhere },
		"cluster.gossip: another process":    func(c *config.Cluster) { c.Gossip = busy },
		`cluster.name: is "test", and the`:   func(c *config.Cluster) { c.Name = "test" },
		"cluster.keyring: ":                  func(c *config.Cluster) { c.Keyring += "x" },
		"cluster.tls: ":                      func(c *config.Cluster) { c.TLS.Key += "x" },
	} {
		one, c := cfg, *cfg.Cluster
		c.Heartbeat = append([]netip.AddrPort(nil), c.Heartbeat...)
		change(&c)
		one.Cluster = &c
		j, err := openJoined(one, disk, log)
		switch {
		case want == "" && err == nil:
			j.close()
		case err == nil:
			j.close()
			t.Errorf("no error, want %q", want)
		case want == "" || !strings.Contains(err.Error(), want):
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

// Where another director gossips is known after a restart, and not once it is forgotten.
func TestMemoryOfAddresses(t *testing.T) {
	dir, log := t.TempDir(), slog.New(slog.DiscardHandler)
	m := openMemory(dir, log)
	m.meet([]cluster.Peer{{Member: cluster.Member{Name: "d2", Rank: 2}, Alive: true}, {Member: cluster.Member{Name: "d3"}}}, map[string]netip.AddrPort{"d2": netip.MustParseAddrPort("192.0.2.2:7463")})
	if _, _, ok := m.Recall("d2"); ok {
		t.Error("a store is known of one whose address alone is")
	}
	m.Remember("d2", "store-2", 3)
	m = openMemory(dir, log)
	j := joined{cfg: config.Config{Cluster: &config.Cluster{}}, memory: m}
	if got := m.gossipers(); len(got) != 1 || got[0].String() != "192.0.2.2:7463" || !j.expects() {
		t.Errorf("remembered are %v", got)
	}
	m.forget("d2")
	if got := openMemory(dir, log).gossipers(); len(got) > 0 || j.expects() {
		t.Errorf("%v is remembered", got)
	}
}

// Who left is told from who is dead, and comes back by being there again.
func TestMemoryOfLeaving(t *testing.T) {
	dir, log := t.TempDir(), slog.New(slog.DiscardHandler)
	m := openMemory(dir, log)
	at := map[string]netip.AddrPort{"d2": netip.MustParseAddrPort("192.0.2.2:7463")}
	d2 := cluster.Peer{Member: cluster.Member{Name: "d2", Rank: 2, Role: cluster.RoleSubnet}, Alive: true}
	gone := func() bool { return !openMemory(dir, log).all()["d2"].Left.IsZero() }
	m.meet([]cluster.Peer{d2}, at)
	if gone() {
		t.Error("it has left")
	}
	d2.Beat.Leaving = true
	m.meet([]cluster.Peer{d2}, nil)
	d2.Alive = false
	m.meet([]cluster.Peer{d2}, nil)
	m.meet(nil, nil)
	if r := openMemory(dir, log).all()["d2"]; !gone() || r.Rank != 2 || r.Role != cluster.RoleSubnet {
		t.Errorf("it has left, and is kept as %+v", r)
	}
	d2.Alive, d2.Beat.Leaving = true, false
	m.meet([]cluster.Peer{d2}, at)
	if gone() {
		t.Error("it is back, and has left")
	}
}

// What is wrong with another director is said without counts, and not of one that left.
func TestTroubles(t *testing.T) {
	now := time.Now()
	long, short := now.Add(-time.Minute), now.Add(-time.Second)
	for name, tt := range map[string]struct {
		m    api.MemberStatus
		want string
	}{
		"well":          {api.MemberStatus{State: api.MemberAlive, Digest: api.DigestWord{Known: true, Equal: true, Since: &long}}, ""},
		"differs newly": {api.MemberStatus{State: api.MemberAlive, Digest: api.DigestWord{Known: true, Since: &short}}, ""},
		"differs":       {api.MemberStatus{State: api.MemberAlive, Digest: api.DigestWord{Known: true, Since: &long}}, "another table"},
		"lags":          {api.MemberStatus{State: api.MemberAlive, Lag: api.Lag{Records: 1, Seconds: 31}}, "has not acknowledged"},
		"dead":          {api.MemberStatus{State: api.MemberDead}, "director cluster forget"},
		"left":          {api.MemberStatus{State: api.MemberLeft}, ""},
	} {
		got := strings.Join(troublesOf(&tt.m, now), "; ")
		if (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}
