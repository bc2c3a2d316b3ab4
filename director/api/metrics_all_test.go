package api

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

// digested is a director that has compared tables with another.
type digested struct{ *clusterLab }

func (d digested) Members(ctx context.Context) (ClusterStatus, error) {
	st, err := d.clusterLab.Members(ctx)
	st.Members[1].Digest.Known = true
	return st, err
}

// talkative is a director that has something to say of everything.
func talkative() (Director, Options) {
	l := newClusterLab()
	at := time.Unix(1_700_000_000, 0)
	l.alter = func(st *Status) {
		st.Plane.Passed = map[string]uint64{"echo": 1}
		st.ClockOffset = -0.25
		st.RealServers[0].Agent = &AgentStatus{Connected: true, Health: "working", Established: 42, LoadPercent: 81.5}
		st.RealServers[0].Drain = &DrainStatus{Of: 100, Left: 7}
	}
	j := newShelf(0)
	j.stats = JournalStats{Events: map[string]uint64{"moved": 5, "no-such": 1}, Moves: map[string]uint64{"failed-over": 5}, Provisional: 1, Lost: 2, Size: 4096, Writable: true}
	return digested{l}, Options{Log: slog.New(slog.DiscardHandler), Journal: j, Certificates: func() map[string]time.Time { return map[string]time.Time{"api": at, "agents": at} }}
}

func scrape(d Director, o Options) string {
	rec := httptest.NewRecorder()
	metricsHandler(d, o).ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return rec.Body.String()
}

// All that there is to tell. Alert rules, the dashboard and Prometheus's checker are held against the file.
func TestAllMetrics(t *testing.T) {
	got, path := scrape(talkative()), filepath.Join("testdata", "metrics.txt")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("with -update the file is written anew: %s", d)
	}
	// Each metric that a collector can tell is in it.
	for _, f := range []string{"metrics.go", "metrics_cluster.go", "metrics_events.go"} {
		source, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		prefix := "tunneldirector_"
		if f == "metrics_cluster.go" {
			prefix += "cluster_"
		}
		for _, part := range strings.Split(string(source), ` desc("`)[1:] {
			name, _, _ := strings.Cut(part, `"`)
			if !strings.Contains(got, "\n"+prefix+name+"{") && !strings.Contains(got, "\n"+prefix+name+" ") {
				t.Errorf("%s of %s is not told", name, f)
			}
		}
	}
}

// However many tunnels there are, there are no more series: none is of a tunnel.
func TestMetricsAreNotOfTunnels(t *testing.T) {
	d, o := talkative()
	before := strings.Count(scrape(d, o), "\n")
	srv := serve(t, d, o)
	for i := range 50 {
		if code, _, data := ask(t, srv, "PUT", fmt.Sprintf("/v1/tunnels/site-%d", i), fmt.Sprintf(`{"service":"ipsec","endpoints":["203.0.113.%d"],"labels":{"l%d":"x"},"group":"g%d"}`, i, i, i)); code != 201 {
			t.Fatalf("%d %s", code, data)
		}
	}
	after := scrape(d, o)
	if n := strings.Count(after, "\n"); n != before || strings.Contains(after, "site-") || !strings.Contains(after, `tunnels{state="total"} 50`) {
		t.Errorf("%d lines without tunnels, %d with 50", before, n)
	}
}
