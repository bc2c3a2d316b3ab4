package badgerstore

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
)

// An FS tells how much room there is.
type FS interface {
	// Free is how many bytes may still be written to the file system of dir.
	Free(dir string) (int64, error)
}

// A space watches the room on the file system. Half of the reserve is the ballast file, the other half is free
// blocks for what is in badger's write buffers; without the ballast all of it is. Beside that, all tables must fit a
// second time: badger removes what it compacts only once the outcome is written.
//
//	            free < margin + tables + need    free < reserve/8
//	writable ───────────────────────▶ full ───────────────────────▶ full, ballast given up
//	    ▲                              │                                   │
//	    └── free >= the same ◀─────────┴───── free >= reserve + tables ────┘
type space struct {
	dir     string
	reserve int64
	fs      FS

	mu       sync.Mutex // guards what follows
	tables   func() int64
	ballast  bool
	unable   bool // the file system cannot allocate a ballast
	refusing bool // as of the last look; for the log
}

func newSpace(o Options) *space {
	s := &space{dir: o.Dir, reserve: o.Reserve, fs: o.FS}
	_, err := os.Stat(s.path())
	s.ballast = err == nil
	return s
}

func (s *space) path() string { return filepath.Join(s.dir, ballastFile) }

// margin is how many free bytes a write must leave.
func (s *space) margin() int64 {
	if s.ballast {
		return s.reserve / 2
	}
	return s.reserve
}

// admit refuses a commit of size bytes in the log unless there is room for it: in the log, as a table, and as that
// table's successor in compaction; and for a compaction of all that there is.
func (s *space) admit(size int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.check(3 * size)
	return err
}

// check sees whether need bytes may be written.
func (s *space) check(need int64) (int64, error) {
	free, err := s.fs.Free(s.dir)
	if err != nil {
		return 0, err
	}
	need += s.margin()
	var under int64 // what compactions under way have written already
	if s.tables != nil {
		now := s.tables()
		if need += now; free < need {
			under = max(0, sumBlocks(s.dir, ".sst")-now)
		}
	}
	return free, s.full("write", free, need-under)
}

// setTables tells s how to learn what compaction may write at once.
func (s *space) setTables(f func() int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tables = f
}

// tight tells whether there is not room for need bytes of background work.
func (s *space) tight(need int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.check(need)
	return err != nil
}

func (s *space) full(act string, free, need int64) error {
	if free >= need {
		return nil
	}
	return fmt.Errorf("%w on the file system of %s to %s: %.1f MiB free, %.1f MiB needed; remove other files there or enlarge it",
		ErrFull, s.dir, act, float64(free)/(1<<20), float64(need)/(1<<20))
}

// look reads the room, gives the ballast up or takes it back, and logs changes.
func (s *space) look(log *slog.Logger) {
	s.mu.Lock()
	defer s.mu.Unlock()
	free, err := s.check(0)
	if err != nil && !errors.Is(err, ErrFull) {
		log.Warn("store's free space cannot be read", "dir", s.dir, "error", err)
		return
	}
	switch {
	case err == nil && s.refusing:
		log.Info("store takes writes again", "dir", s.dir, "free", free)
	case err != nil && !s.refusing:
		log.Error("store refuses writes", "dir", s.dir, "error", err)
	}
	s.refusing = err != nil
	switch {
	case s.refusing && s.ballast && free < s.reserve/8:
		log.Warn("store gives up its ballast", "dir", s.dir, "free", free)
		s.drop()
	case !s.refusing && !s.ballast && !s.unable:
		err := reserve(s.path(), s.reserve/2)
		s.ballast, s.unable = err == nil, err != nil
		if err != nil {
			log.Warn("store goes without ballast", "dir", s.dir, "error", err)
		}
	}
}

// makeRoom sees that need bytes are free, by the ballast if it must be.
func (s *space) makeRoom(act string, need int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	free, err := s.fs.Free(s.dir)
	if err != nil {
		return err
	}
	if free < need && s.ballast {
		s.drop()
		if free, err = s.fs.Free(s.dir); err != nil {
			return err
		}
	}
	return s.full(act, free, need)
}

// drop gives the ballast up. Some file systems free blocks only once the removal is on the disk.
func (s *space) drop() {
	if os.Remove(s.path()) == nil {
		_ = syncPath(s.dir) // what counts is the room found afterwards
	}
	s.ballast = false
}

func (s *space) state() (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.check(0)
}
