package badgerstore

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"
)

// The store's own records.
var metaKeys = struct{ id, boot, revision []byte }{[]byte("\x00id"), []byte("\x00boot"), []byte("\x00revision")}

// stageMeta puts what changes with every commit into txn, and what does not where it is small anyway: an opening that
// found no room left it to the first commit.
func (s *Store) stageMeta(txn *badger.Txn, revision uint64) error {
	return errors.Join(
		stageOwn(txn, metaKeys.id, []byte(s.id)),
		stageOwn(txn, metaKeys.boot, binary.BigEndian.AppendUint64(nil, s.boot)),
		stageOwn(txn, metaKeys.revision, binary.BigEndian.AppendUint64(nil, revision)))
}

func stageOwn(txn *badger.Txn, key, value []byte) error {
	return txn.Set(key, frame(nil, key, value))
}

// readMeta reads what the last opening left, or begins anew.
func (s *Store) readMeta() error {
	return s.db.View(func(txn *badger.Txn) error {
		id, err1 := readOwn(txn, metaKeys.id)
		boot, err2 := readNumber(txn, metaKeys.boot)
		revision, err3 := readNumber(txn, metaKeys.revision)
		if err := errors.Join(err1, err2, err3); err != nil {
			return err
		}
		s.id, s.boot = string(id), boot
		s.revision.Store(revision)
		if id == nil {
			s.id = newID()
		}
		return nil
	})
}

// readOwn gives nil where there is no such record.
func readOwn(txn *badger.Txn, key []byte) ([]byte, error) {
	item, err := txn.Get(key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, damaged(string(key[1:]), err)
	}
	b, err := item.ValueCopy(nil)
	if err != nil {
		return nil, damaged(string(key[1:]), err)
	}
	return unframe(key, b)
}

func readNumber(txn *badger.Txn, key []byte) (uint64, error) {
	b, err := readOwn(txn, key)
	if b == nil || err != nil {
		return 0, err
	}
	if len(b) != 8 {
		return 0, damaged(string(key[1:]), fmt.Errorf("%d bytes, want 8", len(b)))
	}
	return binary.BigEndian.Uint64(b), nil
}
