package replica

import (
	"encoding/binary"
	"slices"

	"tunneldirector/affinity"
)

// Many of a round's bytes are sums. So of a node's sum only 24 bits travel, of a version's hash 32, and each round takes them
// from another place of the 64 bits: two that are equal there by chance are found different by a later round.

const (
	leafBits   = 18              // affinity.Leaves is 1<<leafBits
	leafBytes  = 3               // of a node's sum, and of a leaf's number
	spotBytes  = 7               // of a spot
	windows    = 6               // how many places there are
	maxNodes   = perMessage / 27 // in one Sums
	perMessage = 64 << 10        // bytes of a message that is one of several
	noOrigin   = 255             // in Differ: nothing is there
	bitmap     = affinity.Group / 8
	maxOrigins = 64  // in one Differ
	maxOrigin  = 400 // bytes of a director's name
)

// A spot stands for a record: its leaf, and 32 more bits of the hash of its key.
type spot uint64

func spotOf(keyHash uint64) spot   { return spot(keyHash & (1<<(leafBits+32) - 1)) }
func (s spot) leaf() uint32        { return uint32(s) & (affinity.Leaves - 1) }
func (s spot) key() uint32         { return uint32(s >> leafBits) }
func spotAt(leaf, key uint32) spot { return spot(leaf) | spot(key)<<leafBits }

// A window is from where sums are taken.
type window byte

func (w window) node(sum uint64) uint32     { return uint32(sum>>(8*w)) & (1<<(8*leafBytes) - 1) }
func (w window) version(hash uint64) uint32 { return uint32(hash >> (8 * w)) }

type (
	// groups begin a round.
	groups struct {
		window  window
		records uint64 // of the source's table
		sums    [affinity.Groups]uint64
	}
	// sums are those of the children of some nodes, in order.
	sums struct {
		level byte // of the children
		last  bool
		nodes []nodeSums
	}
	nodeSums struct {
		node     uint32
		children [fanOut]uint32
	}
	// lack asks for all in some leaves.
	lack struct{ leaves *leafSet }
	// entries are the versions in some leaves. A leaf may come more than once.
	entries struct {
		last bool // of this part
		list []leafEntries
	}
	leafEntries struct {
		leaf    uint32
		entries []entry
	}
	entry struct{ key, version uint32 }
	// differ is what the sink has in place of entries.
	differ struct {
		last bool
		list []headed
	}
	// A headed is a spot and the version there; Format 0: there is none.
	headed struct {
		at     spot
		header affinity.Header
	}
	// want asks for records.
	want struct{ spots []spot }
)

func (groups) kind() kind  { return kindGroups }
func (sums) kind() kind    { return kindSums }
func (lack) kind() kind    { return kindLack }
func (entries) kind() kind { return kindEntries }
func (differ) kind() kind  { return kindDiffer }
func (want) kind() kind    { return kindWant }

func (m groups) append(b []byte) []byte {
	b = binary.AppendUvarint(append(b, byte(m.window)), m.records)
	for _, s := range m.sums {
		b = binary.LittleEndian.AppendUint64(b, s)
	}
	return b
}

func (r *reader) groups() groups {
	m := groups{window: window(r.byte()), records: r.uvarint()}
	for i := range m.sums {
		m.sums[i] = r.number(8)
	}
	r.bad = r.bad || m.window >= windows
	return m
}

func (m sums) append(b []byte) []byte {
	b = append(b, flag(m.last), m.level)
	before := uint32(0)
	for i := range m.nodes {
		n := &m.nodes[i]
		b = binary.AppendUvarint(b, uint64(n.node-before))
		before = n.node
		for _, s := range n.children {
			b = appendNumber(b, uint64(s), leafBytes)
		}
	}
	return b
}

func (r *reader) sums() sums {
	m := sums{last: r.flag(), level: r.byte()}
	if m.level < 1 || m.level > leafLevel {
		r.bad = true
		return m
	}
	node := uint64(0)
	for first := true; len(r.b) > 0; first = false {
		gap := r.uvarint()
		node += gap
		if r.bad || gap == 0 && !first || gap >= affinity.Leaves || node >= uint64(nodesAt(int(m.level)-1)) {
			r.bad = true
			break
		}
		n := nodeSums{node: uint32(node)}
		for i := range n.children {
			n.children[i] = uint32(r.number(leafBytes))
		}
		m.nodes = append(m.nodes, n)
	}
	return m
}

func (m lack) append(b []byte) []byte {
	for g := range affinity.Groups {
		words := m.leaves[g*affinity.Group/64 : (g+1)*affinity.Group/64]
		if !slices.ContainsFunc(words, func(w uint64) bool { return w != 0 }) {
			continue
		}
		b = appendNumber(b, uint64(g), 2)
		for _, w := range words {
			b = binary.LittleEndian.AppendUint64(b, w)
		}
	}
	return b
}

func (r *reader) lack() lack {
	m := lack{new(leafSet)}
	for len(r.b) > 0 {
		g := int(r.number(2))
		if g >= affinity.Groups {
			r.bad = true
			break
		}
		for i := range bitmap / 8 {
			m.leaves[g*bitmap/8+i] = r.number(8)
		}
	}
	return m
}

func (m entries) append(b []byte) []byte {
	b = append(b, flag(m.last))
	for _, l := range m.list {
		b = binary.AppendUvarint(appendNumber(b, uint64(l.leaf), leafBytes), uint64(len(l.entries)))
		for _, e := range l.entries {
			b = appendNumber(appendNumber(b, uint64(e.key), 4), uint64(e.version), 4)
		}
	}
	return b
}

func (r *reader) entries() entries {
	m := entries{last: r.flag()}
	for len(r.b) > 0 {
		l := leafEntries{leaf: uint32(r.number(leafBytes))}
		n := r.uvarint()
		if r.bad || l.leaf >= affinity.Leaves || n > uint64(len(r.b))/8 {
			r.bad = true
			break
		}
		l.entries = make([]entry, n)
		for i := range l.entries {
			l.entries[i] = entry{uint32(r.number(4)), uint32(r.number(4))}
		}
		m.list = append(m.list, l)
	}
	return m
}

// append writes each origin once: there are few.
func (m differ) append(b []byte) []byte {
	var origins []string
	at := map[string]byte{}
	for _, h := range m.list {
		if _, known := at[h.header.Origin]; !known && h.header.Format != 0 {
			at[h.header.Origin] = byte(len(origins))
			origins = append(origins, h.header.Origin)
		}
	}
	b = append(b, flag(m.last), byte(len(origins)))
	for _, o := range origins {
		b = append(binary.AppendUvarint(b, uint64(len(o))), o...)
	}
	for _, h := range m.list {
		b = appendNumber(b, uint64(h.at), spotBytes)
		if h.header.Format == 0 {
			b = append(b, noOrigin)
			continue
		}
		b = binary.LittleEndian.AppendUint64(append(b, at[h.header.Origin]), uint64(h.header.Stamp))
		b = binary.AppendUvarint(b, uint64(h.header.Epoch))
	}
	return b
}

func (r *reader) differ() differ {
	m := differ{last: r.flag()}
	origins := make([]string, min(r.byte(), maxOrigins))
	for i := range origins {
		origins[i] = string(r.sized(maxOrigin))
	}
	for len(r.b) > 0 && !r.bad {
		h := headed{at: r.spot()}
		if o := int(r.byte()); o < len(origins) {
			h.header = affinity.Header{Origin: origins[o], Stamp: affinity.Stamp(r.number(8)), Format: affinity.Format}
			epoch := r.uvarint()
			r.bad = r.bad || epoch>>32 != 0
			h.header.Epoch = uint32(epoch)
		} else if o != noOrigin {
			r.bad = true
		}
		m.list = append(m.list, h)
	}
	return m
}

func (m want) append(b []byte) []byte {
	for _, s := range m.spots {
		b = appendNumber(b, uint64(s), spotBytes)
	}
	return b
}

func (r *reader) want() want {
	var m want
	for len(r.b) > 0 && !r.bad {
		m.spots = append(m.spots, r.spot())
	}
	return m
}

func (r *reader) spot() spot {
	s := spot(r.number(spotBytes))
	r.bad = r.bad || s>>(leafBits+32) != 0
	return s
}

// A leafSet is some of the leaves.
type leafSet [affinity.Leaves / 64]uint64

func (s *leafSet) add(leaf uint32)      { s[leaf/64] |= 1 << (leaf % 64) }
func (s *leafSet) has(leaf uint32) bool { return s[leaf/64]&(1<<(leaf%64)) != 0 }
