package sim

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"tunneldirector/affinity"
	"tunneldirector/director"
)

// whole is how many records a commit has that is all or nothing; more go as several transactions.
const whole = 5000

type recordKey struct {
	kind affinity.Kind
	key  string
}

// A disk keeps records and promises what package badgerstore promises: a commit that returned nil is there after any crash; of
// one that did not return, the transactions that are there are the first ones, and may be all; a full disk refuses before it
// writes anything.
type disk struct {
	sees func(d *disk, old map[recordKey]affinity.Change, written []affinity.Change) // told of what became durable

	mu       sync.Mutex
	r        *rand.Rand
	id       string
	boot     uint64
	records  map[recordKey]affinity.Change
	revision uint64
	full     bool
	fails    bool          // the next commit ends the process
	slow     time.Duration // of each commit
	mount    *mounted      // by the process that has it
}

func newDisk(id string, seed uint64, sees func(*disk, map[recordKey]affinity.Change, []affinity.Change)) *disk {
	return &disk{id: id, r: rand.New(rand.NewPCG(seed, 3)), records: map[recordKey]affinity.Change{}, sees: sees}
}

// A mounted disk is what one process sees of it. It ends with the process.
type mounted struct {
	d    *disk
	boot uint64
	dead chan struct{}
}

var _ director.Store = (*mounted)(nil)

// open gives the disk to a process.
func (d *disk) open() *mounted {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.boot++
	d.mount = &mounted{d, d.boot, make(chan struct{})}
	return d.mount
}

// crash takes it away again.
func (d *disk) crash() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mount != nil {
		close(d.mount.dead)
		d.mount = nil
	}
}

// copied is the disk as it is, to be put in place of it later.
func (d *disk) copied() *disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	return &disk{id: d.id, boot: d.boot, r: rand.New(rand.NewPCG(d.r.Uint64(), 3)), records: maps.Clone(d.records), revision: d.revision, sees: d.sees}
}

func (d *disk) set(change func(*disk)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change(d)
}

// record is what is durable.
func (d *disk) record(k affinity.Kind, key string) (affinity.Change, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c, ok := d.records[recordKey{k, key}]
	return c, ok
}

// Load reads all records in the order of their keys.
func (m *mounted) Load(f func(affinity.Change) error) error {
	m.d.mu.Lock()
	records := maps.Clone(m.d.records)
	m.d.mu.Unlock()
	keys := slices.SortedFunc(maps.Keys(records), func(a, b recordKey) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.key, b.key))
	})
	for _, k := range keys {
		if err := f(records[k]); err != nil {
			return err
		}
	}
	return nil
}

var (
	errFull = fmt.Errorf("no space left: %w", director.ErrRefused)
	errGone = errors.New("the process has ended")
	errDisk = errors.New("input/output error")
)

// Commit writes records durably. It takes as long as the disk needs; a crash meanwhile leaves a part.
func (m *mounted) Commit(changes []affinity.Change, revision uint64) error {
	d := m.d
	d.mu.Lock()
	full, fails, takes := d.full, d.fails, d.slow
	takes += time.Millisecond + time.Duration(d.r.Int64N(int64(3*time.Millisecond)))
	d.fails = false
	d.mu.Unlock()
	if full {
		return errFull
	}
	t := time.NewTimer(takes)
	defer t.Stop()
	select {
	case <-t.C:
		if fails {
			m.writePart(changes, revision)
			return errDisk
		}
		if !m.write(changes, revision) {
			return errGone
		}
		return nil
	case <-m.dead:
		m.writePart(changes, revision)
		return errGone
	}
}

// write makes all durable; false: the process ended before.
func (m *mounted) write(changes []affinity.Change, revision uint64) bool {
	m.d.mu.Lock()
	defer m.d.mu.Unlock()
	if m.d.mount != m {
		return false
	}
	m.d.put(changes)
	m.d.revision = revision
	return true
}

// writePart makes some transactions durable, from the first on; the revision goes with the last.
func (m *mounted) writePart(changes []affinity.Change, revision uint64) {
	m.d.mu.Lock()
	defer m.d.mu.Unlock()
	if m.d.boot != m.boot {
		return // somebody else has it by now
	}
	parts := slices.Collect(slices.Chunk(changes, whole))
	n := m.d.r.IntN(len(parts) + 1)
	for _, part := range parts[:n] {
		m.d.put(part)
	}
	if n == len(parts) {
		m.d.revision = revision
	}
}

// put changes records. The caller holds mu.
func (d *disk) put(changes []affinity.Change) {
	old := map[recordKey]affinity.Change{}
	for _, c := range changes {
		k := recordKey{c.Kind, c.Key}
		if was, ok := d.records[k]; ok {
			if _, noted := old[k]; !noted {
				old[k] = was
			}
		}
		if c.Value == nil {
			delete(d.records, k)
		} else {
			d.records[k] = c
		}
	}
	if d.sees != nil {
		d.sees(d, old, changes)
	}
}

// Identity names the store.
func (m *mounted) Identity() (string, uint64) {
	m.d.mu.Lock()
	defer m.d.mu.Unlock()
	return m.d.id, m.d.revision
}

// State says whether the disk is full.
func (m *mounted) State() director.StoreState {
	m.d.mu.Lock()
	defer m.d.mu.Unlock()
	if m.d.full {
		return director.StoreState{NotWritable: errFull.Error()}
	}
	return director.StoreState{Free: 1 << 30}
}
