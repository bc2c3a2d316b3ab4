package badgerstore

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A fakeFS has as much room as the test says.
type fakeFS struct {
	free atomic.Int64
	bad  atomic.Bool
}

func (f *fakeFS) Free(string) (int64, error) {
	if f.bad.Load() {
		return 0, errors.New("statfs: input/output error")
	}
	return f.free.Load(), nil
}

// The ways of the drawing above type space.
func TestSpace(t *testing.T) {
	const mib = 1 << 20
	steps := []struct {
		name     string
		free     int64
		bad      bool
		writable bool // before the look
		ballast  bool // after the look
		says     string
	}{
		{"room", 300 * mib, false, true, true, ""},
		{"less than the margin", 127 * mib, false, false, true, "refuses writes"},
		{"the same again", 127 * mib, false, false, true, ""},
		{"enough again", 128 * mib, false, true, true, "takes writes again"},
		{"next to nothing", 31 * mib, false, false, false, "gives up its ballast"},
		{"what the ballast left is not for writes", 160 * mib, false, false, false, ""},
		{"enough for all of the reserve", 256 * mib, false, true, true, "takes writes again"},
		{"an unknown amount", 0, true, false, true, "cannot be read"},
		{"room after that", 300 * mib, false, true, true, ""},
	}
	fs := &fakeFS{}
	var said strings.Builder
	log := slog.New(slog.NewTextHandler(&said, nil))
	s := newSpace(Options{Dir: t.TempDir(), Reserve: 256 * mib, FS: fs})
	for _, st := range steps {
		fs.free.Store(st.free)
		fs.bad.Store(st.bad)
		said.Reset()
		if _, err := s.state(); (err == nil) != st.writable {
			t.Errorf("%s: state %v, want writable: %v", st.name, err, st.writable)
		}
		if err := s.admit(0); (err == nil) != st.writable {
			t.Errorf("%s: commit %v, want writable: %v", st.name, err, st.writable)
		}
		s.look(log)
		if _, err := os.Stat(s.path()); (err == nil) != st.ballast {
			t.Errorf("%s: ballast %v, want %v", st.name, err == nil, st.ballast)
		}
		if !strings.Contains(said.String(), st.says) || st.says == "" && said.Len() > 0 {
			t.Errorf("%s: logged %q, want %q", st.name, said.String(), st.says)
		}
	}
	fs.free.Store(128*mib + 3000)
	if err := s.admit(1000); err != nil {
		t.Errorf("a commit that just fits: %v", err)
	}
	if err := s.admit(1001); !errors.Is(err, ErrFull) {
		t.Errorf("a commit that just does not fit: %v", err)
	}
}

func TestFullCommitWritesNothing(t *testing.T) {
	fs := &fakeFS{}
	fs.free.Store(1 << 40)
	dir := t.TempDir()
	s, err := Open(t.Context(), Options{Dir: dir, FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	commit(t, s, 1, rec('t', "a", "x"))
	fs.free.Store(DefaultReserve/2 + 100)
	err = s.Commit([]Record{rec('t', "b", "x")}, 2)
	if !errors.Is(err, ErrFull) || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "128.0 MiB free") {
		t.Errorf("error %v", err)
	}
	if got, _ := loadAll(t, s); len(got) != 1 || s.Meta().Revision != 1 {
		t.Errorf("%d records, revision %d, want 1 and 1", len(got), s.Meta().Revision)
	}
	fs.free.Store(0)
	if st := s.State(); st.Writable || !errors.Is(st.Why, ErrFull) || st.Used == 0 {
		t.Errorf("state %+v", st)
	}
	if err := s.Close(); err != nil {
		t.Errorf("close on a full disk: %v", err)
	}
}

func TestOpenWithoutRoom(t *testing.T) {
	fs := &fakeFS{}
	dir := t.TempDir()
	_, err := Open(t.Context(), Options{Dir: dir, FS: fs})
	if !errors.Is(err, ErrFull) || !strings.Contains(err.Error(), dir) {
		t.Fatalf("error %v, want %v", err, ErrFull)
	}
	if l, err := os.ReadDir(dir); err != nil || len(l) != 0 {
		t.Errorf("left behind %v, error %v", l, err)
	}
	fs.free.Store(100 << 20) // enough to open, not to write
	s, err := Open(t.Context(), Options{Dir: dir, FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	if _, order := loadAll(t, s); !s.frugal || len(order) != 0 {
		t.Errorf("frugal %v, want no compaction; records %v", s.frugal, order)
	}
	if err := s.Commit(bulk(1), 4); !errors.Is(err, ErrFull) {
		t.Errorf("commit: %v, want %v", err, ErrFull)
	}
	if m := s.Meta(); m.Boot != 1 || len(m.ID) != 32 {
		t.Errorf("meta %+v", m)
	}
	id := s.Meta().ID
	fs.free.Store(1 << 40)
	commit(t, s, 5, bulk(3)...)
	if _, order := loadAll(t, s); s.frugal || len(order) != 3 {
		t.Errorf("with room again: frugal %v, records %v", s.frugal, order)
	}
	closeTest(t, s)
	if err := s.Load(func(Record) error { return nil }); !errors.Is(err, errClosed) {
		t.Errorf("load from a closed store: %v", err)
	}
	if err := s.Commit(nil, 6); !errors.Is(err, errClosed) {
		t.Errorf("commit to a closed store: %v", err)
	}
	s = openTest(t, dir)
	defer closeTest(t, s)
	if got, want := s.Meta(), (Meta{ID: id, Boot: 2, Format: Format, Revision: 5}); got != want {
		t.Errorf("meta %+v, want %+v", got, want)
	}
}

func TestRunWatches(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		fs := &fakeFS{}
		fs.free.Store(1 << 40)
		s := &Store{dir: dir, log: slog.New(slog.DiscardHandler), space: newSpace(Options{Dir: dir, Reserve: DefaultReserve, FS: fs})}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- s.Run(ctx) }()
		for _, free := range []int64{1 << 40, 0, 1 << 40} {
			fs.free.Store(free)
			time.Sleep(1500 * time.Millisecond) // virtual
			synctest.Wait()
			_, err := os.Stat(filepath.Join(dir, ballastFile))
			if (err == nil) != (free > 0) {
				t.Errorf("%d bytes free: ballast %v", free, err == nil)
			}
		}
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v, want nil when cancelled", err)
		}
	})
}
