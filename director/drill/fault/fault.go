package fault

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Bounds of what a Ledger takes.
const (
	MaxFor    = 10 * time.Minute // of one fault
	MaxFaults = 8                // at once
	maxID     = 64               // bytes of an ID
)

// ErrRefused is wrapped by the error of Inject if nothing was made, since it may not be.
var ErrRefused = errors.New("refused")

// A Fault is one that is to be made.
type Fault struct {
	ID     string // letters, digits and dashes
	Kind   string // a drill's
	Target string // what it befalls
	By     string // who asked
	For    time.Duration
	Effect Effect
}

// An Effect is what a fault does to the machine. Both methods are idempotent, end when ctx does, and need nothing but what is in the
// exported fields, which are kept as JSON, and the fault's ID.
type Effect interface {
	// Name is that of this kind of effect: see Effects.
	Name() string
	// Do makes it. What can end by itself after a time does so.
	Do(ctx context.Context, id string, lasts time.Duration) error
	// Undo takes it back, also if Do failed half way, or was never called. What is not there any more is undone.
	Undo(ctx context.Context, id string) error
}

// Effects make an empty Effect to read a record into, by name.
type Effects map[string]func() Effect

// Known are the effects of this package.
func Known() Effects {
	return Effects{
		"cut":     func() Effect { return new(Cut) },
		"stopped": func() Effect { return new(Stopped) },
		"killed":  func() Effect { return new(Killed) },
		"ballast": func() Effect { return new(Ballast) },
	}
}

// A Standing is a fault that is recorded.
type Standing struct {
	ID     string    `json:"id"`
	Kind   string    `json:"kind"`
	Target string    `json:"target"`
	By     string    `json:"by,omitempty"`
	Made   time.Time `json:"made"`
	Until  time.Time `json:"until"`           // when it is undone by itself
	Error  string    `json:"error,omitempty"` // why it could not be undone yet; it is tried again every second
}

// check says why a fault cannot be taken at all.
func (f *Fault) check() error {
	odd := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-'
	}
	switch {
	case f.ID == "" || len(f.ID) > maxID || strings.ContainsFunc(f.ID, odd):
		return fmt.Errorf("%w: %q is no ID of a fault: 1 to %d letters, digits and dashes", ErrRefused, f.ID, maxID)
	case f.For <= 0 || f.For > MaxFor:
		return fmt.Errorf("%w: fault %s for %v: it lasts more than nothing and at most %v", ErrRefused, f.ID, f.For, MaxFor)
	}
	return nil
}
