package drill

import (
	"fmt"
	"math"
	"reflect"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"tunneldirector/director/config"
)

// A reader puts a tree of YAML into values of this package, whose tags say the keys, and gathers what is wrong with it.
type reader struct {
	faults config.Faults
	lines  map[string]int // of each path that was read
}

func (r *reader) fault(path string, line int, format string, args ...any) {
	r.faults = append(r.faults, config.Fault{Path: path, Problem: fmt.Sprintf(format, args...), Line: line})
}

func (r *reader) value(root ast.Node, v any) { r.read(root, reflect.ValueOf(v).Elem(), "") }

// read sets v from a node; one without a value is as if absent.
func (r *reader) read(n ast.Node, v reflect.Value, path string) {
	if n == nil || n.Type() == ast.NullType {
		return
	}
	if _, known := r.lines[path]; !known {
		r.lines[path] = line(n)
	}
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
		if s, ok := text(n); ok {
			v.SetString(s)
			return
		}
		r.fault(path, line(n), "is %s, not text; put it in quotes", kind(n))
	case reflect.Int, reflect.Pointer:
		r.number(n, v, path)
	case reflect.Bool:
		if b, ok := n.(*ast.BoolNode); ok {
			v.SetBool(b.Value)
			return
		}
		r.fault(path, line(n), "is %s, not true or false", kind(n))
	}
}

// fields reads a mapping, each key once.
func (r *reader) fields(n ast.Node, v reflect.Value, path string) {
	var pairs []*ast.MappingValueNode
	switch n := n.(type) {
	case *ast.MappingNode:
		pairs = n.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{n}
	default:
		r.fault(path, line(n), "is %s, not a mapping (key: value)", kind(n))
		return
	}
	var known []string
	at := map[string]int{}
	for i := range v.NumField() {
		key := v.Type().Field(i).Tag.Get("yaml")
		known, at[key] = append(known, key), i
	}
	seen := map[string]int{}
	for _, p := range pairs {
		key, ok := text(p.Key)
		if !ok {
			r.fault(path, line(p.Key), "a key must be plain text; known here are %s", strings.Join(known, ", "))
			continue
		}
		below := strings.TrimPrefix(path+"."+key, ".")
		i, ok := at[key]
		switch first, twice := seen[key]; {
		case !ok:
			r.fault(below, line(p.Key), "unknown key; known here are %s", strings.Join(known, ", "))
		case twice:
			r.fault(below, line(p.Key), "stands twice, first in line %d", first)
		default:
			seen[key], r.lines[below] = line(p.Key), line(p.Key)
			r.read(p.Value, v.Field(i), below)
		}
	}
}

// list reads a sequence.
func (r *reader) list(n ast.Node, v reflect.Value, path string) {
	s, ok := n.(*ast.SequenceNode)
	if !ok {
		r.fault(path, line(n), "is %s, not a list (- ...)", kind(n))
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
		r.fault(path, line(n), "%s lacks a unit; write 200ms or 5s", bare.Token.Value)
		return
	}
	s, ok := text(n)
	d, err := time.ParseDuration(s)
	if !ok || err != nil {
		r.fault(path, line(n), "%q is not a duration; write a number and a unit: 200ms or 5s", n.String())
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
		r.fault(path, line(n), "is %s, not a number", kind(n))
		return
	}
	switch {
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.ValueOf(&x))
	case !whole || math.Abs(x) > math.MaxInt32:
		r.fault(path, line(n), "%s is not a whole number, or far too large", n.GetToken().Value)
	default:
		v.SetInt(int64(x))
	}
}

func text(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	}
	return "", false
}

func line(n ast.Node) int {
	if n == nil || n.GetToken() == nil || n.GetToken().Position == nil {
		return 0
	}
	return n.GetToken().Position.Line
}

// kind says in words what a node is.
func kind(n ast.Node) string {
	switch n.Type() {
	case ast.MappingType, ast.MappingValueType:
		return "a mapping"
	case ast.SequenceType:
		return "a list"
	case ast.StringType, ast.LiteralType:
		return "text"
	case ast.IntegerType, ast.FloatType:
		return "a number"
	case ast.InfinityType, ast.NanType:
		return "infinite or undefined"
	case ast.BoolType:
		return "true or false"
	}
	return "nothing that is read here (an anchor, alias or tag: write it out)"
}
