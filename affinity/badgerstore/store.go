package badgerstore

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/badger/v4"

	"tunneldirector/affinity"
)

// DefaultReserve is the smallest reserve, too, in bytes: half of it must hold what badger's write buffers become.
const DefaultReserve = 256 << 20

// Options say where and how a Store is kept.
type Options struct {
	Dir     string       // made if it is not there
	Reserve int64        // bytes of the file system that writes leave free, beside room for a compaction; 0: DefaultReserve, the least
	Logger  *slog.Logger // nil: none
	FS      FS           // nil: the real one
}

// A Record is one record as it is kept.
type Record struct {
	Kind        affinity.Kind
	Key         string
	Value       []byte        // nil deletes the record outright
	ExpireAfter time.Duration // above 0: the record vanishes that long after it was written (to the second); for tombstones
}

// Meta says which store this is.
type Meta struct {
	ID       string // random, given when the store was made
	Boot     uint64 // how many times it was opened; 1 is the first
	Format   int    // of the store
	Revision uint64 // as of the last Commit
}

// A Store is an open directory of records.
type Store struct {
	dir      string
	lock     *dirLock
	space    *space
	log      *slog.Logger
	dirFile  *os.File
	synced   time.Time // modification time of the directory when it was last synced; the writer's
	id       string
	boot     uint64
	revision atomic.Uint64

	mu     sync.RWMutex // guards what follows: written by open, thaw and Close
	db     *badger.DB   // nil: closed
	frugal bool         // opened with little room: badger does not compact
}

var errClosed = errors.New("the store is closed")

// Open opens the store in o.Dir, or makes one. Errors wrap ErrInUse, ErrNewerFormat, ErrDamaged, ErrForeign or ErrFull.
// It blocks while badger replays its logs; ctx is looked at between the steps.
func Open(ctx context.Context, o Options) (*Store, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.FS == nil {
		o.FS = hostFS{}
	}
	if o.Reserve == 0 {
		o.Reserve = DefaultReserve
	}
	if o.Reserve < DefaultReserve {
		return nil, fmt.Errorf("open store %s: a reserve of %d bytes is below the %d that background work may need",
			o.Dir, o.Reserve, DefaultReserve)
	}
	if err := prepareDir(o.Dir); err != nil {
		return nil, fmt.Errorf("open store %s: %w", o.Dir, err)
	}
	lock, err := lockDir(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", o.Dir, err)
	}
	s := &Store{dir: o.Dir, lock: lock, log: o.Logger, space: newSpace(o)}
	if err := s.open(ctx); err != nil {
		return nil, fmt.Errorf("open store %s: %w", o.Dir, errors.Join(err, s.abandon()))
	}
	return s, nil
}

func (s *Store) open(ctx context.Context) error {
	if err := checkFormat(s.dir); err != nil {
		return err
	}
	if err := s.space.makeRoom("open", roomToOpen(s.dir)); err != nil {
		return err
	}
	if err := writeFormat(s.dir); err != nil {
		return err
	}
	if err := checkFiles(ctx, s.dir); err != nil {
		return err
	}
	var err error
	if s.dirFile, err = os.Open(s.dir); err != nil {
		return err
	}
	s.frugal = s.space.tight(sumBlocks(s.dir, ".sst") + 2*sumBlocks(s.dir, ".mem"))
	if s.db, err = openBadger(s.dir, s.log, !s.frugal); err != nil {
		return err
	}
	s.space.setTables(s.tables)
	if err := s.readMeta(); err != nil {
		return err
	}
	s.space.look(s.log)
	return s.writeBoot()
}

// writeBoot counts this opening. On a disk without room the count waits for the first Commit.
func (s *Store) writeBoot() error {
	s.boot++
	err := s.Commit(nil, s.revision.Load())
	if errors.Is(err, ErrFull) {
		s.log.Warn("store opened without room for writes", "dir", s.dir, "error", err)
		return nil
	}
	return err
}

// thaw opens badger again with compaction, once there is room.
func (s *Store) thaw() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.db == nil || !s.frugal {
		return nil
	}
	s.log.Info("store compacts again", "dir", s.dir)
	err := s.db.Close()
	s.db = nil
	if err != nil {
		return err
	}
	if s.db, err = openBadger(s.dir, s.log, true); err != nil {
		return err
	}
	s.frugal = false
	return nil
}

// tables is how many bytes of tables there are, which is what compaction may write before it removes a byte.
func (s *Store) tables() int64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.db == nil {
		return 0
	}
	var n int64
	for _, l := range s.db.Levels() {
		n += l.Size
	}
	return n
}

// Meta says which store this is, and its revision.
func (s *Store) Meta() Meta {
	return Meta{ID: s.id, Boot: s.boot, Format: Format, Revision: s.revision.Load()}
}

// watchEvery is short so that the ballast is given up before a fast writer has taken all: a compaction under way may
// need it. A look costs a system call.
const watchEvery = 100 * time.Millisecond

// Run watches the room on the disk until ctx ends.
func (s *Store) Run(ctx context.Context) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			s.space.look(s.log)
		}
	}
}

// State says how the store fares.
type State struct {
	Writable bool
	Why      error // why not; wraps ErrFull
	Used     int64 // bytes on disk, without the ballast
	Free     int64 // bytes that the file system has left
}

// State reads the state from the file system.
func (s *Store) State() State {
	st := State{Used: allocated(s.dir)}
	st.Free, st.Why = s.space.state()
	st.Writable = st.Why == nil
	return st
}

// Close flushes and releases the store. Where the disk has no room for that it is left as after a crash, which loses
// nothing.
func (s *Store) Close() error {
	var err error
	if room := s.space.makeRoom("close", roomToOpen(s.dir)); room != nil {
		s.log.Warn("store closed without a flush", "dir", s.dir, "error", room)
	} else {
		err = s.closeBadger()
	}
	s.mu.Lock()
	s.db = nil
	s.mu.Unlock()
	if err = errors.Join(err, s.abandon()); err != nil {
		return fmt.Errorf("close store %s: %w", s.dir, err)
	}
	return nil
}

func (s *Store) closeBadger() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.db == nil {
		return nil
	}
	err := s.db.Close()
	s.db = nil
	return err
}

// abandon releases what is held, as far as it is.
func (s *Store) abandon() error {
	var errs []error
	errs = append(errs, s.closeBadger())
	if s.dirFile != nil {
		errs = append(errs, s.dirFile.Close())
	}
	return errors.Join(append(errs, s.lock.release())...)
}

func newID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
