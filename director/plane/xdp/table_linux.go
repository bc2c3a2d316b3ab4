package xdp

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// chunk is how many elements one system call reads or writes.
const chunk = 4096

// A table is a BPF hash of any size, known by its elements' types. It is owned by one goroutine, except all and n.
type table[K, V comparable] struct {
	m      *ebpf.Map
	name   string
	option string // by which its size is given
	n      atomic.Int64
	// merge carries over what the program wrote into old.
	merge func(old, next V) V
	// count is told of every element that comes (1) and goes (-1).
	count func(k K, v V, d int)
}

// all calls f for each element until it returns false. Elements that come or go meanwhile may be seen or not.
func (t *table[K, V]) all(f func(K, V) bool) error {
	for size := chunk; ; size *= 2 {
		err := t.read(size, f)
		if !errors.Is(err, unix.ENOSPC) { // one hash bucket holds more than a chunk
			return err
		}
	}
}

func (t *table[K, V]) read(size int, f func(K, V) bool) error {
	keys, values := make([]K, size), make([]V, size)
	var cursor ebpf.MapBatchCursor
	for {
		n, err := t.m.BatchLookup(&cursor, keys, values, nil)
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("read map %s: %w", t.name, err)
		}
		for i := range n {
			if !f(keys[i], values[i]) {
				return nil
			}
		}
		if err != nil {
			return nil
		}
	}
}

func (t *table[K, V]) get(k K) (v V, ok bool, err error) {
	err = t.m.Lookup(&k, &v)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return v, false, nil
	}
	if err != nil {
		return v, false, fmt.Errorf("look up in map %s: %w", t.name, err)
	}
	return v, true, nil
}

// census counts what is there.
func (t *table[K, V]) census() error {
	t.n.Store(0)
	return t.all(func(k K, v V) bool {
		t.counted(k, v, 1)
		return true
	})
}

func (t *table[K, V]) counted(k K, v V, d int) {
	t.n.Add(int64(d))
	if t.count != nil {
		t.count(k, v, d)
	}
}

// A change is elements to set or to remove, in order.
type change[K, V comparable] struct {
	keys   []K
	values []V
}

func (c *change[K, V]) add(k K, v V) {
	c.keys, c.values = append(c.keys, k), append(c.values, v)
}

func (c *change[K, V]) reset() { c.keys, c.values = c.keys[:0], c.values[:0] }

// set writes the elements of c, keeping what merge keeps.
func (t *table[K, V]) set(c *change[K, V]) error {
	var out change[K, V]
	olds := make(map[K]V, len(c.keys))
	at := make(map[K]int, len(c.keys))
	for i, k := range c.keys {
		if j, twice := at[k]; twice {
			out.values[j] = t.merged(olds, k, c.values[i])
			continue
		}
		if t.n.Load() > 0 {
			old, ok, err := t.get(k)
			if err != nil {
				return err
			}
			if ok {
				olds[k] = old
			}
		}
		at[k] = len(out.keys)
		out.add(k, t.merged(olds, k, c.values[i]))
	}
	return t.write(&out, olds)
}

func (t *table[K, V]) merged(olds map[K]V, k K, next V) V {
	if old, ok := olds[k]; ok && t.merge != nil {
		return t.merge(old, next)
	}
	return next
}

// write puts c, whose keys are distinct, where olds says what is there.
func (t *table[K, V]) write(c *change[K, V], olds map[K]V) error {
	var out change[K, V]
	for i, k := range c.keys {
		if old, ok := olds[k]; !ok || old != c.values[i] {
			out.add(k, c.values[i])
		}
	}
	if len(out.keys) == 0 {
		return nil
	}
	n, err := t.m.BatchUpdate(out.keys, out.values, &ebpf.BatchOptions{ElemFlags: uint64(ebpf.UpdateAny)})
	if err == nil {
		n = len(out.keys)
	}
	for i, k := range out.keys[:n] {
		if old, ok := olds[k]; ok {
			t.counted(k, old, -1)
		}
		t.counted(k, out.values[i], 1)
	}
	if errors.Is(err, unix.E2BIG) {
		return fmt.Errorf("add to map %s: it is full at %d entries; raise %s: %w", t.name, t.m.MaxEntries(), t.option, err)
	}
	if err != nil {
		return fmt.Errorf("write %d entries to map %s: %w", len(out.keys), t.name, err)
	}
	return nil
}

// remove deletes those of keys that are there.
func (t *table[K, V]) remove(keys []K) error {
	have := make(map[K]V, len(keys))
	for _, k := range keys {
		old, ok, err := t.get(k)
		if err != nil {
			return err
		}
		if ok {
			have[k] = old
		}
	}
	return t.removeAll(have)
}

// removeAll deletes elements that are known to be there.
func (t *table[K, V]) removeAll(have map[K]V) error {
	keys := make([]K, 0, min(chunk, len(have)))
	flush := func() error {
		n, err := t.m.BatchDelete(keys, nil)
		if err == nil {
			n = len(keys)
		}
		for _, k := range keys[:n] {
			t.counted(k, have[k], -1)
		}
		keys = keys[:0]
		if err != nil {
			return fmt.Errorf("delete from map %s: %w", t.name, err)
		}
		return nil
	}
	for k := range have {
		if keys = append(keys, k); len(keys) == chunk {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if len(keys) == 0 {
		return nil
	}
	return flush()
}

// A replacement makes a table hold exactly what it is given. It remembers in memory what was there and has not been
// wanted yet: about 40 bytes an element, until finish.
type replacement[K, V comparable] struct {
	t    *table[K, V]
	rest map[K]V
	late change[K, V] // did not fit beside what is to go
}

func (t *table[K, V]) replace() (*replacement[K, V], error) {
	r := &replacement[K, V]{t: t, rest: make(map[K]V, t.n.Load())}
	return r, t.all(func(k K, v V) bool {
		r.rest[k] = v
		return true
	})
}

// want writes those of c that differ from what is there.
func (r *replacement[K, V]) want(c *change[K, V]) error {
	olds := make(map[K]V, len(c.keys))
	var out, again change[K, V]
	seen := make(map[K]bool, len(c.keys))
	for i, k := range c.keys {
		if seen[k] {
			again.add(k, c.values[i])
			continue
		}
		seen[k] = true
		if old, ok := r.rest[k]; ok {
			olds[k] = old
			delete(r.rest, k)
		}
		out.add(k, r.t.merged(olds, k, c.values[i]))
	}
	err := r.t.write(&out, olds)
	if errors.Is(err, unix.E2BIG) && len(r.rest) > 0 {
		for i, k := range out.keys {
			r.late.add(k, out.values[i])
		}
		err = nil
	}
	if err != nil || len(again.keys) == 0 {
		return err
	}
	return r.t.set(&again)
}

// finish deletes what was not wanted.
func (r *replacement[K, V]) finish() error {
	if err := r.t.removeAll(r.rest); err != nil {
		return err
	}
	return r.t.set(&r.late)
}
