package main

import (
	"errors"
	"fmt"

	"tunneldirector/affinity"
	"tunneldirector/affinity/badgerstore"
	loop "tunneldirector/director"
)

// store is badger as the director's Store.
type store struct{ *badgerstore.Store }

// Load calls f with every record.
func (s store) Load(f func(affinity.Change) error) error {
	return s.Store.Load(func(r badgerstore.Record) error {
		return f(affinity.Change{Kind: r.Kind, Key: r.Key, Value: r.Value})
	})
}

// Commit writes changes durably.
func (s store) Commit(changes []affinity.Change, revision uint64) error {
	records := make([]badgerstore.Record, len(changes))
	for i, c := range changes {
		records[i] = badgerstore.Record{Kind: c.Kind, Key: c.Key, Value: c.Value}
		if c.Tombstone {
			records[i].ExpireAfter = loop.TombstonesLive
		}
	}
	err := s.Store.Commit(records, revision)
	if errors.Is(err, badgerstore.ErrFull) {
		return fmt.Errorf("%w: %w", loop.ErrRefused, err)
	}
	return err
}

// Identity is the store's id and last revision.
func (s store) Identity() (string, uint64) {
	m := s.Meta()
	return m.ID, m.Revision
}

// State tells whether there is room.
func (s store) State() loop.StoreState {
	st := s.Store.State()
	out := loop.StoreState{Used: uint64(st.Used), Free: uint64(st.Free)}
	if st.Why != nil {
		out.NotWritable = st.Why.Error()
	}
	return out
}
