package doctor

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"tunneldirector/affinity"
	"tunneldirector/director/agent"
	"tunneldirector/director/api"
	"tunneldirector/director/observe"
	"tunneldirector/director/probe"
)

// A world is a director with which nothing is wrong, until a test changes something.
type world struct {
	Patient
	status   []api.Status // by sample; the last one stays
	asked    int
	cluster  api.ClusterStatus
	hops     map[string][]api.NextHop
	probes   []probe.State
	agents   []observe.Agent
	seen     []api.SeenTunnel
	differs  []api.Difference
	auditErr error
	certs    []Certificate
	warns    []string
	settings []Setting
	reach    map[string]Reach
	versions map[string]string
	files    []fstest.MapFS
}

const cpus = "cpu  100 0 100 800 0 0 0 0 0 0\ncpu0 50 0 50 400 0 0 %d 0 0 0\ncpu1 50 0 50 400 0 0 %d 0 0 0\n"

func machine(soft0, soft1 int, dropped int) fstest.MapFS {
	return fstest.MapFS{
		"proc/stat":             {Data: fmt.Appendf(nil, cpus, soft0, soft1)},
		"proc/net/softnet_stat": {Data: fmt.Appendf(nil, "00000010 %08x 00000000 0\n00000010 00000000 00000000 0\n", dropped)},
	}
}

func newWorld() *world {
	table := affinity.NewTable("store", 1)
	for i, host := range []string{"node-a", "node-b"} {
		name := fmt.Sprintf("rs%d", i+1)
		rs := &affinity.RealServer{Name: name, Host: host, Addrs: []netip.Addr{netip.AddrFrom4([4]byte{198, 51, 100, byte(11 + i)})}}
		table.PutRealServer(rs)
	}
	now := time.Now()
	w := &world{
		status: []api.Status{{Name: "d1", Ready: true, Writable: true, DiskFree: 100 << 30, DiskUsed: 1 << 20,
			Plane: api.PlaneStatus{Kind: "xdp", InSync: true, Dropped: map[string]uint64{}},
			RealServers: []api.RealServerStatus{
				{Name: "rs1", Host: "node-a", State: "alive", Agent: &api.AgentStatus{Connected: true, Health: "working"}},
				{Name: "rs2", Host: "node-b", State: "alive", Agent: &api.AgentStatus{Connected: true, Health: "working"}}}}},
		cluster: api.ClusterStatus{Self: "d1", Assigner: "d1", Members: []api.MemberStatus{
			{Name: "d1", Self: true, State: api.MemberAlive, Ready: true},
			{Name: "d2", State: api.MemberAlive, Ready: true, Digest: api.DigestWord{Known: true, Equal: true, Since: &now}}},
			Addresses: []api.AddressOwner{{Address: "192.0.2.10", Kind: "vip", Of: "wg", Owner: "d1", Held: true, Holders: []string{"d1"}}}},
		hops: map[string][]api.NextHop{
			"rs1": {hop("rs1", "198.51.100.11", "02:00:00:00:00:01")},
			"rs2": {hop("rs2", "198.51.100.12", "02:00:00:00:00:02")}},
		probes:   []probe.State{{Name: "rs1", Known: true, Alive: true}, {Name: "rs2", Known: true, Alive: true}},
		agents:   []observe.Agent{{RealServer: "rs1", Host: "node-a", Terminator: "wireguard", Version: "1.0", Connected: true, Status: agent.Status{Health: agent.HealthWorking}}},
		certs:    []Certificate{{Of: "towards agents", Expires: now.Add(1000 * time.Hour)}},
		reach:    map[string]Reach{"rs1": {By: []string{"d1", "d2"}}},
		versions: map[string]string{"d2": "1.0"},
		files:    []fstest.MapFS{machine(0, 0, 0)},
	}
	w.Patient = Patient{Name: "d1", Version: "1.0", Reserve: 256 << 20, Began: now, Files: nil,
		Table: func() *affinity.Table { return table },
		Status: func(context.Context) (api.Status, error) {
			i := min(w.asked, len(w.status)-1)
			w.Files = w.files[min(w.asked, len(w.files)-1)]
			w.asked++
			return w.status[i], nil
		},
		Cluster:  func(context.Context) (api.ClusterStatus, error) { return w.cluster, nil },
		Versions: func(context.Context) (map[string]string, error) { return w.versions, nil },
		Reach:    func() map[string]Reach { return w.reach },
		Seen: func(_ context.Context, states []string, f func(api.SeenTunnel) bool) error {
			for _, x := range w.seen {
				if slices.Contains(states, x.State) && !f(x) {
					break
				}
			}
			return nil
		},
		Audit: func(_ context.Context, f func(api.Difference)) (api.AuditCounts, error) {
			for _, d := range w.differs {
				f(d)
			}
			return api.AuditCounts{Other: uint64(len(w.differs))}, w.auditErr
		},
		NextHops:      func(rs string) []api.NextHop { return w.hops[rs] },
		Probes:        func() []probe.State { return w.probes },
		Agents:        func() []observe.Agent { return w.agents },
		PlaneWarnings: func() []string { return w.warns },
		Settings:      func() ([]Setting, error) { return w.settings, nil },
		Certificates:  func() []Certificate { return w.certs },
	}
	return w
}

func hop(rs, a, mac string) api.NextHop {
	return api.NextHop{RealServer: rs, Address: a, Via: a, Interface: "rs", MTU: 1500, MAC: mac, State: "reachable", PlaneMAC: mac, PlaneInterface: "rs", WireMAC: mac}
}

// examine lets the doctor look, in a bubble of virtual time.
func examine(t *testing.T, change func(*world)) (r api.DoctorReport) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		change(w)
		var err error
		if r, err = Examine(t.Context(), &w.Patient); err != nil {
			t.Fatal(err)
		}
	})
	return r
}

// wrong are the findings but those about this machine's own clock, which is not the world's.
func wrong(r api.DoctorReport) []api.Finding {
	return slices.DeleteFunc(slices.Clone(r.Findings), func(f api.Finding) bool { return strings.Contains(f.What, "nobody keeps its clock right") })
}

func TestNothingIsWrong(t *testing.T) {
	r := examine(t, func(*world) {})
	if list := wrong(r); len(list) > 0 || len(r.Unchecked) > 0 {
		t.Errorf("found %+v, not checked %+v", list, r.Unchecked)
	}
	if len(r.Checked) != len(checks) || r.Seconds < 1 || r.Director != "d1" {
		t.Errorf("%+v", r)
	}
}

// What cannot be looked at is said, and keeps nothing else from being looked at.
func TestUnchecked(t *testing.T) {
	r := examine(t, func(w *world) {
		w.Patient = Patient{Name: "d1"}
	})
	if list := wrong(r); len(list) > 0 {
		t.Errorf("found %+v", list)
	}
	names := map[string]bool{}
	for _, u := range r.Unchecked {
		names[u.Check] = u.Why != ""
	}
	for _, name := range r.Checked {
		names[name] = true
	}
	if len(names) != len(checks) || len(r.Unchecked) < 11 {
		t.Errorf("checked %v, not checked %+v", r.Checked, r.Unchecked)
	}
	for name, told := range maps.All(names) {
		if !told {
			t.Errorf("%s: no reason", name)
		}
	}
}

func TestExamineEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := Examine(ctx, &newWorld().Patient); err != context.Canceled {
			t.Error(err)
		}
	})
}
