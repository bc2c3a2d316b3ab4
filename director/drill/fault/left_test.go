package fault

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// What is recorded from before is undone by Open; what cannot be, by Run.
func TestLeft(t *testing.T) {
	inMachine(t, func(m *machine, _ *Ledger, stop func()) {
		stop()
		for _, id := range []string{"a", "b"} {
			r := record{Format: format, ID: id, Kind: "host-loss", Target: "rs" + id, Until: time.Now().Add(time.Hour), Millis: 1 << 40, Name: "trial", Effect: json.RawMessage(`{"on":"` + id + `"}`)}
			if err := (&Ledger{dir: m.dir}).write(&r); err != nil {
				t.Fatal(err)
			}
			m.faulty[id] = true
		}
		if err := os.WriteFile(filepath.Join(m.dir, "c"+unfinished), []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		recorded, err := Recorded(m.dir, Effects{"trial": func() Effect { return &trial{m: m} }})
		if err != nil || len(recorded) != 2 || recorded[1].ID != "b" || recorded[1].Error != "" || m.did() != "" {
			t.Errorf("recorded are %+v: %v", recorded, err)
		}
		if none, err := Recorded(m.dir+"/none", nil); err != nil || len(none) > 0 {
			t.Errorf("recorded nowhere are %+v: %v", none, err)
		}
		l := m.open()
		did := strings.Split(m.did(), ", ")
		slices.Sort(did)
		if !slices.Equal(did, []string{"undo a", "undo b"}) || len(l.List()) > 0 || m.files() != "" {
			t.Errorf("did %q, left %v, %q", did, l.List(), m.files())
		}
		if left := l.Left(); len(left) != 2 || left[0].ID != "a" || left[1].Target != "rsb" {
			t.Errorf("it says that it undid %+v", left)
		}
		if _, err := Open(m.t.Context(), m.dir, nil, slog.New(slog.DiscardHandler)); err == nil {
			t.Error("opened twice")
		}
		_ = l.Close()
	})
}

func TestLeftBusy(t *testing.T) {
	inMachine(t, func(m *machine, _ *Ledger, stop func()) {
		stop()
		r := record{Format: format, ID: "a", Kind: "host-loss", Target: "rsa", Name: "trial", Effect: json.RawMessage(`{"on":"a"}`)}
		if err := (&Ledger{dir: m.dir}).write(&r); err != nil {
			t.Fatal(err)
		}
		m.undoErr = errors.New("busy")
		l := m.open()
		if list := l.List(); len(list) != 1 || !strings.Contains(list[0].Error, "busy") || len(l.Left()) > 0 {
			t.Errorf("listed %+v", list)
		}
		ctx, cancel := context.WithCancel(m.t.Context())
		over := make(chan error)
		go func() { over <- l.Run(ctx) }()
		time.Sleep(1500 * time.Millisecond)
		m.set(func() { m.undoErr = nil })
		time.Sleep(time.Second)
		m.want("by Run", "undo a, undo a, undo a")
		cancel()
		if err := errors.Join(<-over, l.Close()); err != nil {
			t.Error(err)
		}
	})
}

// A record that nobody can read is told, and is in nobody's way.
func TestUnreadable(t *testing.T) {
	good := `{"format":1,"id":"x","kind":"host-loss","target":"rs1","effect":"trial","of":{}}`
	for name, text := range map[string]string{
		"empty": "", "half": good[:20], "format": strings.Replace(good, "1", "2", 1), "ID": strings.Replace(good, `"x"`, `"y"`, 1), "effect": strings.Replace(good, "trial", "flood", 1),
		"fields": strings.Replace(good, "{}", `{"on":1}`, 1),
	} {
		t.Run(name, func(t *testing.T) {
			inMachine(t, func(m *machine, _ *Ledger, stop func()) {
				stop()
				file := filepath.Join(m.dir, "x"+ending)
				if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				l := m.open()
				ctx, cancel := context.WithCancel(m.t.Context())
				over := make(chan error)
				go func() { over <- l.Run(ctx) }()
				if list := l.List(); len(list) != 1 || !strings.Contains(list[0].Error, file) {
					t.Errorf("listed %+v", list)
				}
				if err := l.Undo(m.t.Context(), "x"); err == nil || !strings.Contains(err.Error(), file) {
					t.Errorf("undone: %v", err)
				}
				if err := l.Inject(m.t.Context(), m.fault("y", "rs2", time.Second)); err != nil {
					t.Error(err)
				}
				from := time.Now()
				cancel()
				if err := errors.Join(<-over, l.Close(), os.Remove(file)); err != nil || time.Since(from) > 0 {
					t.Errorf("ended after %v: %v", time.Since(from), err)
				}
				m.want("all in all", "do rs2, undo rs2")
			})
		})
	}
}
