package api

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestClusterMetrics(t *testing.T) {
	rec := httptest.NewRecorder()
	metricsHandler(newClusterLab(), Options{Log: slog.New(slog.DiscardHandler)}).ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for _, want := range []string{
		`tunneldirector_cluster_director_up{peer="d3"} 0`,
		`tunneldirector_cluster_director_assigns{peer="d1"} 1`,
		`tunneldirector_cluster_lag_records{peer="d2"} 3`,
		`tunneldirector_cluster_heartbeat_age_seconds{path="10.0.0.2:7464",peer="d2"} 0.0125`,
		`tunneldirector_cluster_address_held{address="192.0.2.10",kind="vip"} 1`,
	} {
		if !strings.Contains(rec.Body.String(), want+"\n") {
			t.Errorf("no %s", want)
		}
	}
	if strings.Contains(rec.Body.String(), `lag_records{peer="d1"}`) {
		t.Error("a lag behind itself")
	}
}
