package drill

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

const (
	// kept is how many results there are at most; the oldest go first.
	kept = 100
	// maxResult is the largest file of a result that is read.
	maxResult = 64 << 20
	ending    = ".json"
)

var idRE = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,63}-(\d{8}T\d{6}Z)$`)

// A Store keeps results in a directory, a file each. It needs no Close, and several programs may use one at a time.
type Store struct{ Dir string }

// A Summary is what a list says of a result.
type Summary struct {
	ID      string    `json:"id"`
	Drill   string    `json:"drill"`
	World   string    `json:"world"`
	Began   time.Time `json:"began"`
	Passed  bool      `json:"passed"`
	Aborted string    `json:"aborted,omitempty"`
	Outage  Outage    `json:"outage"`
	Sent    int       `json:"sent"`
	Lost    int       `json:"lost"`
}

// Summary is r in short.
func (r *Result) Summary() Summary {
	return Summary{ID: r.ID, Drill: r.Drill.Name, World: r.World, Began: r.Began, Passed: r.Passed, Aborted: r.Aborted, Outage: r.Outage, Sent: r.Sent, Lost: r.Lost}
}

// Save writes a result, whole or not at all, and deletes the oldest of too many.
func (s Store) Save(r *Result) error {
	if err := s.save(r); err != nil {
		return fmt.Errorf("keep result %s: %w", r.ID, err)
	}
	return nil
}

func (s Store) save(r *Result) error {
	if !idRE.MatchString(r.ID) {
		return fmt.Errorf("%q is no id of a result", r.ID)
	}
	data, err := r.MarshalJSON()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(s.Dir, ".result-*") // of mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already if all went well
	_, err = f.Write(append(data, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), s.path(r.ID)); err != nil {
		return err
	}
	return s.prune()
}

func (s Store) path(id string) string { return filepath.Join(s.Dir, id+ending) }

// ids are those of all results, the newest first. No directory is an empty one.
func (s Store) ids() ([]string, error) {
	entries, err := os.ReadDir(s.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var list []string
	for _, e := range entries {
		if id, ok := strings.CutSuffix(e.Name(), ending); ok && idRE.MatchString(id) {
			list = append(list, id)
		}
	}
	slices.SortFunc(list, func(a, b string) int { return strings.Compare(when(b)+b, when(a)+a) })
	return list, nil
}

// when is the time in an id; as text it sorts as the times do.
func when(id string) string { return idRE.FindStringSubmatch(id)[1] }

func (s Store) prune() error {
	list, err := s.ids()
	if err != nil || len(list) <= kept {
		return err
	}
	var errs []error
	for _, id := range list[kept:] {
		if err := os.Remove(s.path(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Load reads a result. The error wraps fs.ErrNotExist if there is none of this id.
func (s Store) Load(id string) (*Result, error) {
	if !idRE.MatchString(id) {
		return nil, fmt.Errorf("result %q: %w", id, fs.ErrNotExist)
	}
	f, err := os.Open(s.path(id))
	if err != nil {
		return nil, fmt.Errorf("read result %s: %w", id, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxResult))
	if err != nil {
		return nil, fmt.Errorf("read result %s: %w", id, err)
	}
	r := &Result{}
	if err := r.UnmarshalJSON(data); err != nil {
		return nil, fmt.Errorf("read result %s: %w", id, err)
	}
	if r.ID != id {
		return nil, fmt.Errorf("read result %s: the file holds %q", id, r.ID)
	}
	return r, nil
}

// List tells all results, the newest first. Those that cannot be read are left out, and are what the error tells: there may be both.
func (s Store) List() ([]Summary, error) {
	ids, err := s.ids()
	if err != nil {
		return nil, fmt.Errorf("list results: %w", err)
	}
	var list []Summary
	var errs []error
	for _, id := range ids {
		r, err := s.Load(id)
		switch {
		case errors.Is(err, fs.ErrNotExist): // deleted meanwhile
		case err != nil:
			errs = append(errs, err)
		default:
			list = append(list, r.Summary())
		}
	}
	return list, errors.Join(errs...)
}

// Last is the newest result of r's drill and world that is older than r; nil if there is none. What cannot be read is passed over.
func (s Store) Last(r *Result) (*Result, error) {
	ids, err := s.ids()
	if err != nil {
		return nil, fmt.Errorf("list results: %w", err)
	}
	for _, id := range ids {
		if !strings.HasPrefix(id, r.Drill.Name+"-2") || when(id) >= when(r.ID) {
			continue
		}
		if x, err := s.Load(id); err == nil && x.Drill.Name == r.Drill.Name && x.World == r.World {
			return x, nil
		}
	}
	return nil, nil
}
