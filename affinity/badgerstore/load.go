package badgerstore

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/dgraph-io/badger/v4"

	"tunneldirector/affinity"
)

// Load calls f with every record in the order of kind and key. The record's Value is valid during the call only;
// ExpireAfter is what remains of it. An error of f ends it; f must not call the Store. A record that fails its checksum is an error that wraps
// ErrDamaged and names it.
func (s *Store) Load(f func(Record) error) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.db == nil {
		return fmt.Errorf("load store %s: %w", s.dir, errClosed)
	}
	err := s.db.View(func(txn *badger.Txn) error {
		o := badger.DefaultIteratorOptions
		o.PrefetchValues = false // they are beside their keys
		it := txn.NewIterator(o)
		defer it.Close()
		for it.Seek([]byte{1}); it.Valid(); it.Next() {
			if err := loadOne(it.Item(), f); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("load store %s: %w", s.dir, err)
	}
	return nil
}

func loadOne(item *badger.Item, f func(Record) error) error {
	key := item.Key()
	var rec Record
	err := item.Value(func(b []byte) (err error) {
		rec = Record{Kind: affinity.Kind(key[0]), Key: string(key[1:])}
		if at := item.ExpiresAt(); at != 0 {
			rec.ExpireAfter = time.Until(time.Unix(int64(at), 0))
		}
		rec.Value, err = unframe(key, b)
		return err
	})
	if err != nil {
		return err
	}
	return f(rec)
}

// unframe checks b, which frame made, and gives the value.
func unframe(key, b []byte) ([]byte, error) {
	if len(b) < checksumSize {
		return nil, damaged(name(key), fmt.Errorf("%d bytes are too few for a checksum", len(b)))
	}
	value := b[checksumSize:]
	if want, have := binary.BigEndian.Uint32(b), checksum(key, value); want != have {
		return nil, damaged(name(key), fmt.Errorf("checksum %08x, want %08x", have, want))
	}
	return value, nil
}

func name(key []byte) string {
	if key[0] == 0 {
		return fmt.Sprintf("own record %q", key[1:])
	}
	return fmt.Sprintf("%s %q", affinity.Kind(key[0]), key[1:])
}
