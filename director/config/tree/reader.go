package tree

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// MaxFaults bounds the report about a file of another kind.
const MaxFaults = 100

// A Reader gathers what is wrong with a file while its tree is walked. The zero Reader is ready.
type Reader struct {
	Faults Faults
	Lines  map[string]int // of each path that was read, for faults found later; nil before Documents
}

// Documents parses a file of at most so many bytes. Its empty documents are left out; there is none of one that cannot be read, which is
// a fault.
func (r *Reader) Documents(data []byte, most int) []ast.Node {
	r.Lines = map[string]int{}
	if len(data) > most {
		r.Fault("", nil, "has %d bytes; at most %d", len(data), most)
		return nil
	}
	file, err := parser.ParseBytes(data, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		r.syntax(err)
		return nil
	}
	var list []ast.Node
	for _, d := range file.Docs {
		if !Absent(d.Body) {
			list = append(list, d.Body)
		}
	}
	return list
}

func (r *Reader) syntax(err error) {
	var at yaml.Error
	if errors.As(err, &at) && at.GetToken() != nil {
		pos := at.GetToken().Position
		r.Faults = append(r.Faults, Fault{Problem: "not YAML: " + at.GetMessage(), Line: pos.Line, Column: pos.Column})
		return
	}
	r.Fault("", nil, "not YAML: %v", err)
}

// Fault is one of a path, in the line of a node; of nil in none.
func (r *Reader) Fault(path string, at ast.Node, format string, args ...any) {
	r.Faults = append(r.Faults, Fault{Path: path, Problem: fmt.Sprintf(format, args...), Line: Line(at)})
}

// FaultAt is a fault of something by its path, in its line, or in that of what holds it where it is not in the file.
func (r *Reader) FaultAt(path, format string, args ...any) {
	at := path
	for at != "" && r.Lines[at] == 0 {
		at = at[:max(strings.LastIndexAny(at, ".["), 0)]
	}
	r.Faults = append(r.Faults, Fault{Path: path, Problem: fmt.Sprintf(format, args...), Line: r.Lines[at]})
}

// Mark remembers the line of a path, the first of them.
func (r *Reader) Mark(path string, n ast.Node) {
	if _, known := r.Lines[path]; !known {
		r.Lines[path] = Line(n)
	}
}

// Err is all faults by line, or nil.
func (r *Reader) Err() error {
	if len(r.Faults) == 0 {
		return nil
	}
	slices.SortStableFunc(r.Faults, func(a, b Fault) int { return a.Line - b.Line })
	if more := len(r.Faults) - MaxFaults; more > 0 {
		r.Faults = append(r.Faults[:MaxFaults], Fault{Problem: fmt.Sprintf("and %d more faults", more)})
	}
	return r.Faults
}
