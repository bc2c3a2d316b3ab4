package badgerstore

import (
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
// blocks that only badger's background work may use; without the ballast all of it is.
//
//	            free < margin + need             free < reserve/8
//	writable ───────────────────────▶ full ───────────────────────▶ full, ballast given up
//	    ▲                              │                                   │
//	    └── free >= margin + need ◀────┴───────── free >= reserve ─────────┘
type space struct {
	dir     string
	reserve int64
	fs      FS

	mu      sync.Mutex // guards what follows
	ballast bool
	why     error // of the last look; nil: writable
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
// table's successor in compaction.
func (s *space) admit(size int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.check(3 * size)
	return err
}

// check sees whether need bytes may be written, and remembers the answer for need 0.
func (s *space) check(need int64) (int64, error) {
	free, err := s.fs.Free(s.dir)
	if err != nil {
		return 0, err
	}
	s.why = s.full("write", free, s.margin())
	return free, s.full("write", free, s.margin()+need)
}

func (s *space) full(act string, free, need int64) error {
	if free >= need {
		return nil
	}
	return fmt.Errorf("%w of %s to %s: %.1f MiB free, %.1f MiB needed; remove other files there or enlarge it",
		ErrFull, s.dir, act, float64(free)/(1<<20), float64(need)/(1<<20))
}

// look reads the room, gives the ballast up or takes it back, and logs changes.
func (s *space) look(log *slog.Logger) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.why
	free, err := s.check(0)
	switch {
	case err == nil && !s.ballast:
		err = reserve(s.path(), s.reserve/2)
		if s.ballast = err == nil; err != nil {
			log.Warn("store has no ballast", "dir", s.dir, "error", err)
		}
	case err != nil && s.ballast && free < s.reserve/8:
		log.Warn("store gives up its ballast", "dir", s.dir, "free", free)
		s.drop()
	}
	switch {
	case before == nil && s.why != nil:
		log.Error("store refuses writes", "dir", s.dir, "error", s.why)
	case before != nil && s.why == nil:
		log.Info("store takes writes again", "dir", s.dir, "free", free)
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
