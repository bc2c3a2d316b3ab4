package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// A plan is what was asked for.
type plan struct {
	sites    int
	further  int
	director string
	out      string
	limit    time.Duration
}

const (
	exitBroken      = 1
	exitCannot      = 2
	exitInterrupted = 130
)

func main() { os.Exit(demo(os.Args[1:], os.Stdout, os.Stderr)) }

func demo(args []string, out, faults io.Writer) int {
	p, err := parse(args, faults)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(faults, "demo:", err)
		return exitCannot
	}
	// Nothing was touched up to here.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	r, err := run(ctx, p, out)
	if ctx.Err() != nil && err != nil {
		fmt.Fprintln(faults, "demo: interrupted; what it had built is removed")
		return exitInterrupted
	}
	if err != nil {
		r.fail("%v", err)
	}
	if err := r.write(p.out); err != nil {
		r.fail("%v", err)
	}
	r.print(out, p.out)
	if len(r.Failed) > 0 {
		return exitBroken
	}
	return 0
}

func parse(args []string, faults io.Writer) (plan, error) {
	var p plan
	f := flag.NewFlagSet("demo", flag.ContinueOnError)
	f.SetOutput(faults)
	f.IntVar(&p.sites, "sites", 12, "sites with a real WireGuard tunnel, 3 to 60")
	f.IntVar(&p.further, "further", 100_000, "tunnels to push besides, at most 131072")
	f.StringVar(&p.director, "director", "bin/director", "the program under test")
	f.StringVar(&p.out, "out", "build/demo.json", "where the results go; the director's log goes beside it")
	f.DurationVar(&p.limit, "limit", 90*time.Second, "how long it may take in all")
	if err := f.Parse(args); err != nil {
		return p, err
	}
	if f.NArg() > 0 || p.sites < 3 || p.sites > 60 || p.further < 0 || p.further > 131_072 {
		return p, errors.New("sites are 3 to 60, further tunnels at most 131072, and nothing follows the flags")
	}
	if os.Geteuid() != 0 {
		return p, errors.New("it needs root, for network namespaces, TUN devices and XDP: run `sudo make demo`. It works in namespaces " +
			"of its own and leaves nothing behind")
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		return p, fmt.Errorf("it needs TUN devices (load the module tun; in a container pass /dev/net/tun in): %w", err)
	}
	var err error
	if p.director, err = filepath.Abs(p.director); err != nil {
		return p, err
	}
	if _, err := os.Stat(p.director); err != nil {
		return p, fmt.Errorf("it needs the director's program (go build -o bin/director ./cmd/director, which `make demo` does): %w", err)
	}
	p.out, err = filepath.Abs(p.out)
	return p, err
}
