package drill

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"tunneldirector/director/config/tree"
)

// A reader puts a tree of YAML into values of this package, whose tags say the keys, and gathers what is wrong with it.
type reader struct{ tree.Reader }

func (r *reader) value(root ast.Node, v any) { r.read(root, reflect.ValueOf(v).Elem(), "") }

// read sets v from a node; one without a value is as if absent.
func (r *reader) read(n ast.Node, v reflect.Value, path string) {
	if tree.Absent(n) {
		return
	}
	r.Mark(path, n)
	if _, ok := v.Interface().(time.Duration); ok {
		r.duration(n, v, path)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		r.fields(n, v, path)
	case reflect.Slice:
		r.list(n, v, path)
	case reflect.String:
		if s, ok := tree.Text(n); ok {
			v.SetString(s)
			return
		}
		r.Fault(path, n, "is %s, not text; put it in quotes", kind(n))
	case reflect.Int, reflect.Pointer:
		r.number(n, v, path)
	case reflect.Bool:
		if b, ok := n.(*ast.BoolNode); ok {
			v.SetBool(b.Value)
			return
		}
		r.Fault(path, n, "is %s, not true or false", kind(n))
	}
}

// fields reads a mapping, each key once.
func (r *reader) fields(n ast.Node, v reflect.Value, path string) {
	pairs, ok := tree.Pairs(n, path, false)
	if !ok {
		r.Fault(path, n, "is %s, not a mapping (key: value)", kind(n))
	}
	var known []string
	for i := range v.NumField() {
		known = append(known, v.Type().Field(i).Tag.Get("yaml"))
	}
	for _, p := range pairs {
		i := slices.Index(known, p.Name)
		switch {
		case !p.Plain:
			r.Fault(path, p.Key, "a key must be plain text; known here are %s", strings.Join(known, ", "))
		case i < 0:
			r.Fault(p.Path, p.Key, "unknown key; known here are %s", strings.Join(known, ", "))
		case p.First > 0:
			r.Fault(p.Path, p.Key, "stands twice, first in line %d", p.First)
		default:
			r.Lines[p.Path] = tree.Line(p.Key)
			r.read(p.Value, v.Field(i), p.Path)
		}
	}
}

// list reads a sequence.
func (r *reader) list(n ast.Node, v reflect.Value, path string) {
	s, ok := n.(*ast.SequenceNode)
	if !ok {
		r.Fault(path, n, "is %s, not a list (- ...)", kind(n))
		return
	}
	for i, x := range s.Values {
		item := reflect.New(v.Type().Elem()).Elem()
		r.read(x, item, fmt.Sprintf("%s[%d]", path, i))
		v.Set(reflect.Append(v, item))
	}
}

func (r *reader) duration(n ast.Node, v reflect.Value, path string) {
	if bare, ok := n.(*ast.IntegerNode); ok {
		r.Fault(path, n, "%s lacks a unit; write 200ms or 5s", bare.Token.Value)
		return
	}
	s, ok := tree.Text(n)
	d, err := time.ParseDuration(s)
	if !ok || err != nil {
		r.Fault(path, n, "%q is not a duration; write a number and a unit: 200ms or 5s", n.String())
		return
	}
	v.SetInt(int64(d))
}

// number reads a whole number, or what a pointer to a float points to.
func (r *reader) number(n ast.Node, v reflect.Value, path string) {
	var x float64
	whole := true
	switch n := n.(type) {
	case *ast.IntegerNode:
		switch i := n.Value.(type) {
		case int64:
			x = float64(i)
		case uint64:
			x = float64(i)
		}
	case *ast.FloatNode:
		x, whole = n.Value, false
	default:
		r.Fault(path, n, "is %s, not a number", kind(n))
		return
	}
	switch {
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.ValueOf(&x))
	case !whole || math.Abs(x) > math.MaxInt32:
		r.Fault(path, n, "%s is not a whole number, or far too large", n.GetToken().Value)
	default:
		v.SetInt(int64(x))
	}
}

// kind says in words what a node is.
func kind(n ast.Node) string {
	switch n.Type() {
	case ast.MappingType, ast.MappingValueType, ast.SequenceType, ast.StringType, ast.LiteralType, ast.IntegerType, ast.FloatType, ast.BoolType:
		return tree.Kind(n)
	case ast.InfinityType, ast.NanType:
		return "infinite or undefined"
	}
	return "nothing that is read here (an anchor, alias or tag: write it out)"
}
