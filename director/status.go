package director

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"tunneldirector/affinity"
	"tunneldirector/affinity/place"
	"tunneldirector/cluster"
	"tunneldirector/director/api"
	"tunneldirector/director/plane"
)

// health is what the loop knows about itself. Run replaces it whole; anybody reads it.
type health struct {
	planeErr string
	holdErr  string
	another  bool              // whether another plane may still be there and take packets that this one does not see
	otherErr string            // what keeps it there
	watching time.Time         // from when on the plane has seen all packets of the last while
	held     map[string]string // real server -> why its death is not believed
	ahead    time.Duration     // of the stamps before the wall clock
	offset   time.Duration     // of the wall clock before the other directors'
	jumped   time.Duration     // how far the wall clock of a director alone jumped; 0: it is believed
	assigner string            // director that places groups
	unready  string            // why it is not ready; "" if it is
	last     bool              // it stops, and no other director could take over
	sick     bool              // others reach real servers that this director does not
	stuck    map[string]string // real server that is drained -> why the last group could not be moved
}

// note changes the health.
func (d *Director) note(change func(*health)) {
	next := health{held: map[string]string{}, stuck: map[string]string{}}
	if h := d.health.Load(); h != nil {
		next = *h
		next.held, next.stuck = maps.Clone(h.held), maps.Clone(h.stuck)
	}
	next.ahead = d.clock.Ahead(d.o.Now())
	change(&next)
	d.health.Store(&next)
}

// Status is the whole state of the director.
func (v view) Status(ctx context.Context) (api.Status, error) {
	d, t, h := v.d, v.d.Table(), v.d.health.Load()
	disk := d.store.State()
	s := api.Status{
		Name: d.o.Name, Version: d.o.Version, Store: t.StoreID(), Revision: t.Revision(), Started: d.started,
		Writable: disk.NotWritable == "", NotWritable: disk.NotWritable, DiskFree: disk.Free, DiskUsed: disk.Used,
		Frozen: t.Freeze().On, FrozenBy: t.Freeze().By,
		Plane: api.PlaneStatus{Kind: d.o.PlaneKind, ChosenBy: d.o.PlaneBy, Why: d.o.PlaneWhy, InSync: h.planeErr == "", LastError: h.planeErr},
	}
	if !s.Frozen {
		s.FrozenBy = ""
	}
	if d.o.PlaneDetail != nil {
		s.Plane.Detail = d.o.PlaneDetail()
	}
	stats := plane.Stats{}
	if o, ok := d.o.Plane.(plane.Counter); ok {
		var err error
		if stats, err = o.Stats(); err != nil {
			return s, fmt.Errorf("read the data plane's counters: %w", err)
		}
	}
	addStats(&s, stats, t)
	s.RealServers = v.realServers(t, stats)
	s.Tunnels = api.TunnelCounts{Total: uint64(t.Len()), Unplaced: uint64(t.Unplaced()),
		Placed: uint64(t.Len()) - uint64(t.Unplaced()), NoBackup: uint64(t.Alone()), Contested: uint64(t.ContestedCount()), Split: uint64(t.SplitCount())}
	s.NPlusOne = nPlusOne(t)
	s.ClockOffset = h.clockOffset(d.lone()).Seconds()
	addAlarms(&s, h, d.o.Now())
	s.Alarms = append(s.Alarms, agentAlarms(s.RealServers, d.o.Now())...)
	if d.o.Alarms != nil {
		s.Alarms = append(s.Alarms, d.o.Alarms()...)
	}
	if d.o.PlaneWarnings != nil {
		s.Alarms = append(s.Alarms, d.o.PlaneWarnings()...)
	}
	return s, nil
}

func addStats(s *api.Status, stats plane.Stats, t *affinity.Table) {
	p := &s.Plane
	p.Dropped, p.Passed, p.Tables = map[string]uint64{}, map[string]uint64{}, map[string]api.Usage{}
	for r, n := range stats.Reasons {
		if r.Drops() {
			p.Dropped[r.String()] = n
		} else {
			p.Passed[r.String()] = n
		}
	}
	for name, u := range stats.Capacity {
		p.Tables[name] = api.Usage(u)
	}
	p.SubnetSide = api.Traffic(stats.Subnet)
	for _, svc := range t.Services() {
		out := api.ServiceStatus{Name: svc.Name, Tunnels: uint64(t.ServiceLoad(svc.Num).Tunnels),
			Traffic: api.Traffic(stats.Services[svc.Num]), Dropped: map[string]uint64{}}
		for r, n := range stats.ServiceDrop[svc.Num] {
			out.Dropped[r.String()] = n
		}
		s.Services = append(s.Services, out)
	}
}

// realServers are all, with the sums over their incarnations.
func (v view) realServers(t *affinity.Table, stats plane.Stats) []api.RealServerStatus {
	primary, backup, traffic := map[string]affinity.Load{}, map[string]uint32{}, map[string]api.Traffic{}
	t.Pairs(func(p, b affinity.Index, l affinity.Load) {
		primary[t.NameAt(p)] = primary[t.NameAt(p)].Add(l)
		backup[t.NameAt(b)] += l.Tunnels
	})
	for i, tr := range stats.RealServers {
		sum := traffic[t.NameAt(i)]
		traffic[t.NameAt(i)] = api.Traffic{Packets: sum.Packets + tr.Packets, Bytes: sum.Bytes + tr.Bytes}
	}
	held := v.d.health.Load().held
	var out []api.RealServerStatus
	for _, rs := range t.RealServers() {
		r := api.RealServerStatus{Name: rs.Name, Host: rs.Host, Zone: rs.Zone, Services: rs.Services, Admin: rs.Admin.String(),
			State: "new", Weight: rs.Weight, Capacity: rs.Capacity, Tunnels: primary[rs.Name].Tunnels,
			BackupFor: backup[rs.Name], BandwidthBPS: primary[rs.Name].Bandwidth, Traffic: traffic[rs.Name]}
		for _, a := range rs.Addrs {
			r.Addresses = append(r.Addresses, a.String())
		}
		if life, ok := t.LifeOf(rs.Name); ok {
			r.State, r.Cause, r.Since = "dead", life.Cause, life.Since.Time().Format(time.RFC3339)
			if life.Alive {
				r.State = "alive"
			}
			r.Incarnation, r.Index = life.Incarnation, uint16(life.Index)
		}
		if why, ok := held[rs.Name]; ok {
			r.Cause = why
		}
		if v.d.o.Prober != nil {
			cause, rtt := v.d.o.Prober.Probed(rs.Name)
			r.RTTMicros = rtt.Microseconds()
			if r.State == "new" {
				r.Cause, r.Since = cause, rs.Header.Stamp.Time().Format(time.RFC3339)
			}
		}
		if r.Drain = drainStatus(t, rs, r.Tunnels, v.d.o.Now()); r.Drain != nil {
			if r.Drain.Stuck = v.d.health.Load().stuck[rs.Name]; r.Drain.Stuck != "" {
				r.Drain.ETA = nil // nobody knows
			}
		}
		out = append(out, r)
	}
	v.addAgents(out)
	return out
}

// nPlusOne asks whether the death of any host can be borne.
func nPlusOne(t *affinity.Table) api.NPlusOne {
	var all affinity.Load
	for _, s := range t.Services() {
		all = all.Add(t.ServiceLoad(s.Num))
	}
	r := place.NPlusOne(place.View{Servers: servers(t, nil), Pair: t.PairLoad, Mean: all.Mean()})
	return api.NPlusOne{OK: r.OK, Missing: r.Missing}
}

// clockOffset is how far the wall clock is ahead of what is held against it.
func (h *health) clockOffset(alone bool) time.Duration {
	switch {
	case !alone:
		return h.offset
	case h.jumped != 0:
		return h.jumped
	}
	return -h.ahead
}

// newFor is how long a real server may take to be found alive.
const newFor = 15 * time.Second

// addAlarms says what needs a person, and whether the director is ready.
func addAlarms(s *api.Status, h *health, now time.Time) {
	s.Alarms = []string{}
	alarm := func(format string, args ...any) { s.Alarms = append(s.Alarms, fmt.Sprintf(format, args...)) }
	if h.planeErr != "" {
		alarm("the kernel does not hold what the table says: %s", h.planeErr)
		s.NotReady = append(s.NotReady, "data plane: "+h.planeErr)
	}
	if h.holdErr != "" {
		alarm("the VIPs are not held as they should be: %s", h.holdErr)
		s.NotReady = append(s.NotReady, "VIPs: "+h.holdErr)
	}
	if h.unready != "" {
		alarm("this director is not ready, holds no address and takes no changes: %s", h.unready)
		s.NotReady = append(s.NotReady, h.unready)
	}
	if h.sick {
		alarm("other directors reach real servers that this one does not: its addresses are theirs until it does")
	}
	if h.offset.Abs() > cluster.MaxOffset {
		s.ClockSays = fmt.Sprintf("%s off the other directors'; stamps count on by themselves", h.offset.Round(time.Second))
		alarm("the clock is %s", s.ClockSays)
	}
	if h.otherErr != "" {
		alarm("another plane is still in the kernel and may take packets: %s", h.otherErr)
	}
	if !s.Writable {
		alarm("the store takes no writes: %s", s.NotWritable)
	}
	for _, name := range slices.Sorted(maps.Keys(h.held)) {
		alarm("real server %s does not answer, and its tunnels were not moved: %s", name, h.held[name])
	}
	for _, rs := range s.RealServers {
		switch since, err := time.Parse(time.RFC3339, rs.Since); {
		case rs.State == "dead":
			alarm("real server %s is dead since %s: %s", rs.Name, rs.Since, rs.Cause)
		case rs.State == "new" && err == nil && now.Sub(since) > newFor:
			alarm("real server %s has not been alive since it was added at %s: %s", rs.Name, rs.Since, rs.Cause)
		}
	}
	if n := s.Tunnels.Unplaced; n > 0 {
		alarm("%d tunnels are unplaced: director tunnel list --placed no", n)
	}
	for _, m := range s.NPlusOne.Missing {
		alarm("N+1: no: %s", m)
	}
	if h.ahead > time.Minute {
		s.ClockSays = fmt.Sprintf("%s behind the newest record; stamps go on from there", h.ahead.Round(time.Second))
		alarm("the clock is %s", s.ClockSays)
	}
	s.Ready = len(s.NotReady) == 0
}
