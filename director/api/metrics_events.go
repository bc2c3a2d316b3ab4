package api

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tunneldirector/affinity"
)

// An eventCollector counts what happened since the daemon started, and tells how it is kept and when certificates end.
type eventCollector struct {
	journal      Journal
	certificates func() map[string]time.Time

	events, moves, provisional, lost, size, writable, ends *prometheus.Desc
}

func newEventCollector(o Options) *eventCollector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("tunneldirector_"+name, help, labels, nil)
	}
	return &eventCollector{
		journal: o.Journal, certificates: o.Certificates,
		events:      desc("events_total", "What happened, by kind, as in GET /v1/events.", "kind"),
		moves:       desc("moves_total", "Groups that changed their real server, by cause.", "cause"),
		provisional: desc("provisional_deaths_total", "Real servers that this director failed over before the assigner called them dead."),
		lost:        desc("journal_lost_events_total", "Events that are not on disk, because it failed or was too slow."),
		size:        desc("journal_size_bytes", "Space that the events on disk take."),
		writable:    desc("journal_writable", "1 if the last events could be written."),
		ends:        desc("certificate_expiry_timestamp_seconds", "When a certificate of this director ends, Unix time.", "certificate"),
	}
}

// moveCauses are all that a group can be moved for.
var moveCauses = []affinity.Why{affinity.WhyPlaced, affinity.WhyFailed, affinity.WhyOrphan, affinity.WhyRepinned, affinity.WhyRebalanced, affinity.WhyDrained}

// Describe sends nothing: the set depends on what there is.
func (c *eventCollector) Describe(chan<- *prometheus.Desc) {}

// Collect reads the JournalStats and the certificates.
func (c *eventCollector) Collect(out chan<- prometheus.Metric) {
	tell := func(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, kind, v, labels...)
	}
	if c.certificates != nil {
		for name, end := range c.certificates() {
			tell(c.ends, prometheus.GaugeValue, float64(end.Unix()), name)
		}
	}
	if c.journal == nil {
		return
	}
	st := c.journal.Stats()
	for _, kind := range EventKinds() { // those that never happened, too: else their first would be no increase
		tell(c.events, prometheus.CounterValue, float64(st.Events[kind]), kind)
	}
	for _, cause := range moveCauses {
		tell(c.moves, prometheus.CounterValue, float64(st.Moves[cause.String()]), cause.String())
	}
	tell(c.provisional, prometheus.CounterValue, float64(st.Provisional))
	tell(c.lost, prometheus.CounterValue, float64(st.Lost))
	tell(c.size, prometheus.GaugeValue, float64(st.Size))
	tell(c.writable, prometheus.GaugeValue, bit(st.Writable))
}
