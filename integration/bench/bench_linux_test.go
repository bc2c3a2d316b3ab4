package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tunneldirector/integration/spaces"
)

// TestBenchQuick: the quick run measures every row. How fast it was is not asked.
func TestBenchQuick(t *testing.T) {
	spaces.Root(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	director := filepath.Join(t.TempDir(), "director")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", director, "tunneldirector/cmd/director").CombinedOutput(); err != nil {
		t.Fatalf("build the director: %v\n%s", err, out)
	}
	rows, err := run(ctx, options{director: director, quick: true, progress: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, r := range rows {
		got[r.Name] = true
		if math.IsNaN(r.Ratio) || math.IsInf(r.Ratio, 0) || r.Value < 0 {
			t.Errorf("row %+v", r)
		}
	}
	for _, name := range []string{
		"batch", "memory after a batch", "memory after a batch, highest", "memory after a start", "kernel memory, pins", "kernel memory, subnets", "single push", "single push, p99",
		"64 clients", "start", "death, plane write", "death, latched on disk", "death, all groups mended", "plane/v4", "plane/v6",
		"plane/subnet4", "plane/real server dead", "wire/xdp", "wire/xdp of redirect", "wire/xdp reordered", "wire/xdp lost or astray",
	} {
		if !got[name+"/10000"] {
			t.Errorf("no row %s/10000", name)
		}
	}
	for _, r := range rows {
		if strings.HasPrefix(r.Name, "wire/xdp reordered") && r.Value != 0 {
			t.Errorf("%g packets reordered within a tunnel", r.Value)
		}
	}
	var table strings.Builder
	if err := printTable(&table, rows); err != nil || strings.Count(table.String(), "\n") != len(rows)+1 {
		t.Errorf("table of %d rows, error %v:\n%s", len(rows), err, table.String())
	}
}

func TestSamples(t *testing.T) {
	for _, c := range []struct {
		s              samples
		median, spread float64
	}{
		{samples{3}, 3, 0},
		{samples{9, 1, 5}, 5, 1.6},
		{samples{0, 0, 0}, 0, 0},
	} {
		if m, sp := c.s.median(), c.s.spread(); m != c.median || sp != c.spread {
			t.Errorf("%v: median %g, spread %g; want %g, %g", c.s, m, sp, c.median, c.spread)
		}
	}
	if got := (samples{1, 2}).plus(samples{10, 20, 30}); !cmp.Equal(got, samples{11, 22}) {
		t.Errorf("sum %v", got)
	}
}

func TestRows(t *testing.T) {
	r := over("a", "s", samples{6}, "b", samples{2}).ratioAtMost(3)
	if r.Ratio != 3 || r.Met == nil || !*r.Met || r.Floor == nil || r.Peer != nil || !r.finite() {
		t.Errorf("row %+v", r)
	}
	if r := against("a", "s", samples{6}, "b", nil); r.finite() {
		t.Errorf("a row against nothing counts as finite: %+v", r)
	}
	if r := against("a", "s", samples{0}, "b", samples{0}); r.Ratio != 1 {
		t.Errorf("nothing over nothing is %g", r.Ratio)
	}
	path := filepath.Join(t.TempDir(), "rows.json")
	if err := writeJSON(path, []Row{r}); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var back []Row
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Row{r}, back); diff != "" {
		t.Error(diff)
	}
}

func TestJournal(t *testing.T) {
	j := &journal{}
	fmt.Fprint(j, "level=INFO one\nlevel=ERROR real_server=rs1 plane")
	from := j.end()
	fmt.Fprint(j, "_us=12 x=1.5\n")
	l, err := j.find(from, "real_server=rs1")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]float64{"plane_us": 12, "x": 1.5} {
		if got, err := l.value(name); err != nil || got != want {
			t.Errorf("%s is %g, %v; want %g", name, got, err, want)
		}
	}
	if _, err := l.value("absent"); err == nil {
		t.Error("a value that is not there was read")
	}
	if _, err := j.find(0, "two"); err == nil {
		t.Error("a line that is not there was found")
	}
}

// TestTunnels: each of the load's tunnels has keys of its own, in the space that they are for.
func TestTunnels(t *testing.T) {
	lines, err := body(3)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"id":"site-0000002","service":"wireguard","endpoints":["10.0.0.2"],"subnets":["100.64.0.8/30"],"bandwidth_bps":2000000,"state":"down"}`
	if got := strings.Split(string(lines), "\n")[2]; got != want {
		t.Errorf("line %s\nwant %s", got, want)
	}
	last := tunnel(1_000_000 + extra)
	if last.Endpoints[0] != "10.15.144.96" || last.Subnets[0] != "100.126.65.128/30" {
		t.Errorf("last tunnel %+v", last)
	}
}
