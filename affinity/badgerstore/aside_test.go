package badgerstore

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestMoveAside(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	open := func() *Store {
		s, err := Open(t.Context(), Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := open()
	first := s.Meta().ID
	if err := s.Commit([]Record{{Kind: 't', Key: "a", Value: []byte("x")}}, 1); err != nil {
		t.Fatal(err)
	}
	if _, err := MoveAside(dir, time.Now()); err == nil {
		t.Error("a store in use was moved")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "peers.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	stays := []string{"journal", "faults", "lost+found"}
	for _, name := range stays {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	to, err := MoveAside(dir, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append(stays, ballastFile) {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Errorf("%s was moved, too: %v", name, err)
		}
		if _, err := os.Stat(filepath.Join(to, name)); err == nil {
			t.Errorf("what was moved has %s", name)
		}
	}
	s = open()
	if m := s.Meta(); m.ID == first || m.Boot != 1 || m.Revision != 0 {
		t.Errorf("the store in its place is %+v", m)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	dir = to
	s = open()
	if m := s.Meta(); m.ID != first || m.Revision != 1 {
		t.Errorf("what was moved is %+v", m)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
