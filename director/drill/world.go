package drill

import (
	"context"
	"net/netip"
	"time"
)

// A World is where a drill takes place. Its methods may be called from several goroutines.
type World interface {
	// State is what there is now. It answers, with what it knows, also while directors are dead.
	State(ctx context.Context) (State, error)
	// Inject makes a fault; the error wraps ErrRefused if whoever was asked would not. Undoing what is undone already is no error. undo
	// comes with an error, too, if the fault may be there all the same: the answer was lost, or ctx ended meanwhile.
	Inject(ctx context.Context, f Fault) (undo func(context.Context) error, err error)
	// Probe begins to send packets through a tunnel, both ways, until Stop. ctx does not end before that.
	Probe(ctx context.Context, tunnel string, every time.Duration) (Probing, error)
	// Events are what directors recorded from a time on, in the order of time; By says which one.
	Events(ctx context.Context, since time.Time) ([]Event, error)
}

// A Fault is one that is made on purpose.
type Fault struct {
	ID     string        `json:"id"` // of this one, random
	Kind   Kind          `json:"kind"`
	Target string        `json:"target,omitempty"` // name of a real server or director
	For    time.Duration `json:"for,format:units"` // after which it is undone whatever happens
}

// A Probing is one tunnel's packets.
type Probing interface {
	// Silent is how long ago the last answer came; from the start of the probing if there was none.
	Silent() time.Duration
	// Stop ends it, waits a moment for what is on its way, and returns all packets in the order of sending.
	Stop() ([]Packet, error)
}

// A Packet is one round trip. Received is zero if no answer came.
type Packet struct {
	Sent, Received time.Time
}

// State is what there is at a moment.
type State struct {
	Directors   []Director
	RealServers []RealServer
	Tunnels     []Tunnel
	Unsettled   string // why it is not as in peace: a director not ready, tables that differ, a real server dead; "": it is
}

// A Director is one of the cluster.
type Director struct {
	Name    string
	Ready   bool // alive, and forwards
	Assigns bool
	Holds   []netip.Addr // VIPs
}

// A RealServer is one that directors know.
type RealServer struct {
	Name, Host string
	Alive      bool
	Tunnels    int    // pinned to it
	Capacity   int    // 0: as many as its load allows
	Closed     string // why it gets no new tunnels; "": it does
}

// A Tunnel is one that may be in the sample: something behind it answers.
type Tunnel struct {
	ID, Group          string
	RealServer, Backup string // "": unplaced
	Up                 bool
}

// An Event is what a director recorded.
type Event struct {
	Time                        time.Time
	By                          string // the director
	Kind, Object, From, To, Why string // as GET /v1/events has them
}
