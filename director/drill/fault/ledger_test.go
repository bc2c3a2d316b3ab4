package fault

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A machine is what trial effects befall.
type machine struct {
	t   *testing.T
	dir string

	mu      sync.Mutex
	faulty  map[string]bool // what is in place, by name
	history []string
	doErr   error
	undoErr error
	takes   time.Duration
}

// A trial is an effect on a machine.
type trial struct {
	On string `json:"on"`
	m  *machine
}

func (t *trial) Name() string { return "trial" }

func (t *trial) Do(ctx context.Context, id string, lasts time.Duration) error {
	if _, err := os.Stat(filepath.Join(t.m.dir, id+ending)); err != nil {
		t.m.t.Errorf("made before it is recorded: %v", err)
	}
	return t.m.change(ctx, "do "+t.On, func() error { t.m.faulty[t.On] = true; return t.m.doErr })
}

func (t *trial) Undo(ctx context.Context, id string) error {
	return t.m.change(ctx, "undo "+t.On, func() error {
		if t.m.undoErr == nil {
			delete(t.m.faulty, t.On)
		}
		return t.m.undoErr
	})
}

func (m *machine) change(ctx context.Context, what string, f func() error) error {
	m.mu.Lock()
	takes := m.takes
	m.mu.Unlock()
	select {
	case <-time.After(takes):
	case <-ctx.Done():
		return ctx.Err()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.history = append(m.history, what)
	return f()
}

func (m *machine) set(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
}

// did takes the history.
func (m *machine) did() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := strings.Join(m.history, ", ")
	m.history = nil
	return h
}

func (m *machine) fault(id, target string, d time.Duration) Fault {
	return Fault{ID: id, Kind: "host-loss", Target: target, By: "a test", For: d, Effect: &trial{target, m}}
}

func (m *machine) open() *Ledger {
	m.t.Helper()
	l, err := Open(context.Background(), m.dir, Effects{"trial": func() Effect { return &trial{m: m} }}, slog.New(slog.DiscardHandler))
	if err != nil {
		m.t.Fatal(err)
	}
	return l
}

// files are those of the records.
func (m *machine) files() string {
	list, err := os.ReadDir(m.dir)
	if err != nil {
		m.t.Fatal(err)
	}
	var out []string
	for _, f := range list {
		if f.Name() != "lock" {
			out = append(out, f.Name())
		}
	}
	return strings.Join(out, " ")
}

// inMachine runs a ledger in virtual time; it has to leave nothing.
func inMachine(t *testing.T, f func(m *machine, l *Ledger, stop func())) {
	synctest.Test(t, func(t *testing.T) {
		m := &machine{t: t, dir: filepath.Join(t.TempDir(), "faults"), faulty: map[string]bool{}}
		l := m.open()
		ctx, cancel := context.WithCancel(t.Context())
		over := make(chan error, 1)
		go func() { over <- l.Run(ctx) }()
		stop := sync.OnceFunc(func() {
			cancel()
			if err := errors.Join(<-over, l.Close()); err != nil {
				t.Error(err)
			}
		})
		f(m, l, stop)
		stop()
		if len(m.faulty) > 0 || m.files() != "" {
			t.Errorf("left: %v, records %q", m.faulty, m.files())
		}
	})
}

func (m *machine) want(what, did string) {
	m.t.Helper()
	synctest.Wait()
	if got := m.did(); got != did {
		m.t.Errorf("%s: did %q, want %q", what, got, did)
	}
}

func TestExpiry(t *testing.T) {
	inMachine(t, func(m *machine, l *Ledger, _ func()) {
		made := time.Now()
		if err := l.Inject(m.t.Context(), m.fault("a-1", "rs1", 1500*time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		m.want("made", "do rs1")
		want := []Standing{{ID: "a-1", Kind: "host-loss", Target: "rs1", By: "a test", Made: made.Round(0).UTC(), Until: made.Round(0).UTC().Add(1500 * time.Millisecond)}}
		synctest.Wait()
		if d := cmp.Diff(want, l.List()); d != "" {
			t.Error(d)
		}
		time.Sleep(1499 * time.Millisecond)
		m.want("before its time", "")
		time.Sleep(time.Millisecond)
		m.want("at its time", "undo rs1")
		if m.files() != "" || len(l.List()) > 0 {
			t.Errorf("left: %q, %v", m.files(), l.List())
		}
	})
}

func TestUndo(t *testing.T) {
	inMachine(t, func(m *machine, l *Ledger, _ func()) {
		for _, id := range []string{"a", "b"} {
			if err := l.Inject(m.t.Context(), m.fault(id, "rs"+id, time.Minute)); err != nil {
				t.Fatal(err)
			}
			if err := l.Inject(m.t.Context(), m.fault(id, "rs"+id, time.Minute)); err != nil {
				t.Errorf("the same again: %v", err)
			}
		}
		m.want("made", "do rsa, do rsb")
		for range 2 {
			if err := l.Undo(m.t.Context(), "a"); err != nil {
				t.Error(err)
			}
		}
		m.want("undone twice", "undo rsa")
		m.set(func() { m.undoErr = errors.New("no such device") })
		if err := l.Undo(m.t.Context(), "b"); err == nil || !strings.Contains(err.Error(), "undo fault b (host-loss of rsb): no such device") {
			t.Errorf("not undone: %v", err)
		}
		m.want("not undone", "undo rsb")
		if list := l.List(); len(list) != 1 || !strings.Contains(list[0].Error, "no such device") {
			t.Errorf("listed as %+v", list)
		}
		time.Sleep(3 * time.Second)
		m.want("in 3 s", "undo rsb, undo rsb, undo rsb")
		m.set(func() { m.undoErr = nil })
		time.Sleep(time.Second)
		m.want("it works again", "undo rsb")
		time.Sleep(time.Minute)
		m.want("later", "")
	})
}

// An order to undo may overtake the one to make: then nothing is made.
func TestUndoneBefore(t *testing.T) {
	inMachine(t, func(m *machine, l *Ledger, _ func()) {
		f := m.fault("a", "rs1", 10*time.Second)
		if err := l.Undo(m.t.Context(), "a"); err != nil {
			t.Error(err)
		}
		if err, may := l.Inject(m.t.Context(), f), l.May(m.t.Context(), f); !errors.Is(err, ErrRefused) || !errors.Is(may, ErrRefused) || !strings.Contains(err.Error(), "undone before") {
			t.Errorf("made after it was undone: %v, %v", err, may)
		}
		m.want("undone before", "")
		for i := range maxVoid - 1 {
			if err := l.Undo(m.t.Context(), fmt.Sprint("b", i)); err != nil {
				t.Fatal(err)
			}
		}
		if l.Undo(m.t.Context(), "c") == nil {
			t.Error("one more is undone, and may be made nevertheless")
		}
		time.Sleep(voidFor)
		if err := errors.Join(l.Undo(m.t.Context(), "c"), l.Inject(m.t.Context(), f)); err != nil {
			t.Errorf("a minute later: %v", err)
		}
		m.want("a minute later", "do rs1")
	})
}

// What cannot be made is undone, since half of it may be there.
func TestNotMade(t *testing.T) {
	inMachine(t, func(m *machine, l *Ledger, _ func()) {
		m.set(func() { m.doErr, m.undoErr = errors.New("half of it is made"), errors.New("busy") })
		if err := l.Inject(m.t.Context(), m.fault("a", "rs1", time.Minute)); err == nil || !strings.Contains(err.Error(), "half of it") || !strings.Contains(err.Error(), "busy") {
			t.Errorf("got %v", err)
		}
		if len(l.List()) != 1 {
			t.Error("what is not undone is not listed")
		}
		if err := l.Inject(m.t.Context(), m.fault("a", "rs1", time.Minute)); !errors.Is(err, ErrRefused) {
			t.Errorf("made while it is being undone: %v", err)
		}
		m.set(func() { m.undoErr = nil })
		time.Sleep(time.Second)
		m.want("made and undone", "do rs1, undo rs1, undo rs1")
		m.set(func() { m.takes = time.Hour })
		from := time.Now()
		if err := l.Inject(m.t.Context(), m.fault("a", "rs1", time.Minute)); !errors.Is(err, context.DeadlineExceeded) || time.Since(from) != 2*effectLimit {
			t.Errorf("one that hangs: %v after %v", err, time.Since(from))
		}
		m.set(func() { m.takes = 0 })
		time.Sleep(time.Second)
		m.want("of one that hung", "undo rs1")
	})
}

func TestRefused(t *testing.T) {
	inMachine(t, func(m *machine, l *Ledger, _ func()) {
		for name, f := range map[string]Fault{
			"no ID": m.fault("", "rs1", time.Second), "a path": m.fault("../a", "rs1", time.Second), "a long ID": m.fault(strings.Repeat("x", maxID+1), "rs1", time.Second),
			"no time": m.fault("a", "rs1", 0), "too long": m.fault("a", "rs1", MaxFor+1),
		} {
			if err, may := l.Inject(m.t.Context(), f), l.May(m.t.Context(), f); !errors.Is(err, ErrRefused) || !errors.Is(may, ErrRefused) {
				t.Errorf("%s: %v, %v", name, err, may)
			}
		}
		for i := range MaxFaults {
			if err := l.May(m.t.Context(), m.fault("x", fmt.Sprint("rs", i), time.Second)); err != nil {
				t.Errorf("it may not be made: %v", err)
			}
			if err := l.Inject(m.t.Context(), m.fault(fmt.Sprint(i), fmt.Sprint("rs", i), MaxFor)); err != nil {
				t.Error(err)
			}
			if err := l.Inject(m.t.Context(), m.fault("x", fmt.Sprint("rs", i), time.Second)); !errors.Is(err, ErrRefused) {
				t.Errorf("a second one of a target: %v", err)
			}
		}
		if err := l.May(m.t.Context(), m.fault("x", "another", time.Second)); !errors.Is(err, ErrRefused) {
			t.Errorf("too many may be made: %v", err)
		}
		if err := l.Inject(m.t.Context(), m.fault("x", "another", time.Second)); !errors.Is(err, ErrRefused) {
			t.Errorf("too many: %v", err)
		}
		m.did()
	})
}

// A fault that cannot be recorded is not made.
func TestNoRoom(t *testing.T) {
	inMachine(t, func(m *machine, l *Ledger, _ func()) {
		if err := os.Mkdir(filepath.Join(m.dir, "a"+unfinished), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := l.Inject(m.t.Context(), m.fault("a", "rs1", time.Second)); !errors.Is(err, ErrRefused) {
			t.Errorf("got %v", err)
		}
		m.want("not recorded", "")
		_ = os.Remove(filepath.Join(m.dir, "a"+unfinished)) // the ledger may have
	})
}

// Run's end undoes all, and nothing is made after it.
func TestEnd(t *testing.T) {
	inMachine(t, func(m *machine, l *Ledger, stop func()) {
		if err := l.Inject(m.t.Context(), m.fault("a", "rs1", time.Minute)); err != nil {
			t.Fatal(err)
		}
		m.set(func() { m.takes = time.Second })
		late := make(chan error)
		go func() { late <- l.Inject(m.t.Context(), m.fault("b", "rs2", time.Minute)) }()
		time.Sleep(time.Second / 2)
		stop()
		if err := <-late; err != nil && !errors.Is(err, errClosed) {
			t.Error(err)
		}
		if did := m.did(); !strings.HasPrefix(did, "do rs1, ") || !strings.Contains(did, "undo rs1") || !strings.HasSuffix(did, "undo rs2") {
			t.Errorf("did %q", did)
		}
		if err := l.Inject(m.t.Context(), m.fault("c", "rs3", time.Minute)); !errors.Is(err, errClosed) {
			t.Errorf("made after the end: %v", err)
		}
	})
}

func TestDue(t *testing.T) {
	now := time.Now()
	for _, tt := range []struct {
		name         string
		began, until time.Duration // from now
		due          bool
	}{
		{"lasts", -5 * time.Second, 5 * time.Second, false},
		{"over", -10 * time.Second, 0, true},
		{"the clock jumped back an hour", -10 * time.Second, time.Hour, true},
		{"the machine slept", -5 * time.Second, -time.Hour, true},
	} {
		e := &entry{began: now.Add(tt.began), record: record{Until: now.Add(tt.until).Round(0), Millis: 10_000}}
		if got := e.due(now); got != tt.due {
			t.Errorf("%s: %t", tt.name, got)
		}
	}
	if !(&entry{record: record{Until: now.Add(time.Hour), Millis: 1 << 40}}).due(now) {
		t.Error("one from before this run is not due")
	}
}
