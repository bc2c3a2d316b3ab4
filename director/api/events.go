package api

import (
	"context"
	"errors"
	"time"
)

// A Journal keeps what happened on this director's disk. Its methods may be called from any goroutine.
type Journal interface {
	// Read finds what was kept. The error is ErrGone if what comes after a position is not kept any more.
	Read(ctx context.Context, q EventQuery) (EventList, error)
	// Changed gives a channel that is closed when more was written.
	Changed() <-chan struct{}
	// Stats counts since the start.
	Stats() JournalStats
}

// EventKinds are the kinds of a Recorded.
func EventKinds() []string {
	return []string{"tunnel-put", "tunnel-deleted", "placed", "moved", "unplaced", "contested", "real-server", "service", "freeze", "refused", "provisional", "held",
		"assigner", "director", "peer", "address", "clock", "plane", "fault", "blackbox", "alarm", "journal"}
}

// A Recorded is an event, or a sum of many of one kind, as it is on disk.
type Recorded struct {
	Position string     `json:"position,omitempty" doc:"its place on this director's disk, for before and after"`
	Time     time.Time  `json:"time"`
	Kind     string     `json:"kind" doc:"of changes of the table as in GET /v1/watch; refused: a change that was not made; provisional: a death that this director acts on and the assigner has not said, or took back; held: a verdict that is not acted on; assigner, director, peer, address, clock, plane: of the directors; fault: made on purpose, or undone; blackbox: packets recorded; alarm: raised or ended; journal: of these records"`
	Object   string     `json:"object" doc:"tunnel or group id, real server, service, director or address; empty in a sum"`
	From     string     `json:"from,omitempty" doc:"real server or director before"`
	To       string     `json:"to,omitempty" doc:"real server or director now"`
	Backup   string     `json:"backup,omitempty"`
	Why      string     `json:"why,omitempty"`
	By       string     `json:"by,omitempty" doc:"who asked"`
	Count    uint64     `json:"count,omitempty" doc:"of a sum: how many events it stands for"`
	First    string     `json:"first,omitempty" doc:"of a sum: object of the first"`
	Last     string     `json:"last,omitempty" doc:"of a sum: object of the last"`
	Until    *time.Time `json:"until,omitempty" doc:"of a sum: time of the last"`
}

// An EventQuery says what to read. Zero values do not narrow it.
type EventQuery struct {
	Since, Until time.Time
	Kinds        []string
	Object       string // also what was moved from or to, or is the backup
	By           string
	After        string // position: the oldest after it; else the newest
	Before       string // position: only what was written before it
	Limit        int    // above 0
}

// An EventList is in the order of writing.
type EventList struct {
	Events     []Recorded
	End        string // position of the last line that was read, to read on after
	More       bool   // there are more: newer ones if the query said After, else older ones
	Unreadable int    // lines, above all one that a crash has torn
}

// ErrBadPosition is wrapped by the error of a Journal for what is no position.
var ErrBadPosition = errors.New("no position")

// JournalStats are of this run of the daemon.
type JournalStats struct {
	Events      map[string]uint64 // by kind
	Moves       map[string]uint64 // groups that changed their real server, by cause
	Provisional uint64            // deaths that were acted on before the assigner said so
	Lost        uint64            // events that are not on disk, because it failed or was too slow
	Size        uint64            // bytes on disk
	Writable    bool
}
