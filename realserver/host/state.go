package host

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

const stateFormat = 1

// state is what was changed, in the order in which it was.
type state struct {
	Format  int               `json:"format"`
	Config  string            `json:"config,omitempty"` // digest of the one that was applied last, whole
	Lives   map[string]string `json:"lives"`            // of network namespaces
	Records []record          `json:"records"`
}

// A record is one thing that was changed, or was about to be.
type record struct {
	Space string   `json:"space"`
	Key   string   `json:"key"`
	Was   string   `json:"was"`  // "" is absent
	Made  []string `json:"made"` // all that it was ever to become
}

func loadState(path string) (*state, error) {
	s := &state{Format: stateFormat, Lives: map[string]string{}}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		err = json.Unmarshal(b, s)
	}
	if err == nil && s.Format != stateFormat {
		err = fmt.Errorf("format %d, want %d", s.Format, stateFormat)
	}
	if err != nil {
		return nil, fmt.Errorf("read what was on the host before: %s: %w", path, err)
	}
	if s.Lives == nil {
		s.Lives = map[string]string{}
	}
	return s, nil
}

// save is durable when it returns. There is no file where nothing was changed.
func (s *state) save(path string) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("save what was on the host before: %w", err)
		}
	}()
	if len(s.Records) == 0 {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	b, err := json.MarshalIndent(s, "", " ")
	if err != nil {
		return err
	}
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, filepath.Base(path)+".") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (s *state) find(space, key string) *record {
	for i := range s.Records {
		if r := &s.Records[i]; r.Space == space && r.Key == key {
			return r
		}
	}
	return nil
}

// note says that a thing is about to change.
func (s *state) note(space, key, was, made string) {
	r := s.find(space, key)
	if r == nil {
		s.Records = append(s.Records, record{Space: space, Key: key, Was: was})
		r = &s.Records[len(s.Records)-1]
	}
	if !slices.Contains(r.Made, made) {
		r.Made = append(r.Made, made)
	}
}

func (s *state) drop(space, key string) {
	s.Records = slices.DeleteFunc(s.Records, func(r record) bool { return r.Space == space && (key == "" || r.Key == key) })
}

// live forgets what is known of an earlier life of a namespace.
func (s *state) live(space, life string) {
	if old, ok := s.Lives[space]; ok && old != life {
		s.drop(space, "")
	}
	s.Lives[space] = life
}

// of are the records of a namespace, the newest first.
func (s *state) of(space string) (list []record) {
	for _, r := range slices.Backward(s.Records) {
		if r.Space == space {
			list = append(list, r)
		}
	}
	return list
}
