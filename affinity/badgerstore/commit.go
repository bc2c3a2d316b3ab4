package badgerstore

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// A commit of at most AtomicRecords records and AtomicBytes of keys and values is atomic.
const (
	AtomicRecords = 5000
	AtomicBytes   = 2 << 20
)

// On disk a record is kind, key -> CRC-32C of kind, key and value; value. Kind 0 is the store's own.
const checksumSize = 4

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Commit writes recs, in order, and revision. When it returns nil they are on the disk, power loss included. Later
// records of the same kind and key win. Up to AtomicRecords and AtomicBytes it is all or nothing; a larger set goes as
// several transactions, of which a crash in between, or an error, leaves a prefix and the old revision. An error that
// wraps ErrFull means that nothing was written. One Commit at a time.
func (s *Store) Commit(recs []Record, revision uint64) error {
	var size int64
	for i := range recs {
		if err := checkRecord(&recs[i]); err != nil {
			return fmt.Errorf("commit to store %s: %w", s.dir, err)
		}
		size += footprint(&recs[i])
	}
	if err := s.space.admit(size); err != nil {
		return fmt.Errorf("commit to store %s: %w", s.dir, err)
	}
	if s.frugal { // only this goroutine changes it
		if err := s.thaw(); err != nil {
			return fmt.Errorf("commit to store %s: open it again: %w", s.dir, err)
		}
	}
	if err := s.write(recs, revision); err != nil {
		return fmt.Errorf("commit %d records to store %s: %w", len(recs), s.dir, err)
	}
	if err := s.syncDir(); err != nil {
		return fmt.Errorf("commit to store %s: sync the directory: %w", s.dir, err)
	}
	s.revision.Store(revision)
	return nil
}

// write sends recs as transactions in order: one is built while the one before it is written. A new transaction waits
// for all that were sent, so the next is begun before this one is sent.
func (s *Store) write(recs []Record, revision uint64) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.db == nil {
		return errClosed
	}
	txn := s.db.NewTransaction(true)
	defer func() { txn.Discard() }()
	var sent chan error
	for {
		n := cut(recs)
		if err := stage(txn, recs[:n]); err != nil {
			return err
		}
		recs = recs[n:]
		if len(recs) == 0 {
			break
		}
		if sent != nil {
			if err := <-sent; err != nil {
				return err
			}
		}
		next := s.db.NewTransaction(true)
		done := make(chan error, 1)
		txn.CommitWith(func(err error) { done <- err })
		txn, sent = next, done
	}
	if sent != nil {
		if err := <-sent; err != nil {
			return err
		}
	}
	if err := s.stageMeta(txn, revision); err != nil {
		return err
	}
	return txn.Commit()
}

// cut is how many of recs go into one transaction.
func cut(recs []Record) int {
	var size int
	for i := range recs {
		size += len(recs[i].Key) + len(recs[i].Value)
		if i > 0 && (i == AtomicRecords || size > AtomicBytes) {
			return i
		}
	}
	return len(recs)
}

// stage puts recs into txn.
func stage(txn *badger.Txn, recs []Record) error {
	var size int
	for i := range recs {
		size += 1 + len(recs[i].Key) + checksumSize + len(recs[i].Value)
	}
	slab := make([]byte, 0, size) // badger keeps slices of it until the commit
	entries := make([]badger.Entry, len(recs))
	now := time.Now()
	for i := range recs {
		r, e := &recs[i], &entries[i]
		start := len(slab)
		slab = append(append(slab, byte(r.Kind)), r.Key...)
		e.Key = slab[start:len(slab):len(slab)]
		if r.Value == nil {
			if err := txn.Delete(e.Key); err != nil {
				return err
			}
			continue
		}
		start = len(slab)
		slab = frame(slab, e.Key, r.Value)
		e.Value = slab[start:len(slab):len(slab)]
		if r.ExpireAfter > 0 {
			e.ExpiresAt = uint64(now.Add(r.ExpireAfter + time.Second - 1).Unix())
		}
		if err := txn.SetEntry(e); err != nil {
			return err
		}
	}
	return nil
}

// frame appends value and its checksum to b.
func frame(b, key, value []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, checksum(key, value))
	return append(b, value...)
}

func checksum(key, value []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value)
}

func checkRecord(r *Record) error {
	switch {
	case r.Kind == 0:
		return fmt.Errorf("record %q has no kind", r.Key)
	case len(r.Key) > maxKey:
		return fmt.Errorf("key of %s %.40q... has %d bytes, the limit is %d", r.Kind, r.Key, len(r.Key), maxKey)
	case len(r.Value) > maxValue:
		return fmt.Errorf("%s %q has %d bytes, the limit is %d", r.Kind, r.Key, len(r.Value), maxValue)
	}
	return nil
}

// footprint is about what a record takes in badger's log.
func footprint(r *Record) int64 { return int64(len(r.Key) + len(r.Value) + 48) }

// timeGrain is more than the grain of file times: a change right after another may not be seen.
const timeGrain = 100 * time.Millisecond

// syncDir makes the names of new files durable: badger does not for its logs.
func (s *Store) syncDir() error {
	st, err := s.dirFile.Stat()
	if err != nil {
		return err
	}
	if st.ModTime().Equal(s.synced) {
		return nil
	}
	if err := s.dirFile.Sync(); err != nil {
		return err
	}
	if time.Since(st.ModTime()) > timeGrain {
		s.synced = st.ModTime()
	}
	return nil
}
