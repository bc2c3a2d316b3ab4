package drills

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"tunneldirector/director/drill"
	"tunneldirector/integration/daemon"
	"tunneldirector/integration/lab"
)

const (
	// preempt is how long a director that comes back waits before it takes its addresses: by default a drill would last minutes.
	preempt = time.Second
	// quiet is how many tunnels are known that no site brings up: a table in which all are up would not be emptied by anything.
	quiet = 8
	// opening is how long all may take until it is settled.
	opening = 2 * time.Minute
)

// A World is a lab in which drills run.
type World struct {
	o         Options
	lab       *lab.Lab
	authority *daemon.Authority
	directors []*director
	agents    []*daemon.Agent
	release   []func() error // what is not the lab's, the newest last

	mu     sync.Mutex // guards what follows
	faults []*fault
	closed bool
}

var _ drill.World = (*World)(nil)

// A director is a daemon, and the file system of its table.
type director struct {
	*daemon.Daemon
	disk disk

	mu sync.Mutex // held by who starts, stops or signals it
}

// Open builds the lab, starts all programs, and waits until every tunnel is up and all is settled. It needs root.
func Open(ctx context.Context, o Options) (_ *World, err error) {
	w := &World{o: o}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.Close())
		}
	}()
	if err := w.o.complete(); err != nil {
		return nil, err
	}
	if o.Dir == "" {
		if w.o.Dir, err = os.MkdirTemp("", "drills-"); err != nil {
			return nil, fmt.Errorf("make a directory for the lab: %w", err)
		}
		w.release = append(w.release, func() error { return os.RemoveAll(w.o.Dir) })
	}
	if w.authority, err = daemon.NewAuthority(w.o.Dir); err != nil {
		return nil, fmt.Errorf("make an authority for the lab: %w", err)
	}
	if w.lab, err = lab.New(context.WithoutCancel(ctx), lab.Options{
		Directors: w.o.Directors, Sites: w.o.Sites, SiteNamespaces: 2, RealServers: w.o.RealServers, IPv6: true,
		Prepare: w.prepare, Logger: w.o.Logger,
	}); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, opening)
	defer cancel()
	for _, step := range []func(context.Context) error{w.startDirectors, w.startTunnels, w.settle} {
		if err := step(ctx); err != nil {
			return nil, fmt.Errorf("start the lab: %w", err)
		}
	}
	return w, nil
}

func (o *Options) complete() error {
	o.Directors, o.Sites, o.RealServers = cmp.Or(o.Directors, 3), cmp.Or(o.Sites, 8), cmp.Or(o.RealServers, 4)
	if o.Log == nil {
		o.Log = io.Discard
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Directors < 2 || o.RealServers < 2 {
		return fmt.Errorf("build a lab of %d directors and %d real servers: drills take two of each at least", o.Directors, o.RealServers)
	}
	for what, path := range map[string]string{"director": o.Director, "realserver": o.RealServer} {
		if _, err := os.Stat(path); err != nil {
			return fmt.Errorf("find the program %s: %w", what, err)
		}
	}
	return nil
}

// settle waits until all is as it is to be.
func (w *World) settle(ctx context.Context) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		st, err := w.State(ctx)
		if err == nil && st.Unsettled == "" {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err, errors.New(st.Unsettled))
		}
	}
}

// Close undoes all faults, and ends and removes all. It is idempotent.
func (w *World) Close() error {
	errs := []error{w.undoAll()}
	if w.lab != nil {
		errs = append(errs, w.lab.Close())
	}
	for len(w.release) > 0 {
		last := len(w.release) - 1
		errs = append(errs, w.release[last]())
		w.release = w.release[:last]
	}
	return errors.Join(errs...)
}
