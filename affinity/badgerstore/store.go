package badgerstore

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/badger/v4"

	"tunneldirector/affinity"
)

// The sizes of the reserve, in bytes.
const (
	DefaultReserve = 256 << 20
	MinReserve     = 128 << 20 // what badger's background work may need at once
)

// Options say where and how a Store is kept.
type Options struct {
	Dir     string       // made if it is not there
	Reserve int64        // bytes of the file system that writes leave free; 0: DefaultReserve, at least MinReserve
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
	db       *badger.DB
	lock     *dirLock
	space    *space
	log      *slog.Logger
	dirFile  *os.File
	synced   time.Time // modification time of the directory when it was last synced; the writer's
	id       string
	boot     uint64
	revision atomic.Uint64
}

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
	if o.Reserve < MinReserve {
		return nil, fmt.Errorf("open store %s: reserve of %d MiB is below the %d MiB that the disk's background work may need",
			o.Dir, o.Reserve>>20, MinReserve>>20)
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
	if s.db, err = openBadger(s.dir, s.log); err != nil {
		return err
	}
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

// Meta says which store this is, and its revision.
func (s *Store) Meta() Meta {
	return Meta{ID: s.id, Boot: s.boot, Format: Format, Revision: s.revision.Load()}
}

// Run watches the room on the disk until ctx ends.
func (s *Store) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
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
		err = s.db.Close()
	}
	s.db = nil
	if err = errors.Join(err, s.abandon()); err != nil {
		return fmt.Errorf("close store %s: %w", s.dir, err)
	}
	return nil
}

// abandon releases what is held, as far as it is.
func (s *Store) abandon() error {
	var errs []error
	if s.db != nil {
		errs = append(errs, s.db.Close())
	}
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
