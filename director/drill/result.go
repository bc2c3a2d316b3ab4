package drill

import (
	"errors"
	"time"
)

// ErrRefused is wrapped by what Inject returns if a fault was refused by whoever would have carried it out.
var ErrRefused = errors.New("refused")

// A Result is what a drill came to.
type Result struct {
	ID    string    `json:"id"` // drill's name and time of begin: terminator-crash-20260102T030405Z
	Drill Drill     `json:"drill"`
	World string    `json:"world"` // live or lab
	Began time.Time `json:"began"`
	Ended time.Time `json:"ended"`

	Passed   bool      `json:"passed"`
	Aborted  string    `json:"aborted,omitempty"` // why it was given up
	Failures []Failure `json:"failures"`          // expectations that did not hold, faults that could not be undone; empty if Passed

	Faults   []Injected `json:"faults"`
	Outage   Outage     `json:"outage"` // over the tunnels
	Sent     int        `json:"sent"`   // packets
	Lost     int        `json:"lost"`
	Moved    int        `json:"moved"`
	Wrongly  int        `json:"wrongly_moved"` // not from a real server that a fault befell, or not to its backup
	Tunnels  []Outcome  `json:"tunnels"`       // by name
	Phases   Phases     `json:"phases"`
	TimeLine []Mark     `json:"time_line"`
}

// A Failure is one expectation that did not hold.
type Failure struct {
	What   string     `json:"what"`             // with the bound and the value
	Tunnel string     `json:"tunnel,omitempty"` // the worst one, if it is about tunnels
	At     *time.Time `json:"at,omitempty"`     // since when
}

// Injected is a fault that was made.
type Injected struct {
	Fault
	At     time.Time  `json:"at"`
	Undone *time.Time `json:"undone,omitempty"`
	Error  string     `json:"error,omitempty"` // of making or undoing it
}

// An Outcome is what became of one tunnel of the sample.
type Outcome struct {
	Name   string        `json:"name"`
	Outage time.Duration `json:"outage,format:units"` // its longest
	At     time.Time     `json:"at,omitzero"`         // when that began
	Sent   int           `json:"sent"`
	Lost   int           `json:"lost"`
	From   string        `json:"from"` // real server before
	To     string        `json:"to"`   // and after
	Moved  bool          `json:"moved"`
	Wrong  bool          `json:"wrongly_moved,omitzero"`
}

// Phases are times after the first fault. One that did not come is absent: its value is negative.
type Phases struct {
	Detected      time.Duration `json:"detected,format:units"`      // a director recorded that something is dead, gone or drained
	Decided       time.Duration `json:"decided,format:units"`       // the first group was moved, or address taken over
	DataPlane     time.Duration `json:"data_plane,format:units"`    // the first packet of a tunnel that had been cut came back
	Reestablished time.Duration `json:"reestablished,format:units"` // the last tunnel that had been cut answered again
}

// A Mark is one line of the time line.
type Mark struct {
	After time.Duration `json:"after,format:units"` // the first fault; negative: before it
	By    string        `json:"by,omitempty"`       // the director that recorded it; "": the drill
	What  string        `json:"what"`
}
