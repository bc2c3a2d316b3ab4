package replica

import (
	"context"
	"fmt"
	"slices"

	"tunneldirector/affinity"
)

// Between the groups and the leaves of a digest there are two levels, so that few sums travel where little differs: each node
// has 8 children, and its sum is theirs. Level 0 are the groups, level 3 the leaves. The two directors go down in turn: each
// sends the sums of the children of those nodes that it found to differ.

const (
	fanOut    = 8
	fanBits   = 3
	leafLevel = 3
)

// nodesAt is how many nodes a level has.
func nodesAt(level int) int { return affinity.Groups << (fanBits * level) }

// below is how many leaves a node of a level has.
func below(level int) int { return affinity.Leaves / nodesAt(level) }

// addBelow adds all leaves of a node.
func (s *leafSet) addBelow(level int, node uint32) {
	for n := range below(level) {
		s.add(node*uint32(below(level)) + uint32(n))
	}
}

// A ladder reads the sums of nodes out of a digest. It is quick for nodes in order.
type ladder struct {
	digest *affinity.Digest
	group  int
	read   bool
	leaves [affinity.Group]uint64 // of the group
}

// children are the sums of the children, which are of a level, of a node.
func (l *ladder) children(level int, node uint32) (out [fanOut]uint64) {
	first := int(node) * below(level-1)
	if g := first / affinity.Group; !l.read || g != l.group {
		l.group, l.read, l.leaves = g, true, l.digest.LeafSums(g)
	}
	for i := range below(level - 1) {
		out[i/below(level)] ^= l.leaves[first%affinity.Group+i]
	}
	return out
}

// sendSums sends the sums of the children, which are of a level, of some nodes.
func (l *link) sendSums(ctx context.Context, level int, nodes []uint32, w window) error {
	read := ladder{digest: l.r.o.Local.Digest()}
	for chunk := range slices.Chunk(nodes, maxNodes) {
		m := sums{level: byte(level)}
		for _, n := range chunk {
			one := nodeSums{node: n}
			for i, sum := range read.children(level, n) {
				one.children[i] = w.node(sum)
			}
			m.nodes = append(m.nodes, one)
		}
		if err := l.write(ctx, m); err != nil {
			return err
		}
	}
	return l.write(ctx, sums{level: byte(level), last: true})
}

// differing takes the peer's sums of a level, of which m are the first, and calls f for the nodes whose sum, here ours, there
// theirs, differs.
func (l *link) differing(ctx context.Context, m sums, level int, w window, f func(level int, node uint32, ours uint64, theirs uint32)) error {
	read := ladder{digest: l.r.o.Local.Digest()}
	for seen := 0; ; {
		if seen += len(m.nodes); int(m.level) != level || seen > nodesAt(level-1) {
			return fmt.Errorf("%s sent %d sums of level %d, at level %d: %w", l.p.name, seen, m.level, level, errGarbage)
		}
		for i := range m.nodes {
			n := &m.nodes[i]
			for c, ours := range read.children(level, n.node) {
				if w.node(ours) != n.children[c] {
					f(level, n.node*fanOut+uint32(c), ours, n.children[c])
				}
			}
		}
		if m.last {
			return nil
		}
		var err error
		if m, err = expect[sums](ctx, l); err != nil {
			return err
		}
	}
}
