package fault

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// format is the version of a record.
const format = 1

// A record is a fault as it is kept on disk: a file named for its ID.
type record struct {
	Format int             `json:"format"`
	ID     string          `json:"id"`
	Kind   string          `json:"kind"`
	Target string          `json:"target"`
	By     string          `json:"by,omitempty"`
	Made   time.Time       `json:"made"`
	Until  time.Time       `json:"until"`  // by the wall clock,
	Millis int64           `json:"millis"` // and by time that goes by: whichever comes first
	Name   string          `json:"effect"`
	Effect json.RawMessage `json:"of"`
}

const ending, unfinished = ".json", ".new"

func (l *Ledger) file(id string) string { return filepath.Join(l.dir, id+ending) }

// write keeps a record; it is on the disk when write returns.
func (l *Ledger) write(r *record) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	name := filepath.Join(l.dir, r.ID+unfinished)
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(data, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(name, l.file(r.ID))
	}
	if err != nil {
		return errors.Join(err, os.Remove(name))
	}
	return l.sync()
}

// remove forgets a record. That it may come back after a power failure is well: undoing is idempotent.
func (l *Ledger) remove(id string) error {
	if err := os.Remove(l.file(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return l.sync()
}

// sync makes the names in the directory be on the disk.
func (l *Ledger) sync() error {
	d, err := os.Open(l.dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Recorded is what a directory has, also that of a daemon that lives; Error says that a record cannot be read. There is none if there is no
// directory. It changes nothing.
func Recorded(dir string, effects Effects) (out []Standing, _ error) {
	l := &Ledger{dir: dir, effects: effects}
	ids, err := l.ids(ending)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the ledger of faults: %w", err)
	}
	for _, id := range ids {
		out = append(out, l.load(id).standing())
	}
	return out, nil
}

// ids are those of the files with an ending.
func (l *Ledger) ids(with string) (out []string, _ error) {
	names, err := os.ReadDir(l.dir)
	for _, n := range names {
		if id, ok := strings.CutSuffix(n.Name(), with); ok {
			out = append(out, id)
		}
	}
	return out, err
}

// read reads what is recorded, and tidies up.
func (l *Ledger) read() (out []*entry, _ error) {
	begun, err := l.ids(unfinished)
	for _, id := range begun { // nothing was made of it
		err = errors.Join(err, os.Remove(filepath.Join(l.dir, id+unfinished)))
	}
	ids, more := l.ids(ending)
	if err := errors.Join(err, more); err != nil {
		return nil, err
	}
	for _, id := range ids {
		out = append(out, l.load(id))
	}
	return out, nil
}

// load reads a record. One that cannot be read is an entry with an error: there is something that nobody can undo.
func (l *Ledger) load(id string) *entry {
	e, err := l.parse(id)
	if err != nil {
		err = fmt.Errorf("read the record of a fault: %w; see what it left, undo that by hand and remove %s", err, l.file(id))
		return &entry{record: record{ID: id, Kind: "unreadable"}, broken: err, err: err}
	}
	return e
}

func (l *Ledger) parse(id string) (*entry, error) {
	data, err := os.ReadFile(l.file(id))
	if err != nil {
		return nil, err
	}
	e := &entry{}
	if err := json.Unmarshal(data, &e.record); err != nil {
		return nil, err
	}
	empty, known := l.effects[e.Name]
	switch {
	case e.Format != format:
		return nil, fmt.Errorf("it is of format %d, this program reads %d", e.Format, format)
	case e.ID != id:
		return nil, fmt.Errorf("it is of fault %q", e.ID)
	case !known:
		return nil, fmt.Errorf("%q is no effect that this program knows", e.Name)
	}
	e.effect = empty()
	return e, json.Unmarshal(e.Effect, e.effect)
}
