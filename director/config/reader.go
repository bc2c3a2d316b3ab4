package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"tunneldirector/director/config/tree"
)

// maxFile is the largest file that is read. A person wrote it.
const maxFile = 1 << 20

// A Fault is one thing wrong with a file; Faults, its error, are all.
type (
	Fault  = tree.Fault
	Faults = tree.Faults
)

// A reader walks the tree of a file and gathers what is wrong with it.
type reader struct{ tree.Reader }

// A value is a node of the tree and the path to it.
type value struct {
	r    *reader
	node ast.Node
	path string
}

// documents parses a file. Its empty documents are left out.
func (r *reader) documents(data []byte) (list []value) {
	for _, n := range r.Documents(data, maxFile) {
		list = append(list, value{r, n, ""})
	}
	return list
}

func (v value) fault(format string, args ...any) { v.r.Fault(v.path, v.node, format, args...) }

// faultKey is a fault of a key, told with its column, too.
func (v value) faultKey(key ast.Node, format string, args ...any) {
	v.r.Fault(v.path, key, format, args...)
	if f := &v.r.Faults[len(v.r.Faults)-1]; f.Line > 0 {
		f.Column = key.GetToken().Position.Column
	}
}

// A field is a key of a mapping and what reads its value.
type field struct {
	key  string
	read func(value)
}

// fields reads a mapping whose keys are known. A key without a value is as if absent.
func (v value) fields(known ...field) {
	v.pairs(func(key string, at ast.Node, x value) {
		i := slices.IndexFunc(known, func(f field) bool { return f.key == key })
		if i >= 0 {
			known[i].read(x)
			return
		}
		names := make([]string, len(known))
		for i, f := range known {
			names[i] = f.key
		}
		x.faultKey(at, "unknown key; known here are %s", strings.Join(names, ", "))
	})
}

// pairs reads a mapping of any keys, each once.
func (v value) pairs(f func(key string, at ast.Node, x value)) {
	v.r.Mark(v.path, v.node)
	pairs, ok := tree.Pairs(v.node, v.path, true)
	if !ok {
		v.fault("is %s, not a mapping (key: value)", tree.Kind(v.node))
	}
	for _, p := range pairs {
		x := value{v.r, p.Value, p.Path}
		switch {
		case !p.Plain:
			v.faultKey(p.Key, "a key must be plain text or a number")
		case p.First > 0:
			x.faultKey(p.Key, "stands twice, first in line %d", p.First)
		default:
			v.r.Lines[p.Path] = tree.Line(p.Key)
			f(p.Name, p.Key, x)
		}
	}
}

// list reads a sequence.
func (v value) list(f func(value)) {
	if v.node == nil {
		return
	}
	v.r.Mark(v.path, v.node)
	n, ok := v.node.(*ast.SequenceNode)
	if !ok {
		v.fault("is %s, not a list ([a, b])", tree.Kind(v.node))
		return
	}
	for i, x := range n.Values {
		item := value{v.r, x, fmt.Sprintf("%s[%d]", v.path, i)}
		if tree.Absent(x) {
			at := v.node
			if i < len(n.Entries) && n.Entries[i].Start != nil {
				at = n.Entries[i]
			}
			v.r.Fault(item.path, at, "is empty")
			continue
		}
		v.r.Mark(item.path, x)
		f(item)
	}
}
