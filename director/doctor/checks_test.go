package doctor

import (
	"context"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"tunneldirector/director/agent"
	"tunneldirector/director/api"
	"tunneldirector/director/observe"
	"tunneldirector/director/plane"
	"tunneldirector/director/probe"
)

// Each fault is found, by its check, with what mends it; and it alone.
func TestFindings(t *testing.T) {
	for _, tt := range []struct {
		name, check, severity, what, mend string
		change                            func(*world)
	}{
		{"not ready", "director", api.Breaks, "not ready: VIPs: x", "director status", func(w *world) { w.status[0].NotReady = []string{"VIPs: x"} }},
		{"frozen", "director", api.Risks, "stopped by op", "director unfreeze", func(w *world) { w.status[0].Frozen, w.status[0].FrozenBy = true, "op" }},
		{"unplaced", "director", api.Breaks, "3 tunnels have no real server", "--placed no", func(w *world) { w.status[0].Tunnels.Unplaced = 3 }},
		{"contested", "director", api.Risks, "2 tunnels want", "NMS", func(w *world) { w.status[0].Tunnels.Contested = 2 }},
		{"no backup", "director", api.Risks, "2 tunnels have no backup", "realserver list", func(w *world) { w.status[0].Tunnels.NoBackup = 2 }},
		{"n+1", "director", api.Risks, "node-a", "realserver add", func(w *world) { w.status[0].NPlusOne.Missing = []string{"500 if node-a dies"} }},
		{"drill", "drills", api.Notes, "ann made host-loss at rs1 on purpose", "director drill undo", func(w *world) {
			w.Faults = func() []api.FaultInPlace { return []api.FaultInPlace{{Kind: "host-loss", Target: "rs1", By: "ann"}} }
		}},
		{"drill that is not undone", "drills", api.Risks, "ann made partition at d1", "could not be undone by itself: no nftables", func(w *world) {
			w.Faults = func() []api.FaultInPlace {
				return []api.FaultInPlace{{Kind: "partition", Target: "d1", By: "ann", Error: "no nftables"}}
			}
		}},
		{"plane", "data plane", api.Breaks, "no room", "journalctl", func(w *world) { w.status[0].Plane.InSync, w.status[0].Plane.LastError = false, "no room" }},
		{"table full", "data plane", api.Risks, "95 of 100", "limits", func(w *world) {
			w.status[0].Plane.Tables = map[string]api.Usage{"td_pins4": {Entries: 95, Max: 100}}
		}},
		{"plane warns", "data plane", api.Risks, "no way to rs1", "as it says", func(w *world) { w.warns = []string{"no way to rs1"} }},
		{"stale entry", "kernel against table", api.Breaks, "the kernel has for 203.0.113.5: rs2", "repin", func(w *world) {
			w.differs = []api.Difference{{Key: "203.0.113.5", Want: "rs1", Have: "rs2"}}
		}},
		{"loop", "drops", api.Breaks, "7 packets were dropped in the last second (loop), 10 in all", "--came-from", func(w *world) {
			w.status = append(w.status, w.status[0])
			w.status[0].Plane.Dropped, w.status[1].Plane.Dropped = map[string]uint64{"loop": 3}, map[string]uint64{"loop": 10}
		}},
		{"loop that is over", "drops", api.Notes, "dropped once", "--came-from", func(w *world) { w.status[0].Plane.Dropped = map[string]uint64{"loop": 3} }},
		{"dead", "real servers", api.Breaks, "rs1 is dead: no answer", "realserver doctor", func(w *world) {
			w.status[0].RealServers[0].State, w.status[0].RealServers[0].Cause, w.status[0].RealServers[0].Since = "dead", "no answer", "1999-01-01T00:00:00Z"
		}},
		{"never alive", "real servers", api.Breaks, "never seen alive", "address", func(w *world) {
			w.status[0].RealServers[0].State, w.status[0].RealServers[0].Since = "new", "1999-01-01T00:00:00Z"
		}},
		{"drain stuck", "real servers", api.Risks, "does not go on: no room", "room", func(w *world) {
			w.status[0].RealServers[0].Drain = &api.DrainStatus{Stuck: "no room"}
		}},
		{"agent silent on the data path", "data path", api.Risks, "its agent does not: port closed", "realserver doctor", func(w *world) { w.probes[0].Agent.Trouble = "port closed" }},
		{"not believed", "data path", api.Breaks, "is not taken for dead: held", "cluster status", func(w *world) {
			w.status[0].RealServers[0].Cause, w.status[0].RealServers[0].Agent = "held", nil
			w.probes[0] = probe.State{Name: "rs1", Known: true, Cause: "no answer"}
		}},
		{"asymmetric", "data path", api.Breaks, "rs1 answers d2, and not d1", "on d1", func(w *world) { w.reach["rs1"] = Reach{By: []string{"d2"}, NotBy: []string{"d1"}} }},
		{"asymmetric elsewhere", "data path", api.Risks, "rs1 answers d1, and not d2", "on d2", func(w *world) { w.reach["rs1"] = Reach{By: []string{"d1"}, NotBy: []string{"d2"}} }},
		{"wrong MAC", "neighbours", api.Breaks, "go to 02:00:00:00:00:bd, and on the wire 02:00:00:00:00:01", "ip neigh replace 198.51.100.11 lladdr 02:00:00:00:00:01 dev rs", func(w *world) {
			w.hops["rs1"][0].MAC, w.hops["rs1"][0].PlaneMAC = "02:00:00:00:00:bd", "02:00:00:00:00:bd"
		}},
		{"stale MAC in the plane", "neighbours", api.Breaks, "the kernel knows it at 02:00:00:00:00:01", "restart", func(w *world) {
			w.hops["rs1"][0].WireMAC, w.hops["rs1"][0].PlaneMAC = "", "02:00:00:00:00:bd"
		}},
		{"no MAC in the plane", "neighbours", api.Breaks, "the data plane knows no MAC", "ip neigh show", func(w *world) {
			w.hops["rs1"][0].PlaneMAC, w.hops["rs1"][0].PlaneUnknown = "", true
		}},
		{"no MAC in the kernel", "neighbours", api.Risks, "the kernel knows no MAC address of rs1 (198.51.100.11): failed", "arping", func(w *world) {
			w.hops["rs1"][0] = api.NextHop{RealServer: "rs1", Address: "198.51.100.11", Via: "198.51.100.11", Interface: "rs", State: "failed"}
		}},
		{"same MAC", "neighbours", api.Breaks, "rs1 (198.51.100.11) and rs2 (198.51.100.12), of different hosts", "arping", func(w *world) {
			w.hops["rs2"][0] = hop("rs2", "198.51.100.12", "02:00:00:00:00:01")
		}},
		{"static entry", "neighbours", api.Notes, "written by hand", "nud reachable", func(w *world) { w.hops["rs1"][0].Static = true }},
		{"other interface", "neighbours", api.Breaks, "by rs, the kernel's route is by mgmt", "ip route get", func(w *world) { w.hops["rs1"][0].Interface = "mgmt" }},
		{"agent silent", "agents", api.Risks, "agent of rs1 is silent", "systemctl", func(w *world) { w.agents[0].Connected = false }},
		{"headless", "agents", api.Breaks, "control process", "restart", func(w *world) { w.agents[0].Status.Health = agent.HealthHeadless }},
		{"terminator dead", "agents", api.Breaks, "terminator is dead", "start", func(w *world) { w.agents[0].Status.Health = agent.HealthDead }},
		{"full", "agents", api.Risks, "102 % of its limit", "rebalance", func(w *world) { w.agents[0].Status.Load = agent.Load{Full: true, Permille: 1024} }},
		{"rp_filter", "agents", api.Breaks, "(rp-filter): strict", "on host node-a: sysctl -w", func(w *world) {
			w.agents[0].Status.Found = []agent.Finding{{ID: "rp-filter", What: "strict", Causes: "dropped", Remedy: "sysctl -w x=2", Severity: "breaks"}}
		}},
		{"wrong place", "tunnels", api.Breaks, "t1 is established at rs2, and its packets go to rs1", "director repin t1 rs2", func(w *world) {
			w.seen = []api.SeenTunnel{{State: api.SeenWrong, Tunnel: "t1", At: "rs2", Pinned: "rs1"}}
		}},
		{"not up", "tunnels", api.Risks, "1 tunnels are up by the NMS's word", "seen --state not-up", func(w *world) { w.seen = []api.SeenTunnel{{State: api.SeenNot}} }},
		{"unknown", "tunnels", api.Notes, "belong to none", "announce", func(w *world) { w.seen = []api.SeenTunnel{{State: api.SeenUnknown}} }},
		{"director dead", "directors", api.Breaks, "d2 is not heard", "forget d2", func(w *world) { w.cluster.Members[1].State = api.MemberDead }},
		{"director hung", "directors", api.Breaks, "does not turn", "restart", func(w *world) { w.cluster.Members[1].Hung = true }},
		{"director sick", "directors", api.Breaks, "does not reach", "doctor", func(w *world) { w.cluster.Members[1].Sick = true }},
		{"path lost", "directors", api.Risks, "not heard on the path 10.0.0.2:7464", "7464", func(w *world) { w.cluster.Members[1].Paths = []api.Path{{Address: "10.0.0.2:7464"}} }},
		{"digest", "directors", api.Risks, "do not hold the same table", "compare", func(w *world) {
			since := time.Now().Add(-time.Minute)
			w.cluster.Members[1].Digest = api.DigestWord{Known: true, Since: &since}
		}},
		{"lag", "directors", api.Risks, "not acknowledged 5 records for 30 s", "disk", func(w *world) { w.cluster.Members[1].Lag = api.Lag{Records: 5, Seconds: 30} }},
		{"nobody assigns", "directors", api.Breaks, "no director places groups", "status", func(w *world) { w.cluster.Assigner = "" }},
		{"address held twice", "addresses", api.Breaks, "held by d1, d2 at once", "hear each other", func(w *world) { w.cluster.Addresses[0].Holders = []string{"d1", "d2"} }},
		{"address held by nobody", "addresses", api.Breaks, "held by nobody", "status", func(w *world) { w.cluster.Addresses[0].Holders, w.cluster.Addresses[0].Held = nil, true }},
		{"address held by another", "addresses", api.Risks, "is to be held by d2", "d2", func(w *world) { w.cluster.Addresses[0].Owner = "d2" }},
		{"not held by all", "addresses", api.Breaks, "is not held here", "ready", func(w *world) { w.HoldAll, w.cluster.Addresses[0].Held = true, false }},
		{"setting", "kernel settings", api.Risks, "strict", "sysctl -w a.b=2", func(w *world) {
			w.settings = []Setting{{"strict", "packets die", "sysctl -w a.b=2"}}
		}},
		{"clock off", "clock", api.Risks, "90 s off", "chronyc", func(w *world) { w.cluster.Members[1].ClockOffset = -90 }},
		{"clock of its own", "clock", api.Risks, "behind", "chronyc", func(w *world) { w.status[0].ClockSays = "2m behind" }},
		{"disk full", "disk", api.Breaks, "takes no writes: full", "room", func(w *world) { w.status[0].Writable, w.status[0].NotWritable = false, "full" }},
		{"disk nearly full", "disk", api.Risks, "300 MiB are free", "room", func(w *world) { w.status[0].DiskFree = 300 << 20 }},
		{"hot core", "processors", api.Risks, "cpu 1 is 100 % busy with packets, the others 0 %", "ethtool", func(w *world) {
			w.files = []fstest.MapFS{machine(0, 0, 0), machine(0, 100, 0)}
		}},
		{"core drops", "processors", api.Breaks, "cpu 0 dropped 16 packets", "netdev_max_backlog", func(w *world) {
			w.files = []fstest.MapFS{machine(0, 0, 0), machine(0, 0, 16)}
		}},
		{"one queue", "processors", api.Notes, "eth0 has 1 receive queues, and there are 2", "ethtool -L eth0", func(w *world) {
			w.Interfaces = []plane.Interface{{Name: "eth0", Roles: plane.RoleSubnet}}
			w.files[0]["sys/class/net/eth0/device/x"] = &fstest.MapFile{}
			w.files[0]["sys/class/net/eth0/queues/rx-0/x"] = &fstest.MapFile{}
		}},
		{"certificate", "certificates", api.Risks, "ends in 2 days", "renew", func(w *world) { w.certs[0].Expires = time.Now().Add(49 * time.Hour) }},
		{"certificate expired", "certificates", api.Breaks, "has expired", "issue", func(w *world) { w.certs[0].Expires = time.Now() }},
		{"certificate alarm", "certificates", api.Risks, "not renewed", "as it says", func(w *world) { w.certs[0].Alarm = "not renewed" }},
		{"agent version", "versions", api.Notes, "agent of real server rs1 is of version 0.8, this director of 1.0", "upgrade", func(w *world) { w.agents[0].Version = "0.8" }},
		{"version", "versions", api.Notes, "d2 is of version 0.9", "upgrade", func(w *world) { w.versions["d2"] = "0.9" }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := examine(t, func(w *world) {
				tt.change(w)
				if tt.name == "agent silent" {
					w.agents[0].Since = time.Now().Add(-time.Hour)
				}
			})
			list := wrong(r)
			if len(list) != 1 {
				t.Fatalf("found %+v", list)
			}
			f := list[0]
			if f.Check != tt.check || f.Severity != tt.severity || !strings.Contains(f.What, tt.what) || !strings.Contains(f.Mend, tt.mend) || f.Causes == "" {
				t.Errorf("found %+v", f)
			}
		})
	}
}

// The control connection says that all is well while nothing gets through: that is told, as what it is.
func TestDeadDataPath(t *testing.T) {
	r := examine(t, func(w *world) {
		w.status[0].RealServers[0].State, w.status[0].RealServers[0].Since = "dead", "1999-01-01T00:00:00Z"
		w.probes[0] = probe.State{Name: "rs1", Known: true, Cause: "agent at 192.0.2.10:7461: no answer on the data path while its stream is up",
			Agent: probe.Word{Trouble: "no answer on the data path while its stream is up"}}
	})
	for _, f := range r.Findings {
		if strings.HasPrefix(f.What, "dead data path, live control path: the agent of rs1") && f.Severity == api.Breaks && f.Since != nil {
			return
		}
	}
	t.Errorf("found %+v", r.Findings)
}

// The worst comes first, and many of a kind are told as one.
func TestOrderAndBounds(t *testing.T) {
	r := examine(t, func(w *world) {
		w.status[0].Frozen = true
		for range 30 {
			w.differs = append(w.differs, api.Difference{Key: "k"})
			w.seen = append(w.seen, api.SeenTunnel{State: api.SeenWrong})
		}
	})
	list := wrong(r)
	if n := len(list); n != 1+auditTold+1+seenTold+1 || list[0].Severity != api.Breaks || list[n-1].Severity != api.Risks {
		t.Errorf("%d findings: %+v", n, list)
	}
	if w := r.Wrong(); w != 1+auditTold+1+seenTold+1 {
		t.Errorf("%d are wrong", w)
	}
}

// A table that is too large for the time there is says so.
func TestLongAudit(t *testing.T) {
	r := examine(t, func(w *world) {
		w.Audit = func(ctx context.Context, _ func(api.Difference)) (api.AuditCounts, error) {
			<-ctx.Done()
			return api.AuditCounts{}, ctx.Err()
		}
	})
	if len(r.Unchecked) != 1 || !strings.Contains(r.Unchecked[0].Why, "director audit") {
		t.Errorf("%+v", r.Unchecked)
	}
}

// An agent that was never seated is none.
func TestNoAgent(t *testing.T) {
	r := examine(t, func(w *world) { w.agents = append(w.agents, observe.Agent{RealServer: "rs9"}) })
	if list := wrong(r); len(list) > 0 {
		t.Errorf("%+v", list)
	}
}
