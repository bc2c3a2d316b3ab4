package monitoring

import (
	"bytes"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"tunneldirector/integration/software"
	"tunneldirector/integration/spaces"
)

// told is /metrics of a director that has something to say of everything.
var told = filepath.Join("..", "..", "director", "api", "testdata", "metrics.txt")

// promtool runs Prometheus's own checker, out of Debian's package.
func promtool(t *testing.T, input []byte, args ...string) {
	t.Helper()
	paths, env, err := software.Unpack(t.Context(), filepath.Join("..", "..", "build", "vm"), slog.New(slog.DiscardHandler), []string{"prometheus"}, "usr/bin/promtool")
	if err != nil {
		spaces.Absent(t, "promtool: "+err.Error())
	}
	cmd := exec.CommandContext(t.Context(), paths[0], args...)
	cmd.Env, cmd.Stdin = env, bytes.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("promtool %q: %v\n%s", args, err, out)
	}
	t.Logf("%s", out)
}

// Names and units are as Prometheus wants them.
func TestMetricsConventions(t *testing.T) {
	text, err := os.ReadFile(told)
	if err != nil {
		t.Fatal(err)
	}
	promtool(t, text, "check", "metrics")
}

// The rules are right, and each fires when it should and only then.
func TestAlerts(t *testing.T) {
	promtool(t, nil, "check", "rules", "alerts.yaml")
	promtool(t, nil, "test", "rules", "alerts_test.yaml")
}
