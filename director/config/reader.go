package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// maxFile is the largest file that is read. A person wrote it.
const maxFile = 1 << 20

// maxFaults bounds the report about a file of another kind.
const maxFaults = 100

// A reader walks the tree of a file and gathers what is wrong with it.
type reader struct {
	faults Faults
	lines  map[string]int // of each path that was read, for faults found later
}

// A value is a node of the tree and the path to it.
type value struct {
	r    *reader
	node ast.Node
	path string
}

// documents parses a file. Its empty documents are left out.
func (r *reader) documents(data []byte) []value {
	r.lines = map[string]int{}
	if len(data) > maxFile {
		r.fault("", 0, 0, "has %d bytes; at most %d", len(data), maxFile)
		return nil
	}
	file, err := parser.ParseBytes(data, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		r.syntax(err)
		return nil
	}
	var list []value
	for _, d := range file.Docs {
		if d.Body == nil || d.Body.Type() == ast.NullType || d.Body.Type() == ast.CommentType {
			continue
		}
		list = append(list, value{r, d.Body, ""})
	}
	return list
}

func (r *reader) syntax(err error) {
	var at yaml.Error
	if errors.As(err, &at) && at.GetToken() != nil {
		pos := at.GetToken().Position
		r.fault("", pos.Line, pos.Column, "not YAML: %s", at.GetMessage())
		return
	}
	r.fault("", 0, 0, "not YAML: %v", err)
}

func (r *reader) fault(path string, line, column int, format string, args ...any) {
	r.faults = append(r.faults, Fault{path, fmt.Sprintf(format, args...), line, column})
}

// faultAt is a fault of something by its path, or of what holds it where that is not in the file.
func (r *reader) faultAt(path, format string, args ...any) {
	at := path
	for at != "" && r.lines[at] == 0 {
		at = at[:max(strings.LastIndexAny(at, ".["), 0)]
	}
	r.fault(path, r.lines[at], 0, format, args...)
}

// err is all faults by line, or nil.
func (r *reader) err() error {
	if len(r.faults) == 0 {
		return nil
	}
	slices.SortStableFunc(r.faults, func(a, b Fault) int { return a.Line - b.Line })
	if more := len(r.faults) - maxFaults; more > 0 {
		r.faults = append(r.faults[:maxFaults], Fault{Problem: fmt.Sprintf("and %d more faults", more)})
	}
	return r.faults
}

func (v value) fault(format string, args ...any) {
	v.r.fault(v.path, line(v.node), 0, format, args...)
}

func line(n ast.Node) int {
	if n == nil || n.GetToken() == nil || n.GetToken().Position == nil {
		return 0
	}
	return n.GetToken().Position.Line
}

func column(n ast.Node) int {
	if line(n) == 0 {
		return 0
	}
	return n.GetToken().Position.Column
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
		v.r.fault(x.path, line(at), column(at), "unknown key; known here are %s", strings.Join(names, ", "))
	})
}

// pairs reads a mapping of any keys, each once.
func (v value) pairs(f func(key string, at ast.Node, x value)) {
	v.mark()
	var pairs []*ast.MappingValueNode
	switch n := v.node.(type) {
	case *ast.MappingNode:
		pairs = n.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{n}
	default:
		v.fault("is %s, not a mapping (key: value)", v.kind())
		return
	}
	seen := map[string]int{}
	for _, p := range pairs {
		key, ok := keyText(p.Key)
		if !ok {
			v.r.fault(v.path, line(p.Key), column(p.Key), "a key must be plain text or a number")
			continue
		}
		x := value{v.r, p.Value, v.path + "." + key}
		if v.path == "" {
			x.path = key
		}
		if first, twice := seen[key]; twice {
			v.r.fault(x.path, line(p.Key), column(p.Key), "stands twice, first in line %d", first)
			continue
		}
		seen[key] = line(p.Key)
		if x.node == nil || x.node.Type() == ast.NullType {
			x.node = nil
		}
		v.r.lines[x.path] = line(p.Key)
		f(key, p.Key, x)
	}
}

func keyText(n ast.MapKeyNode) (string, bool) {
	switch k := n.(type) {
	case *ast.StringNode:
		return k.Value, true
	case *ast.IntegerNode:
		return k.Token.Value, true
	}
	return "", false
}

// list reads a sequence.
func (v value) list(f func(value)) {
	if v.node == nil {
		return
	}
	v.mark()
	n, ok := v.node.(*ast.SequenceNode)
	if !ok {
		v.fault("is %s, not a list ([a, b])", v.kind())
		return
	}
	for i, x := range n.Values {
		item := value{v.r, x, fmt.Sprintf("%s[%d]", v.path, i)}
		if x == nil || x.Type() == ast.NullType {
			at := line(v.node)
			if i < len(n.Entries) && n.Entries[i].Start != nil {
				at = n.Entries[i].Start.Position.Line
			}
			v.r.fault(item.path, at, 0, "is empty")
			continue
		}
		item.mark()
		f(item)
	}
}

// mark remembers where v stands.
func (v value) mark() {
	if _, known := v.r.lines[v.path]; !known {
		v.r.lines[v.path] = line(v.node)
	}
}

// kind says in words what a node is.
func (v value) kind() string {
	if v.node == nil {
		return "empty"
	}
	switch v.node.Type() {
	case ast.MappingType, ast.MappingValueType:
		return "a mapping"
	case ast.SequenceType:
		return "a list"
	case ast.StringType, ast.LiteralType:
		return "text"
	case ast.IntegerType, ast.FloatType, ast.InfinityType, ast.NanType:
		return "a number"
	case ast.BoolType:
		return "true or false"
	case ast.AliasType, ast.AnchorType, ast.MergeKeyType:
		return "an anchor or alias (not read here: write it out)"
	case ast.TagType:
		return "tagged (not read here: leave the tag out)"
	}
	return "something else"
}
