package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	o := options{progress: os.Stderr}
	flag.StringVar(&o.director, "director", "bin/director", "the director's `program`")
	flag.BoolVar(&o.quick, "quick", false, "10,000 tunnels only, one round: shows that it works, not how fast")
	only := flag.String("only", "", "of control, plane, wire, cluster; separated by commas (default: all but cluster)")
	out := flag.String("out", "", "also write the rows as JSON to `FILE`")
	flag.Parse()
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "bench makes network namespaces and loads XDP programs, which takes root: sudo make bench")
		os.Exit(2)
	}
	o.only = strings.FieldsFunc(*only, func(r rune) bool { return r == ',' })
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeoutCause(ctx, longest, fmt.Errorf("not done after %s; -only measures a part", longest))
	defer cancel()
	rows, err := run(ctx, o)
	if len(rows) > 0 {
		err = errors.Join(err, printTable(os.Stdout, rows))
		if *out != "" {
			err = errors.Join(err, writeJSON(*out, rows))
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// longest is how long a run may take. What was measured until then is printed.
const longest = 15 * time.Minute

type options struct {
	director string
	quick    bool
	only     []string
	progress io.Writer
}

// million is the size that most targets are about.
const million = 1_000_000

// sizes are how many tunnels.
func (o options) sizes() []int {
	if o.quick {
		return []int{10_000}
	}
	return []int{10_000, 100_000, million}
}

// rounds are how often each thing is measured.
func (o options) rounds() int {
	if o.quick {
		return 1
	}
	return 3
}

// say tells what is being done.
func (o options) say(format string, a ...any) {
	fmt.Fprintf(o.progress, time.Now().Format("15:04:05 ")+format+"\n", a...)
}

// run measures all parts. The rows of those that succeeded are returned beside the errors of the others.
func run(ctx context.Context, o options) ([]Row, error) {
	began := time.Now()
	var rows []Row
	var errs []error
	for _, part := range []struct {
		name string
		run  func(context.Context, options) ([]Row, error)
	}{{"control", control}, {"plane", planeRows}, {"wire", wireRows}, {"cluster", clusters}} {
		if len(o.only) > 0 && !slices.Contains(o.only, part.name) || len(o.only) == 0 && part.name == "cluster" || ctx.Err() != nil {
			continue
		}
		r, err := part.run(ctx, o)
		rows = append(rows, r...)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", part.name, err))
		}
	}
	for _, r := range rows {
		if !r.finite() {
			errs = append(errs, fmt.Errorf("row %s has no finite figures: %+v", r.Name, r))
		}
	}
	o.say("done in %.0f s", time.Since(began).Seconds())
	return slices.DeleteFunc(rows, func(r Row) bool { return !r.finite() }), errors.Join(append(errs, context.Cause(ctx))...)
}
