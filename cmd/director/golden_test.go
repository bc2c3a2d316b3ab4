package main

import (
	"bytes"
	"testing"
	"time"

	"tunneldirector/affinity"
	"tunneldirector/cmd/console"
	"tunneldirector/cmd/console/consoletest"
	"tunneldirector/director/api"
)

// Tables and pages as people see them, over fixed answers.
func TestGolden(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	before := now.Add(-3*time.Hour - 20*time.Minute)
	soon, later := now.Add(39*time.Minute+20*time.Second), now.Add(2*time.Hour)
	weight, heavy := uint32(100), uint32(200)
	tunnels := []api.TunnelState{
		{Tunnel: api.Tunnel{ID: "site-0042", Service: "ipsec", Endpoints: []string{"203.0.113.5", "2001:db8::5", "203.0.113.6:4500"}, Subnets: []string{"100.64.40.32/28"}, Bandwidth: 2_000_000,
			Group: "branch", Tenant: "customer-a", State: "up", Labels: map[string]string{"region": "north", "a": "b"}, SeparateFrom: []string{"site-0043"}, Generation: 7},
			Owner: "nms1", Created: before, Updated: before, Placement: &api.Placement{RealServer: "rs1", Backup: "rs2", Since: &before, Why: "placed"}, Up: true, Evidence: "packets", LastSeen: &now,
			Contested: []string{"subnet 100.64.40.32/28 is held by site-0001"}, Split: true},
		{Tunnel: api.Tunnel{ID: "learned:6d1f", Service: "ipsec", Endpoints: []string{"203.0.113.77"}}, Owner: affinity.LearnedOwner, Placement: &api.Placement{RealServer: "rs1"}, Up: true, Evidence: "agent", At: "rs1", Created: before, Updated: before},
		{Tunnel: api.Tunnel{ID: "site-0043", Service: "ipsec", Endpoints: []string{"203.0.113.7"}, State: "up"}, Owner: "nms1", Placement: &api.Placement{RealServer: "rs2", Backup: "rs1"}, Up: true, Evidence: "agent", At: "rs1",
			Roamed: []string{"203.0.113.8:4501", "203.0.113.9"}, LastSeen: &now, Created: before, Updated: before},
		{Tunnel: api.Tunnel{ID: "wg-7", Service: "wireguard", Bandwidth: 1_500_000_000, State: "coming"}, Placement: &api.Placement{Unplaced: "no real server has room"}},
	}
	servers := []api.RealServerState{
		{RealServer: api.RealServer{Name: "rs1", Host: "node-a", Zone: "z1", Addresses: []string{"198.51.100.11", "2001:db8:1::11"}, Services: []string{"ipsec"}, Weight: &weight, Capacity: 5000, Admin: "active"},
			State: "alive", Since: &before, Incarnation: 1, Status: &api.RealServerStatus{Tunnels: 1234, BackupFor: 567, BandwidthBPS: 2_468_000_000, RTTMicros: 230}},
		{RealServer: api.RealServer{Name: "rs2", Host: "node-b", Addresses: []string{"198.51.100.12"}, Services: []string{"ipsec", "wireguard"}, Weight: &heavy, Admin: "drained"}, State: "dead", Since: &now, Cause: "3 probes lost"},
		{RealServer: api.RealServer{Name: "rs3", Host: "node-c", Addresses: []string{"198.51.100.13"}, Services: []string{"ipsec"}, Weight: &weight, Capacity: 1300, Admin: "drained", Check: "udp/500"}, State: "alive", Since: &before, Incarnation: 2,
			Status: &api.RealServerStatus{Name: "rs3", Host: "node-c", State: "alive", Admin: "drained", Weight: 100, Tunnels: 1180, BackupFor: 3, Index: 4, Traffic: api.Traffic{Packets: 1000, Bytes: 1 << 20}, BandwidthBPS: 5e6, RTTMicros: 1500,
				Drain: &api.DrainStatus{Started: before, Of: 1234, Left: 1180, Rate: 0.5, Deadline: &later, ETA: &soon, Stuck: "no real server has room"},
				Agent: &api.AgentStatus{Connected: true, Since: before, Host: "node-c", Terminator: "strongswan", Health: "working", Established: 1175, Closed: "it is full: 102 % of its limit", LoadPercent: 102.4,
					Load:   []api.LoadPart{{Name: "cpu 3", Percent: 102.4, Says: "82 % of a core, ceiling 80 %"}, {Name: "tunnels", Percent: 90.7, Says: "1,180 of 1,300"}},
					Orders: api.OrderCount{Open: 2, Done: 50, Waiting: 1, Failed: 3}}}},
		{RealServer: api.RealServer{Name: "rs4", Host: "node-d", Addresses: []string{"198.51.100.14"}, Services: []string{"ipsec"}, Weight: &weight, Admin: "active"}, State: "alive", Since: &before, Incarnation: 1,
			Status: &api.RealServerStatus{Name: "rs4", Host: "node-d", State: "alive", Admin: "active", Weight: 100, Tunnels: 5, Agent: &api.AgentStatus{Since: before, Host: "node-d", Terminator: "wireguard", Health: "working", Established: 5, LoadPercent: 12}}},
	}
	status := api.Status{Name: "d1", Version: "1.2.3", Store: "store-1", Revision: 99, Started: before, Ready: false, NotReady: []string{"data plane: link down"}, Writable: true,
		Frozen: true, FrozenBy: "op", Alarms: []string{"the kernel does not hold what the table says: link down"},
		Faults: []api.FaultInPlace{{ID: "x1", Kind: "host-loss", Target: "rs1", Director: "d1", By: "ann", At: now.Add(-3 * time.Second), Until: now.Add(27 * time.Second)},
			{ID: "x2", Kind: "disk-full", Target: "d1", Director: "d1", By: "local", Until: now, Error: "remove the ballast: read-only file system"}},
		Plane: api.PlaneStatus{Kind: "xdp", ChosenBy: "auto", Why: "the kernel has no IPVS", Detail: []string{"eth0 tunnel native", "eth1 subnet native"}, LastError: "link down", Dropped: map[string]uint64{"no-pin": 12, "ttl": 3000, "loop": 0},
			SubnetSide: api.Traffic{Packets: 1_000_000, Bytes: 3 << 30}, Tables: map[string]api.Usage{"endpoints": {Entries: 1234, Max: 1 << 20}}},
		Tunnels: api.TunnelCounts{Total: 1_000_000, Placed: 999_999, Unplaced: 1}, NPlusOne: api.NPlusOne{Missing: []string{"ipsec lacks 500 tunnels if node-a dies"}},
		Services:    []api.ServiceStatus{{Name: "ipsec", Tunnels: 1_000_000, Traffic: api.Traffic{Packets: 5, Bytes: 512}, Dropped: map[string]uint64{"no-pin": 12}}},
		RealServers: []api.RealServerStatus{*servers[2].Status, *servers[3].Status, {Name: "rs1", Host: "node-a", Zone: "z1", Admin: "active", State: "alive", Since: before.Format(time.RFC3339), Weight: 100, Capacity: 5000, Tunnels: 1234, RTTMicros: 230}},
		DiskFree:    5 << 30, DiskUsed: 3 << 20, ClockSays: "2m behind the newest record"}
	explanation := api.Explanation{Side: "tunnel", Action: "forward", Service: "ipsec", Tunnel: "site-0042", Group: "@branch", Matched: "endpoint 203.0.113.5 at 192.0.2.10", RealServer: "rs2",
		Primary: "rs1", Backup: "rs2", UsedBackup: true, IfItDies: "dropped until the group is placed anew", PinSince: "2026-01-01T00:00:00Z", PinWhy: "placed", PinnedBy: "d1",
		Words: []string{"esp packet from 203.0.113.5 to 192.0.2.10", "the primary rs1 is dead, so its backup takes the packet"}}
	sum := api.Summary{Lines: 1000, Created: 900, Deleted: 10, Unchanged: 50, Refused: 30, Unplaced: 5, Kept: 3, Seconds: 1.25, DryRun: true, Names: api.SetNames{Create: []string{"a", "b"}, Delete: []string{"c"}}}
	tests := map[string]func(*talk, *console.Page){
		"tunnels":    func(t *talk, _ *console.Page) { goldenList(t, tunnels) },
		"tunnel":     func(t *talk, p *console.Page) { t.tunnelPageOf(p, &tunnels[0]) },
		"unplaced":   func(t *talk, p *console.Page) { t.tunnelPageOf(p, &tunnels[3]) },
		"learned":    func(t *talk, p *console.Page) { t.tunnelPageOf(p, &tunnels[1]) },
		"elsewhere":  func(t *talk, p *console.Page) { t.tunnelPageOf(p, &tunnels[2]) },
		"realserver": func(t *talk, p *console.Page) { t.realServerPage(p, &servers[2]) },
		"silent":     func(t *talk, p *console.Page) { t.realServerPage(p, &servers[3]) },
		"agentless":  func(t *talk, p *console.Page) { t.realServerPage(p, &servers[1]) },
		"seen": func(_ *talk, p *console.Page) {
			seenTable(p, now, []api.SeenTunnel{
				{State: api.SeenNot, Tunnel: "site-0044", Pinned: "rs2", Endpoint: "203.0.113.10"},
				{State: api.SeenUnknown, At: "rs1", Peer: "branch carol@example.org", Endpoint: "203.0.113.99:4500", Subnets: []string{"100.64.7.0/24", "100.64.8.0/24", "100.64.9.0/24"}, Since: &before},
				{State: api.SeenWrong, Tunnel: "site-0043", At: "rs1", Pinned: "rs2", Peer: "branch", Endpoint: "203.0.113.7", Since: &before, Last: &now}})
		},
		"orders": func(_ *talk, p *console.Page) {
			orderTable(p, now, []api.Order{
				{RealServer: "rs2", Kind: "adopt", Tunnel: "site-0043", Endpoint: "203.0.113.7:4500", Outcome: "trying", Ordered: now.Add(-3 * time.Second), Changed: now.Add(-time.Second)},
				{RealServer: "rs1", Kind: "release", Tunnel: "site-0043", Endpoint: "203.0.113.7:4500", Outcome: "unsent", Ordered: now, Changed: now},
				{RealServer: "rs2", Kind: "adopt", Tunnel: "site-0045", Endpoint: "203.0.113.8", Outcome: "waiting", Why: "no private key for 192.0.2.10", Ordered: before, Changed: before}})
		},
		"drain": func(_ *talk, p *console.Page) {
			for _, d := range []api.DrainStatus{{Of: 1234, Left: 1234, Rate: 20, ETA: &soon}, {Of: 10, Left: 10, Deadline: &later, ETA: &later}, {Of: 10, Left: 12, Rate: 1, Deadline: &later, ETA: &later}, {Of: 10, Left: 1, Rate: 1},
				{Of: 5}, {}} {
				p.Line("%s", drainWords(now, &d))
			}
		},
		"realservers": func(t *talk, p *console.Page) { t.realServerTable(p, servers) },
		"status":      func(t *talk, p *console.Page) { t.statusPage(p, &status) },
		"pairs": func(_ *talk, p *console.Page) {
			pairTable(p, []api.Pair{{Address4: "240.0.0.1", Address6: "fd7d:6469:7265:6374::1", Primary: "rs1", Backup: "rs2", Now: "rs2"},
				{Address4: "240.0.0.2", Address6: "fd7d:6469:7265:6374::2", Primary: "rs3"}})
		},
		"trace":  func(_ *talk, p *console.Page) { tracePage(p, &explanation) },
		"import": func(_ *talk, p *console.Page) { importPage(p, sum, 2) },
		"problem": func(_ *talk, p *console.Page) {
			p.Line("%s", problemWords(&api.Problem{Title: "Conflict", Status: 409, Detail: "tunnel a is refused", RetryAfter: 30, Errors: []api.FieldError{
				{Field: "endpoints[0]", Value: "203.0.113.5", Problem: "is held by tunnel b", Remedy: "delete it first"}, {Problem: "too many"}}}))
		},
		"event": func(_ *talk, p *console.Page) {
			p.Line("%s", eventWords(&api.Event{Time: now, Kind: "moved", Object: "site-0042", From: "rs1", To: "rs2", Backup: "rs3", Why: "repinned", By: "op"}))
			p.Line("%s", eventWords(&api.Event{Time: now, Kind: "real-server", Object: "rs1", Why: "dead: 3 probes lost"}))
		},
	}
	for name, print := range tests {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			print(&talk{Env: &console.Env{Stdout: &b, Stderr: &b, Now: func() time.Time { return now }}}, &console.Page{W: &b})
			consoletest.Golden(t, name, b.Bytes())
		})
	}
}

func goldenList(t *talk, tunnels []api.TunnelState) {
	l := tunnelLister{t: t}
	for i := range tunnels {
		_ = l.add(&tunnels[i]) // a table is printed by flush
	}
	_ = l.flush() // into a buffer
}
