package affinity

import (
	"encoding/binary"
	"sync"

	"github.com/cespare/xxhash/v2"
)

// A Digest sums up the versions of all records of a table, tombstones among them. Tables with the same records have the
// same sums. A record's hash says which leaf its version counts in; Group consecutive leaves are a group.
//
// Sums are XORs of hashes: they find what differs by chance or by failure, not what somebody made to collide.
type Digest struct {
	mu     sync.RWMutex
	leaves [Leaves]uint64
	groups [Groups]uint64
	root   uint64
	count  int
}

// A Digest's shape. At 1,000,000 tunnels and their pins a leaf has 8 records.
const (
	Groups = 512
	Group  = 512 // leaves in a group
	Leaves = Groups * Group
)

// KeyHash stands for a record's kind and key.
func KeyHash(k Kind, key string) uint64 {
	var d xxhash.Digest
	d.Reset()
	_, _ = d.Write([]byte{byte(k)})
	_, _ = d.WriteString(key)
	return d.Sum64()
}

// LeafOf is the leaf that a record with a KeyHash counts in.
func LeafOf(keyHash uint64) uint32 { return uint32(keyHash % Leaves) }

// VersionHash stands for one version of a record.
func VersionHash(keyHash uint64, h Header) uint64 {
	var b [8 + 8 + 4 + 1]byte
	binary.LittleEndian.PutUint64(b[0:], keyHash)
	binary.LittleEndian.PutUint64(b[8:], uint64(h.Stamp))
	binary.LittleEndian.PutUint32(b[16:], h.Epoch)
	if h.Deleted {
		b[20] = 1
	}
	var d xxhash.Digest
	d.Reset()
	_, _ = d.Write(b[:])
	_, _ = d.WriteString(h.Origin)
	return d.Sum64()
}

// Note brings the sums up to date with changes: what was there before goes out, what is there now comes in.
func (d *Digest) Note(changes []Change) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range changes {
		c := &changes[i]
		hash := KeyHash(c.Kind, c.Key)
		if c.Was.Format != 0 {
			d.turn(hash, c.Was)
			d.count--
		}
		if c.Value != nil {
			d.turn(hash, c.Now)
			d.count++
		}
	}
}

// Add counts a record that was loaded.
func (d *Digest) Add(k Kind, key string, h Header) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.turn(KeyHash(k, key), h)
	d.count++
}

// turn puts a version in, or takes it out.
func (d *Digest) turn(keyHash uint64, h Header) {
	v, leaf := VersionHash(keyHash, h), LeafOf(keyHash)
	d.leaves[leaf] ^= v
	d.groups[leaf/Group] ^= v
	d.root ^= v
}

// Root is the sum of all, and how many records there are.
func (d *Digest) Root() (root uint64, records int) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.root, d.count
}

// GroupSums are the sums of all groups.
func (d *Digest) GroupSums() [Groups]uint64 {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.groups
}

// LeafSums are the sums of the leaves of a group.
func (d *Digest) LeafSums(group int) [Group]uint64 {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return [Group]uint64(d.leaves[group*Group : (group+1)*Group])
}
