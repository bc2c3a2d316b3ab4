package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/tools/benchmark/parse"
)

const planePackage = "tunneldirector/director/plane/xdp"

// planeRows runs the benchmarks of the plane, which measure one packet through the program, by BPF_PROG_TEST_RUN.
func planeRows(ctx context.Context, o options) ([]Row, error) {
	dir, err := os.MkdirTemp("", "bench-plane-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "xdp.test")
	o.say("plane: building its benchmarks")
	if out, err := exec.CommandContext(ctx, "go", "test", "-c", "-o", program, planePackage).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the plane's benchmarks: %w: %s", err, out)
	}
	got := planeFigures{}
	for i := range o.rounds() {
		for _, n := range o.sizes() {
			o.say("plane: %d pins, round %d of %d", n, i+1, o.rounds())
			if err := got.add(ctx, program, n); err != nil {
				return nil, err
			}
		}
	}
	return got.rows(o.sizes())
}

// planeFigures are ns an operation, by "Forward/v4", and size.
type planeFigures map[string]map[int]samples

// add runs all benchmarks of one size once.
func (f planeFigures) add(ctx context.Context, program string, n int) error {
	c := exec.CommandContext(ctx, program, "-test.run", "^$", "-test.benchtime", "500000x", "-test.bench", fmt.Sprintf("^Benchmark(Forward|Floor)$/^.*$/^%d$", n))
	var faults bytes.Buffer
	c.Dir, c.Stderr = filepath.Dir(program), &faults
	out, err := c.Output()
	if err == nil {
		c = exec.CommandContext(ctx, program, "-test.run", "^$", "-test.benchtime", "100000x", "-test.bench", fmt.Sprintf("^BenchmarkSetAlive$/^%d$", n))
		c.Dir, c.Stderr = filepath.Dir(program), &faults
		var more []byte
		more, err = c.Output()
		out = append(out, more...)
	}
	if err != nil {
		return fmt.Errorf("run the plane's benchmarks: %w: %s%s", err, out, faults.Bytes())
	}
	for sc := bufio.NewScanner(bytes.NewReader(out)); sc.Scan(); {
		b, err := parse.ParseLine(sc.Text())
		if err != nil || b.Measured&parse.NsPerOp == 0 {
			continue // not a result
		}
		name, _, _ := strings.Cut(strings.TrimPrefix(b.Name, "Benchmark"), "-") // -GOMAXPROCS
		i := strings.LastIndexByte(name, '/')
		size, err := strconv.Atoi(name[i+1:])
		if err != nil {
			continue
		}
		if f[name[:i]] == nil {
			f[name[:i]] = map[int]samples{}
		}
		f[name[:i]][size] = append(f[name[:i]][size], b.NsPerOp)
	}
	return nil
}

// What each side of the plane may cost against one random line read, by the part of the benchmark's name.
var planeTargets = map[string]float64{"v4": 1.4, "v6": 1.6, "subnet4": 2.0, "subnet6": 3.5}

// planeSides are in the order of the table.
var planeSides = []string{"v4", "v6", "subnet4", "subnet6", "ipip"}

func (f planeFigures) rows(sizes []int) ([]Row, error) {
	var rows []Row
	for _, n := range sizes {
		line, swap := f["Floor/line"][n], f["Floor/swap"][n]
		if line == nil || swap == nil || f["Forward/v4"][n] == nil {
			return nil, fmt.Errorf("the plane's benchmarks gave no figures for %d pins: %v", n, f)
		}
		for _, side := range planeSides {
			s := f["Forward/"+side][n]
			if s == nil {
				continue // not measured there
			}
			r := over(fmt.Sprintf("plane/%s/%d", side, n), "ns/packet", s, "one random line read", line)
			if most, ok := planeTargets[side]; ok && n == million {
				r = r.ratioAtMost(most)
			}
			rows = append(rows, r)
		}
		rows = append(rows, over(fmt.Sprintf("plane/v4 of swap/%d", n), "ns/packet", f["Forward/v4"][n], "swap MAC addresses", swap))
		few := sizes[0]
		dead := against(fmt.Sprintf("plane/real server dead/%d", n), "ns", f["SetAlive"][n], fmt.Sprintf("at %d pins", few), f["SetAlive"][few])
		rows = append(rows, dead.ratioAtMost(flat))
	}
	return rows, nil
}
