package api

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

func metricsHandler(d Director, o Options) http.Handler {
	reg, log := prometheus.NewRegistry(), o.Log
	reg.MustRegister(newEventCollector(o))
	reg.MustRegister(newCollector(d, log))
	if c, ok := d.(Cluster); ok {
		reg.MustRegister(newClusterCollector(c, log))
	}
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn), ErrorHandling: promhttp.ContinueOnError})
}

// A collector reads the Status at each scrape; it keeps no numbers of its own.
type collector struct {
	d   Director
	log *slog.Logger

	info, ready, writable, inSync, frozen, nPlusOne, alarms, revision, started *prometheus.Desc
	tunnels, diskFree, diskUsed, tableEntries, tableMax, clockOffset           *prometheus.Desc
	dropped, passed, subnetPackets, subnetBytes                                *prometheus.Desc
	rsUp, rsTunnels, rsBackup, rsCapacity, rsWeight, rsDrained, rsBandwidth    *prometheus.Desc
	rsPackets, rsBytes, rsRTT, rsIncarnation, rsDrainLeft                      *prometheus.Desc
	agConnected, agHealth, agClosed, agLoad, agTunnels, agOrders               *prometheus.Desc
	svcTunnels, svcPackets, svcBytes, svcDropped                               *prometheus.Desc
}

func newCollector(d Director, log *slog.Logger) *collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("tunneldirector_"+name, help, labels, nil)
	}
	return &collector{
		d: d, log: log,
		info:          desc("info", "Always 1; labels say which director, version and plane.", "director", "version", "plane"),
		ready:         desc("ready", "1 if the director is ready."),
		writable:      desc("writable", "1 if the store takes writes."),
		inSync:        desc("plane_in_sync", "1 if the kernel holds what the table says."),
		frozen:        desc("frozen", "1 if automatic moves are stopped."),
		nPlusOne:      desc("n_plus_one", "1 if the death of any one host can be borne."),
		alarms:        desc("alarms", "Conditions that need a person."),
		revision:      desc("revision", "Commits of the store."),
		started:       desc("start_time_seconds", "When the daemon started, Unix time."),
		clockOffset:   desc("clock_offset_seconds", "The clock less the other directors' median; of a director alone, less its newest record if that is ahead, or how far the clock jumped."),
		tunnels:       desc("tunnels", "Tunnels in the table by state; they overlap.", "state"),
		diskFree:      desc("disk_free_bytes", "Free space where the store is."),
		diskUsed:      desc("disk_used_bytes", "Space that the store takes."),
		tableEntries:  desc("plane_table_entries", "Entries in a kernel table.", "table"),
		tableMax:      desc("plane_table_max_entries", "Size of a kernel table.", "table"),
		dropped:       desc("dropped_packets_total", "Packets dropped, by reason.", "plane", "reason"),
		passed:        desc("passed_packets_total", "Packets left to the director's own stack, by reason.", "plane", "reason"),
		subnetPackets: desc("subnet_packets_total", "Packets forwarded on the subnet side."),
		subnetBytes:   desc("subnet_bytes_total", "Bytes forwarded on the subnet side."),
		rsUp:          desc("real_server_up", "1 if the real server is alive.", "real_server"),
		rsTunnels:     desc("real_server_tunnels", "Tunnels whose primary it is.", "real_server"),
		rsBackup:      desc("real_server_backup_tunnels", "Tunnels whose backup it is.", "real_server"),
		rsCapacity:    desc("real_server_capacity_tunnels", "Most tunnels it takes; 0: no limit.", "real_server"),
		rsWeight:      desc("real_server_weight", "Relative weight in placement.", "real_server"),
		rsDrained:     desc("real_server_drained", "1 if it takes no new tunnels.", "real_server"),
		rsBandwidth:   desc("real_server_expected_bytes_per_second", "Sum of its tunnels' expected bandwidth.", "real_server"),
		rsPackets:     desc("real_server_packets_total", "Packets forwarded to it.", "real_server"),
		rsBytes:       desc("real_server_bytes_total", "Bytes forwarded to it.", "real_server"),
		rsRTT:         desc("real_server_probe_rtt_seconds", "Round trip of the last probe.", "real_server"),
		rsIncarnation: desc("real_server_incarnation", "How often it came to life.", "real_server"),
		rsDrainLeft:   desc("real_server_drain_left_tunnels", "Tunnels that a drain has still to move.", "real_server"),
		agConnected:   desc("agent_connected", "1 if the real server's agent speaks to this director.", "real_server"),
		agHealth:      desc("agent_health", "1 for what the agent says of its terminator, 0 for what it does not.", "real_server", "health"),
		agClosed:      desc("agent_closed", "1 if the real server gets no new tunnels by its agent's word.", "real_server"),
		agLoad:        desc("agent_load_ratio", "Load of the terminator; 1 is its limit.", "real_server"),
		agTunnels:     desc("agent_established_tunnels", "Tunnels that the agent sees established.", "real_server"),
		agOrders:      desc("agent_orders", "Orders for single tunnels of the last 15 minutes, by outcome.", "real_server", "outcome"),
		svcTunnels:    desc("service_tunnels", "Tunnels of a service.", "service"),
		svcPackets:    desc("service_packets_total", "Packets forwarded for a service.", "service"),
		svcBytes:      desc("service_bytes_total", "Bytes forwarded for a service.", "service"),
		svcDropped:    desc("service_dropped_packets_total", "Packets to a service that were dropped, by reason.", "service", "reason"),
	}
}

// Describe sends nothing: the set depends on what there is.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect reads the Status.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	st, err := c.d.View().Status(ctx)
	if err != nil {
		c.log.Warn("read status for metrics", "error", err)
		out <- prometheus.NewInvalidMetric(c.ready, err)
		return
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	c.director(&st, gauge)
	c.plane(&st, gauge, counter)
	for _, r := range st.RealServers {
		c.realServer(r, gauge, counter)
	}
	for _, s := range st.Services {
		gauge(c.svcTunnels, float64(s.Tunnels), s.Name)
		counter(c.svcPackets, s.Traffic.Packets, s.Name)
		counter(c.svcBytes, s.Traffic.Bytes, s.Name)
		for reason, n := range s.Dropped {
			counter(c.svcDropped, n, s.Name, reason)
		}
	}
}

type (
	gaugeFunc   func(d *prometheus.Desc, v float64, labels ...string)
	counterFunc func(d *prometheus.Desc, v uint64, labels ...string)
)

func (c *collector) director(st *Status, gauge gaugeFunc) {
	gauge(c.info, 1, st.Name, st.Version, st.Plane.Kind)
	gauge(c.ready, bit(st.Ready))
	gauge(c.writable, bit(st.Writable))
	gauge(c.frozen, bit(st.Frozen))
	gauge(c.nPlusOne, bit(st.NPlusOne.OK))
	gauge(c.alarms, float64(len(st.Alarms)))
	gauge(c.revision, float64(st.Revision))
	gauge(c.started, float64(st.Started.UnixMilli())/1000)
	gauge(c.clockOffset, st.ClockOffset)
	gauge(c.diskFree, float64(st.DiskFree))
	gauge(c.diskUsed, float64(st.DiskUsed))
	for state, n := range map[string]uint64{
		"total": st.Tunnels.Total, "placed": st.Tunnels.Placed, "unplaced": st.Tunnels.Unplaced,
		"no_backup": st.Tunnels.NoBackup, "contested": st.Tunnels.Contested, "split": st.Tunnels.Split,
	} {
		gauge(c.tunnels, float64(n), state)
	}
}

func (c *collector) plane(st *Status, gauge gaugeFunc, counter counterFunc) {
	gauge(c.inSync, bit(st.Plane.InSync))
	for reason, n := range st.Plane.Dropped {
		counter(c.dropped, n, st.Plane.Kind, reason)
	}
	for reason, n := range st.Plane.Passed {
		counter(c.passed, n, st.Plane.Kind, reason)
	}
	counter(c.subnetPackets, st.Plane.SubnetSide.Packets)
	counter(c.subnetBytes, st.Plane.SubnetSide.Bytes)
	for table, u := range st.Plane.Tables {
		gauge(c.tableEntries, float64(u.Entries), table)
		gauge(c.tableMax, float64(u.Max), table)
	}
}

func (c *collector) realServer(r RealServerStatus, gauge gaugeFunc, counter counterFunc) {
	gauge(c.rsUp, bit(r.State == "alive"), r.Name)
	gauge(c.rsTunnels, float64(r.Tunnels), r.Name)
	gauge(c.rsBackup, float64(r.BackupFor), r.Name)
	gauge(c.rsCapacity, float64(r.Capacity), r.Name)
	gauge(c.rsWeight, float64(r.Weight), r.Name)
	gauge(c.rsDrained, bit(r.Admin == "drained"), r.Name)
	gauge(c.rsBandwidth, float64(r.BandwidthBPS)/8, r.Name)
	gauge(c.rsIncarnation, float64(r.Incarnation), r.Name)
	counter(c.rsPackets, r.Traffic.Packets, r.Name)
	counter(c.rsBytes, r.Traffic.Bytes, r.Name)
	if r.RTTMicros > 0 {
		gauge(c.rsRTT, float64(r.RTTMicros)/1e6, r.Name)
	}
	if r.Drain != nil {
		gauge(c.rsDrainLeft, float64(r.Drain.Left), r.Name)
	}
	if r.Agent != nil {
		c.agent(r.Name, r.Agent, gauge)
	}
}

// agent tells what an agent says. A silent one's last words are not told: they would look like now's.
func (c *collector) agent(name string, a *AgentStatus, gauge gaugeFunc) {
	gauge(c.agConnected, bit(a.Connected), name)
	for outcome, n := range map[string]int{"open": a.Orders.Open, "done": a.Orders.Done, "waiting": a.Orders.Waiting, "failed": a.Orders.Failed} {
		gauge(c.agOrders, float64(n), name, outcome)
	}
	if !a.Connected {
		return
	}
	for _, health := range []string{"unknown", "working", "headless", "dead"} {
		gauge(c.agHealth, bit(a.Health == health), name, health)
	}
	gauge(c.agClosed, bit(a.Closed != ""), name)
	gauge(c.agLoad, a.LoadPercent/100, name)
	gauge(c.agTunnels, float64(a.Established), name)
}

func bit(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
