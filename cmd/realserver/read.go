package main

import (
	"encoding"
	"fmt"
	"log/slog"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"tunneldirector/director/config/tree"
)

// maxFile is the largest file that is read. A person wrote it.
const maxFile = 1 << 20

// A reader fills a struct from YAML and gathers all that is wrong with the file. Fields are named by their tags; what stands in no
// field is a fault.
type reader struct{ tree.Reader }

// A section is a struct that reads itself.
type section interface {
	readYAML(r *reader, n ast.Node, path string)
}

func (r *reader) document(data []byte, to any) {
	if len(data) > maxFile {
		r.Fault("", nil, "has more than %d bytes", maxFile)
		return
	}
	switch docs := r.Documents(data, maxFile); {
	case len(r.Faults) > 0:
		r.Faults[0].Column = 0 // the line says enough
	case len(docs) == 0:
		r.Fault("", nil, "is empty; it needs at least host and real_servers")
	case len(docs) == 1:
		r.value(docs[0], "", reflect.ValueOf(to).Elem())
	default:
		r.Fault("", docs[1], "is a second document; there is one")
	}
}

// said tells whether something is wrong with a path already.
func (r *reader) said(path string) bool {
	return slices.ContainsFunc(r.Faults, func(f tree.Fault) bool { return strings.HasPrefix(f.Path, path) })
}

// empty tells whether an item of a list has nothing in it.
func (r *reader) empty(path string) bool {
	return slices.ContainsFunc(r.Faults, func(f tree.Fault) bool { return f.Path == path })
}

// err is all faults by line, or nil.
func (r *reader) err() error {
	if len(r.Faults) == 0 {
		return nil
	}
	slices.SortStableFunc(r.Faults, func(a, b tree.Fault) int { return a.Line - b.Line })
	return r.Faults
}

// value reads what a node says. A node that is absent leaves what is there.
func (r *reader) value(n ast.Node, path string, to reflect.Value) {
	if tree.Absent(n) {
		return
	}
	r.Mark(path, n)
	switch x := to.Addr().Interface().(type) {
	case section:
		x.readYAML(r, n, path)
		return
	case *time.Duration:
		r.duration(n, path, x)
		return
	case encoding.TextUnmarshaler:
		if s, ok := r.scalar(n, path); ok {
			if err := x.UnmarshalText([]byte(s)); err != nil {
				r.Fault(path, n, "%q is not %s", s, wanted(x, err))
			}
		}
		return
	}
	switch to.Kind() {
	case reflect.Struct:
		r.mapping(n, path, fieldsOf(to))
	case reflect.Slice:
		r.list(n, path, to)
	case reflect.Map:
		to.Set(reflect.MakeMap(to.Type()))
		r.pairs(n, path, func(key, path string, n ast.Node) {
			v := reflect.New(to.Type().Elem()).Elem()
			r.value(n, path, v)
			to.SetMapIndex(reflect.ValueOf(key), v)
		})
	case reflect.Bool:
		if b, ok := n.(*ast.BoolNode); ok {
			to.SetBool(b.Value)
		} else {
			r.Fault(path, n, "is not true or false")
		}
	case reflect.String:
		if s, ok := r.text(n, path); ok {
			to.SetString(s)
		}
	default:
		r.number(n, path, to)
	}
}

// wanted says what a text was to be.
func wanted(x any, err error) string {
	switch x.(type) {
	case *netip.Addr:
		return "an IP address"
	case *netip.AddrPort:
		return "an address and a port; write 192.0.2.1:7460 or [2001:db8::1]:7460"
	case *netip.Prefix:
		return "a prefix; write an address and a length: 100.64.0.0/10"
	case *slog.Level:
		return "one of debug, info, warn, error"
	}
	return err.Error()
}

// fieldsOf are a struct's fields by their tags.
func fieldsOf(to reflect.Value) (out []field) {
	for i := range to.NumField() {
		if tag := to.Type().Field(i).Tag.Get("yaml"); tag != "" {
			out = append(out, field{tag, to.Field(i)})
		}
	}
	return out
}

// A field is a key and where its value goes.
type field struct {
	key string
	to  reflect.Value
}

// mapping reads keys that are known.
func (r *reader) mapping(n ast.Node, path string, known []field) {
	r.pairs(n, path, func(key, path string, n ast.Node) {
		i := slices.IndexFunc(known, func(f field) bool { return f.key == key })
		if i < 0 {
			names := make([]string, len(known))
			for i, f := range known {
				names[i] = f.key
			}
			r.FaultAt(path, "unknown key; known here are %s", strings.Join(names, ", "))
			return
		}
		r.value(n, path, known[i].to)
	})
}

// pairs reads a mapping, each key once.
func (r *reader) pairs(n ast.Node, path string, f func(key, path string, n ast.Node)) {
	pairs, ok := tree.Pairs(n, path, false)
	if !ok {
		r.Fault(path, n, "is not a mapping (key: value)")
	}
	for _, p := range pairs {
		switch {
		case !p.Plain:
			r.Fault(path, p.Key, "a key must be plain text")
		case p.First > 0:
			r.Fault(p.Path, p.Key, "stands twice, first in line %d", p.First)
		default:
			r.Lines[p.Path] = tree.Line(p.Key)
			f(p.Name, p.Path, p.Value)
		}
	}
}

func (r *reader) list(n ast.Node, path string, to reflect.Value) {
	s, ok := n.(*ast.SequenceNode)
	if !ok {
		r.Fault(path, n, "is not a list ([a, b])")
		return
	}
	to.Set(reflect.MakeSlice(to.Type(), len(s.Values), len(s.Values)))
	for i, x := range s.Values {
		at := fmt.Sprintf("%s[%d]", path, i)
		if tree.Absent(x) {
			if tree.Line(x) < tree.Line(n) {
				x = n
			}
			r.Fault(at, x, "is empty")
			continue
		}
		r.value(x, at, to.Index(i))
	}
}

// text reads text. What YAML takes for something else needs quotes.
func (r *reader) text(n ast.Node, path string) (string, bool) {
	s, ok := tree.Text(n)
	if !ok {
		r.Fault(path, n, "is not text; put it in quotes")
	}
	return s, ok
}

// scalar reads text, or a number as it is written.
func (r *reader) scalar(n ast.Node, path string) (string, bool) {
	switch x := n.(type) {
	case *ast.IntegerNode, *ast.FloatNode:
		return x.GetToken().Value, true
	}
	return r.text(n, path)
}

func (r *reader) duration(n ast.Node, path string, to *time.Duration) {
	s, ok := r.scalar(n, path)
	if !ok {
		return
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		r.Fault(path, n, "%q is not a duration; write a number and a unit: 200ms or 5s", s)
		return
	}
	*to = d
}

func (r *reader) number(n ast.Node, path string, to reflect.Value) {
	x, ok := n.(*ast.IntegerNode)
	if !ok {
		r.Fault(path, n, "is not a whole number")
		return
	}
	var v int64
	switch i := x.Value.(type) {
	case uint64:
		if v = int64(i); v < 0 {
			r.Fault(path, n, "%s is too large", x.Token.Value)
			return
		}
	case int64:
		v = i
	}
	if bad := to.CanInt() && to.OverflowInt(v) || to.CanUint() && (v < 0 || to.OverflowUint(uint64(v))); bad {
		r.Fault(path, n, "%s is out of range", x.Token.Value)
		return
	}
	if to.CanInt() {
		to.SetInt(v)
	} else {
		to.SetUint(uint64(v))
	}
}
