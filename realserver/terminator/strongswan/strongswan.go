package strongswan

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"sync"
	"time"

	"tunneldirector/realserver/terminator"
)

// Options say which charon, and what of it is the real server's. The zero value is a charon at its usual place.
type Options struct {
	Socket      string              // of VICI; "": DefaultSocket
	Connections string              // only IKE SAs of connections whose name matches (path.Match); "": all
	Timeout     time.Duration       // how long charon may be silent while it is asked; 0: DefaultTimeout
	Refresh     time.Duration       // how old a list may be of which no event says that it changed; 0: DefaultRefresh
	Kernel      terminator.DataPath // what carries packets when charon is dead; nil: nothing does (kernel-libipsec)

	// What charon does not tell of a connection and a copy of it has to be given: proposals in swanctl.conf's words, best as they are
	// there, by default whatever is not weak; and further settings of its CHILD_SAs, such as if_id_in, mark_out or updown.
	Proposals    []string
	ESPProposals []string
	Child        map[string]string
}

// Defaults of Options.
const (
	DefaultSocket  = "/run/charon.vici"
	DefaultTimeout = 2 * time.Second
	DefaultRefresh = 30 * time.Second
)

// A Driver is one charon. It is a terminator.Terminator, Watcher, Worker and DataPath.
type Driver struct {
	o    Options
	turn chan struct{} // taken by who looks

	mu    sync.Mutex // guards what follows
	last  look
	sites map[string]*site // by name
	round uint64           // of looks
	dirty bool             // an event came since the last look began
	heard bool             // events are heard at all
	tried map[string]time.Time
	held  map[string]bool // copies in use
	tidy  bool            // no other copy is loaded
}

var (
	_ terminator.Terminator = (*Driver)(nil)
	_ terminator.Watcher    = (*Driver)(nil)
	_ terminator.Worker     = (*Driver)(nil)
	_ terminator.DataPath   = (*Driver)(nil)
)

// New makes a driver. It connects to nothing; what can be said about options is said.
func New(o Options) (*Driver, error) {
	if _, err := path.Match(o.Connections, ""); err != nil {
		return nil, fmt.Errorf("connections %q: %w", o.Connections, err)
	}
	o.Socket = cmp.Or(o.Socket, DefaultSocket)
	o.Timeout = cmp.Or(o.Timeout, DefaultTimeout)
	o.Refresh = cmp.Or(o.Refresh, DefaultRefresh)
	if len(o.Proposals) == 0 {
		o.Proposals = []string{"default"}
	}
	if len(o.ESPProposals) == 0 {
		o.ESPProposals = anyESP
	}
	return &Driver{o: o, turn: make(chan struct{}, 1), sites: map[string]*site{}, tried: map[string]time.Time{}, held: map[string]bool{}}, nil
}

// Accept cannot be: charon has no switch for a connection, and one unloaded would be missing from the configuration.
func (d *Driver) Accept(context.Context, bool) error {
	return fmt.Errorf("charon takes who dials as long as a connection is loaded: %w", terminator.ErrCannot)
}

// Carries counts the tunnels that the kernel would carry without charon.
func (d *Driver) Carries(ctx context.Context) (int, error) {
	if d.o.Kernel == nil {
		return 0, nil
	}
	return d.o.Kernel.Carries(ctx)
}
