package libreswan

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"sync"
	"time"

	"tunneldirector/realserver/terminator"
)

// Options say which pluto, and what of it is the real server's. The zero value is one at its usual place.
type Options struct {
	RunDir      string        // where pluto has its socket; "": DefaultRunDir
	Program     string        // whack; "": DefaultProgram
	Connections string        // only connections whose name matches (path.Match); "": all
	Timeout     time.Duration // how long whack may take; 0: DefaultTimeout
	Kernel      Kernel        // nil: nobody tells of changes, nor what lives without pluto
}

// A Kernel is what carries packets: a Driver of package xfrm.
type Kernel interface {
	terminator.DataPath
	terminator.Watcher
}

// Defaults of Options.
const (
	DefaultRunDir  = "/run/pluto"
	DefaultProgram = "/usr/libexec/ipsec/whack"
	DefaultTimeout = 2 * time.Second
)

// vain is how long what was asked for in vain is not asked for again.
const vain = 30 * time.Second

// A Driver is one pluto. It is a terminator.Terminator, Watcher, Worker and DataPath.
type Driver struct {
	o Options

	mu    sync.Mutex // guards what follows
	known map[part]life
	// By Child SA: what it is for, which does not change; the zero policy where it was asked for in vain.
	policies map[uint64]policy
	asked    time.Time
}

// A life is a tunnel over as many keys as it takes: while its IKE SA or its Child SA is the same, it is.
type life struct {
	ike, child uint64
	since      time.Time
	rx         uint64
	last       time.Time
}

var (
	_ terminator.Terminator = (*Driver)(nil)
	_ terminator.Watcher    = (*Driver)(nil)
	_ terminator.Worker     = (*Driver)(nil)
	_ terminator.DataPath   = (*Driver)(nil)
)

// New makes a driver and touches nothing.
func New(o Options) (*Driver, error) {
	if _, err := path.Match(o.Connections, ""); err != nil {
		return nil, fmt.Errorf("connections %q: %w", o.Connections, err)
	}
	o.RunDir, o.Program = cmp.Or(o.RunDir, DefaultRunDir), cmp.Or(o.Program, DefaultProgram)
	o.Timeout = cmp.Or(o.Timeout, DefaultTimeout)
	return &Driver{o: o}, nil
}

// Accept cannot be: pluto takes who dials as long as a connection is loaded.
func (d *Driver) Accept(context.Context, bool) error {
	return fmt.Errorf("pluto takes who dials as long as a connection is loaded: %w", terminator.ErrCannot)
}

// Carries counts the tunnels that the kernel would carry without pluto.
func (d *Driver) Carries(ctx context.Context) (int, error) {
	if d.o.Kernel == nil {
		return 0, fmt.Errorf("what the kernel carries is not known: %w", terminator.ErrCannot)
	}
	return d.o.Kernel.Carries(ctx)
}

// Watch tells of the changes that the kernel tells of; pluto does not tell.
func (d *Driver) Watch(ctx context.Context, changed chan<- struct{}) error {
	if d.o.Kernel == nil {
		<-ctx.Done()
		return nil
	}
	return d.o.Kernel.Watch(ctx, changed)
}
