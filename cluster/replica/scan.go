package replica

import (
	"context"
	"maps"
	"slices"

	"tunneldirector/affinity"
)

// An item is a record of a snapshot.
type item struct {
	kind affinity.Kind
	key  string
	at   spot
	hash uint64 // of its version
}

// scan calls f for the records of a table in some leaves: what others refer to first.
func scan(ctx context.Context, t *affinity.Table, in *leafSet, f func(k affinity.Kind, key string, hash uint64) error) error {
	var err error
	n := 0
	t.Records(func(k affinity.Kind, key string) bool {
		if n++; n%4096 == 0 && ctx.Err() != nil {
			err = context.Cause(ctx)
			return false
		}
		if hash := affinity.KeyHash(k, key); in.has(affinity.LeafOf(hash)) {
			err = f(k, key, hash)
		}
		return err == nil
	})
	return err
}

// items are the records of a table in some leaves, and the same by their spots.
func items(ctx context.Context, t *affinity.Table, in *leafSet) (list []item, at map[spot]item, err error) {
	at = map[spot]item{}
	err = scan(ctx, t, in, func(k affinity.Kind, key string, hash uint64) error {
		h, _ := t.Version(k, key)
		i := item{k, key, spotOf(hash), affinity.VersionHash(hash, h)}
		list = append(list, i)
		at[i.at] = i
		return nil
	})
	return list, at, err
}

// addAll adds all records of some leaves.
func (s *sender) addAll(ctx context.Context, t *affinity.Table, in *leafSet) error {
	return scan(ctx, t, in, func(k affinity.Kind, key string, _ uint64) error {
		c, ok := t.Record(k, key)
		if !ok {
			return nil
		}
		return s.add(ctx, c)
	})
}

// parts cuts leaves so that each part has about so many records, if records lie evenly.
func parts(list []uint32, records int) [][]uint32 {
	perLeaf := records/affinity.Leaves + 1
	return slices.Collect(slices.Chunk(list, max(1, min(partLeaves, partRecords/perLeaf))))
}

const (
	partLeaves  = 32 << 10 // leaves that are compared at once, at most
	partRecords = 128 << 10
	maxEntries  = 8 * partRecords // that a peer may send at once: leaves are not quite even
)

// leafSetOf is a set of the leaves of a list.
func leafSetOf(list []uint32) *leafSet {
	s := new(leafSet)
	for _, leaf := range list {
		s.add(leaf)
	}
	return s
}

// A versions are the entries of a part, as they come.
type versions struct {
	leaves *leafSet
	at     map[spot]uint32
}

func (v *versions) add(m entries) error {
	if v.leaves == nil {
		v.leaves, v.at = new(leafSet), map[spot]uint32{}
	}
	for _, l := range m.list {
		v.leaves.add(l.leaf)
		for _, e := range l.entries {
			v.at[spotAt(l.leaf, e.key)] = e.version
		}
		if len(v.at) > maxEntries {
			return errMore
		}
	}
	return nil
}

// sortedNames are a map's keys in order.
func sortedNames[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
