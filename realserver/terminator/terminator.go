// Package terminator is what the agent asks of tunnel software, one package for each below this one.
//
// A driver holds no state that is the agent's: which tunnels were ordered, in which order and how fast, is realserver's. It
// returns promptly: every call is bounded by its context, also against a socket that hangs or talks nonsense. A driver never
// changes the software's configuration files, and touches no tunnel that it was not asked about.
package terminator

import (
	"context"
	"errors"
	"net/netip"

	"tunneldirector/director/agent"
)

// A Terminator is one instance of tunnel software. Its methods may be called from any goroutine, one at a time each.
type Terminator interface {
	// Tunnels lists what is established now. An error means that the control process does not answer, whatever the reason. The list
	// is good until the next call, and nothing in it may be changed: with 10,000 tunnels it is what most memory would go to.
	Tunnels(ctx context.Context) ([]agent.Tunnel, error)
	// Adopt asks the site for the tunnel, from the VIP, and returns when it is under way; that it is established is seen by
	// Tunnels. A stale session of the same peer is cleared first. ErrWait: this terminator cannot begin.
	Adopt(ctx context.Context, t agent.Inherited) error
	// Release gives a tunnel up and tells the site, if the protocol can (IKE DELETE). One that is not there is no
	// error; that its peer is established, but not from where t says, is one.
	Release(ctx context.Context, t agent.Inherited) error
	// Accept says whether new tunnels are taken. ErrCannot if the software has no such switch: the directors' pins do then.
	Accept(ctx context.Context, on bool) error
}

// A Watcher is a Terminator that tells of changes. Watch sends to changed (never blocking) whenever something may have
// changed, and returns when ctx ends or the software is gone.
type Watcher interface {
	Watch(ctx context.Context, changed chan<- struct{}) error
}

// A DataPath is a Terminator whose established tunnels may outlive its control process.
type DataPath interface {
	// Carries counts the tunnels that the kernel would still carry.
	Carries(ctx context.Context) (int, error)
}

// A Worker is a Terminator whose load can be measured by what it works with.
type Worker interface {
	Work(ctx context.Context) (Work, error)
}

// Work is what a terminator runs on.
type Work struct {
	Processes []int            // pids; none for a terminator in the kernel
	Sockets   []netip.AddrPort // local UDP addresses that it receives on
	Devices   []string         // TUN or tunnel devices
	Threads   int              // how many cores it can use at once; 0: as many as there are
}

// ErrWait is wrapped by the error of Adopt where the terminator holds no credentials, or no way, to begin: the site has to dial.
var ErrWait = errors.New("the site has to dial")

// ErrCannot is wrapped by the error of what the software has no means for.
var ErrCannot = errors.New("the software cannot")

// ErrGone is wrapped by the error of a control socket that does not exist or refuses: the process is not there.
var ErrGone = errors.New("the control process is gone")
