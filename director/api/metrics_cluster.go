package api

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// A clusterCollector tells how the directors stand, as this one sees them. A lone director has none.
type clusterCollector struct {
	c   Cluster
	log *slog.Logger

	up, ready, sick, assigns, offset, lag, lagSeconds, equal, heard, lost, holds, problems *prometheus.Desc
}

func newClusterCollector(c Cluster, log *slog.Logger) *clusterCollector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("tunneldirector_cluster_"+name, help, labels, nil)
	}
	return &clusterCollector{
		c: c, log: log,
		up:         desc("director_up", "1 if the director is alive and not leaving.", "peer"),
		ready:      desc("director_ready", "1 if the director holds the table.", "peer"),
		sick:       desc("director_sick", "1 if the director does not reach real servers that others reach.", "peer"),
		assigns:    desc("director_assigns", "1 if the director places groups.", "peer"),
		offset:     desc("clock_offset_seconds", "The director's clock less this one's.", "peer"),
		lag:        desc("lag_records", "Records of this director that the other one has not acknowledged.", "peer"),
		lagSeconds: desc("lag_seconds", "For how long the oldest of them has waited.", "peer"),
		equal:      desc("digest_equal", "1 if the tables are equal.", "peer"),
		heard:      desc("heartbeat_age_seconds", "Time since the last heartbeat on a path.", "peer", "path"),
		lost:       desc("heartbeat_lost_ratio", "Share of the last heartbeats on a path that did not come.", "peer", "path"),
		holds:      desc("address_held", "1 if this director holds the VIP or gateway.", "address", "kind"),
		problems:   desc("problems", "What is wrong between the directors."),
	}
}

// Describe sends nothing: the set depends on who is there.
func (c *clusterCollector) Describe(chan<- *prometheus.Desc) {}

// Collect reads the ClusterStatus.
func (c *clusterCollector) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	st, err := c.c.Members(ctx)
	if err != nil {
		c.log.Warn("read the cluster for metrics", "error", err)
		out <- prometheus.NewInvalidMetric(c.problems, err)
		return
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(c.problems, float64(len(st.Problems)))
	for _, m := range st.Members {
		if m.State == MemberLeft { // in good order: nobody waits for it
			continue
		}
		gauge(c.up, bit(m.State == MemberAlive), m.Name)
		gauge(c.ready, bit(m.Ready), m.Name)
		gauge(c.sick, bit(m.Sick), m.Name)
		gauge(c.assigns, bit(m.Name == st.Assigner), m.Name)
		if m.Self {
			continue
		}
		gauge(c.offset, m.ClockOffset, m.Name)
		gauge(c.lag, float64(m.Lag.Records), m.Name)
		gauge(c.lagSeconds, m.Lag.Seconds, m.Name)
		if m.Digest.Known {
			gauge(c.equal, bit(m.Digest.Equal), m.Name)
		}
		for _, p := range m.Paths {
			if p.HeardMS != nil {
				gauge(c.heard, *p.HeardMS/1000, m.Name, p.Address)
			}
			gauge(c.lost, p.Lost, m.Name, p.Address)
		}
	}
	for _, a := range st.Addresses {
		gauge(c.holds, bit(a.Held), a.Address, a.Kind)
	}
}
