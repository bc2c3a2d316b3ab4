// Package fault keeps what went wrong lately between directors, for people to read: bounded, forgotten a minute after it was
// last seen, and logged once a minute at most, however often somebody sends garbage.
package fault

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// memory is how long a fault is shown after it was last seen; one that lasts is logged again after as long.
	memory = time.Minute
	// most faults at a time; who can make up sources must not fill the memory or the log.
	most = 64
)

// A note is one fault, seen once or often.
type note struct {
	text        string
	count       int
	first, last time.Time
	patience    time.Duration
	logged      time.Time
}

// A Book holds faults by key. Its methods may be called by many at a time, and never block.
type Book struct {
	log   *slog.Logger
	mu    sync.Mutex
	notes map[string]*note
	more  note // those that had no place
}

// New makes an empty book, whose faults are logged as warnings.
func New(log *slog.Logger) *Book { return &Book{log: log, notes: map[string]*note{}} }

// Add notes a fault, or that one of the same key is seen again. It is shown and logged when it has lasted for patience.
func (b *Book) Add(key, text string, patience time.Duration) {
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.notes[key]
	if n == nil || now.Sub(n.last) > memory {
		if n == nil && len(b.notes) >= most && !b.tidy(now) {
			n = &b.more
			text = "more faults than can be kept"
		} else {
			n = &note{}
			b.notes[key] = n
		}
	}
	if n.count == 0 || now.Sub(n.last) > memory {
		*n = note{first: now}
	}
	n.text, n.last, n.patience, n.count = text, now, patience, n.count+1
	if n.shown() && (n.logged.IsZero() || now.Sub(n.logged) > memory) {
		n.logged = now
		b.log.Warn("cluster fault", "fault", n.text, "times", n.count, "since", n.first)
	}
}

// Clear forgets a fault that is over.
func (b *Book) Clear(key string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.notes, key)
}

// List are the faults of the last minute as sentences, the oldest first. Each says when it was last seen: it may be over by now.
func (b *Book) List() []string {
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tidy(now)
	var notes []*note
	for _, n := range b.notes {
		notes = append(notes, n)
	}
	if b.more.count > 0 && now.Sub(b.more.last) <= memory {
		notes = append(notes, &b.more)
	}
	notes = slices.DeleteFunc(notes, func(n *note) bool { return !n.shown() })
	slices.SortFunc(notes, func(x, y *note) int {
		if c := x.first.Compare(y.first); c != 0 {
			return c
		}
		return strings.Compare(x.text, y.text)
	})
	var out []string
	for _, n := range notes {
		seen := "last seen at " + n.last.UTC().Format(time.RFC3339)
		if n.count > 1 {
			seen += fmt.Sprintf(", %d times since %s", n.count, n.first.UTC().Format(time.RFC3339))
		}
		out = append(out, n.text+" ("+seen+")")
	}
	return out
}

// tidy removes what has not been seen for long, and tells whether there is room now.
func (b *Book) tidy(now time.Time) bool {
	for key, n := range b.notes {
		if now.Sub(n.last) > memory {
			delete(b.notes, key)
		}
	}
	return len(b.notes) < most
}

// shown tells whether a fault has lasted long enough to be one.
func (n *note) shown() bool { return n.last.Sub(n.first) >= n.patience }
