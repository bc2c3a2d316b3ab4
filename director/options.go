package director

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"tunneldirector/affinity"
	"tunneldirector/director/api"
	"tunneldirector/director/observe"
	"tunneldirector/director/plane"
)

// A Store keeps the table on disk.
type Store interface {
	// Load calls f with every record in key order.
	Load(f func(affinity.Change) error) error
	// Commit is durable when it returns nil. An error that wraps ErrRefused means that nothing was written.
	Commit(changes []affinity.Change, revision uint64) error
	// Identity is the store's id and the revision of its last commit.
	Identity() (id string, revision uint64)
	// State tells whether it takes writes, and the disk's bytes.
	State() StoreState
}

// StoreState is what a Store says of its disk.
type StoreState struct {
	NotWritable string // why not, and the remedy; "" if it is
	Used, Free  uint64 // bytes
}

// A Host is the director's own machine, as far as the loop must know it.
type Host interface {
	// Local lists the machine's addresses, without these VIPs, and the prefixes that are connected to it.
	Local(vips []netip.Addr) (own []netip.Addr, connected []netip.Prefix, err error)
	// Hold makes VIPs local addresses behind a filter, and gateways, and shuts the covering prefixes.
	Hold(ctx context.Context, h Held) error
	// LinksUp is false while all links towards real servers are down, and for some seconds after any fell.
	LinksUp() bool
}

// Options are what a director is made of.
type Options struct {
	Name      string
	Version   string
	Plane     plane.Plane
	PlaneKind string
	// PlaneBy and PlaneWhy tell who chose the plane, and why.
	PlaneBy, PlaneWhy string
	// Supplant takes out what another plane has left in the kernel, once this one holds the table and the VIPs are held; was
	// tells that there was something. May be nil.
	Supplant func(context.Context) (was bool, err error)
	// PlaneDetail describes the plane's interfaces; may be nil.
	PlaneDetail func() []string
	// PlaneWarnings are sentences on what keeps the plane from forwarding as it should; may be nil.
	PlaneWarnings func() []string
	// NextHop tells by which neighbour an address of a real server is reached, by the kernel and by the wire; may be nil.
	NextHop func(realServer string, a netip.Addr) api.NextHop
	// Alarms are what else needs a person, in sentences; may be nil.
	Alarms                   func() []string
	Host                     Host
	Prober                   Prober        // nil: real servers count as alive
	Agents                   *observe.Book // what agents on real servers say; nil: there are none
	Peers                    Peers         // the other directors; nil: there are none, ever
	Rank                     int           // among them
	Expects                  bool          // others are configured
	HoldAll                  bool          // every director holds every VIP, silently
	PreemptAfter             time.Duration // a preferred holder of an address that has come back waits so long
	MaxEndpoints, MaxSubnets int           // of the plane's tables; 0: no limit
	Journal                  Journal       // keeps what happens; nil: nobody does
	Log                      *slog.Logger
	Now                      func() time.Time // nil: time.Now
}
