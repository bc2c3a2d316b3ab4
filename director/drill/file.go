package drill

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"tunneldirector/director/config"
)

const (
	// maxFile is the largest file that is read. A person wrote it.
	maxFile = 64 << 10
	// maxFaults bounds the report about a file of another kind.
	maxFaults = 100
)

// Parse reads the text of a drill, and fills in what it does not say. The error holds config.Faults: all that is wrong with it. The name
// says where the text is from, for the error alone.
func Parse(data []byte, name string) (*Drill, error) {
	d := &Drill{}
	r := reader{lines: map[string]int{}}
	if root := r.document(data); root != nil {
		r.value(root, d)
		d.fillIn()
		r.add(d.faults())
	}
	if len(r.faults) == 0 {
		return d, nil
	}
	slices.SortStableFunc(r.faults, func(a, b config.Fault) int { return a.Line - b.Line })
	if more := len(r.faults) - maxFaults; more > 0 {
		r.faults = append(r.faults[:maxFaults], config.Fault{Problem: fmt.Sprintf("and %d more faults", more)})
	}
	return nil, fmt.Errorf("drill %s:\n%w", name, r.faults)
}

// fillIn puts defaults where nothing is said.
func (d *Drill) fillIn() {
	def(&d.Sample.Tunnels, 20)
	def(&d.Sample.Every, 50*time.Millisecond)
	def(&d.Expect.Moved, MovedNone)
	def(&d.Abort.Outage, time.Minute)
	for i := range d.Steps {
		s := &d.Steps[i]
		switch s.Fault.Befalls() {
		case "real server":
			def(&s.Target, Busiest)
		case "director":
			def(&s.Target, Owner)
		}
		if s.Fault != "" {
			def(&s.For, 30*time.Second)
		}
	}
}

func def[T comparable](v *T, d T) {
	if zero := *new(T); *v == zero {
		*v = d
	}
}

// document is what a file holds, if it is one document.
func (r *reader) document(data []byte) ast.Node {
	if len(data) > maxFile {
		r.fault("", 0, "has %d bytes; at most %d", len(data), maxFile)
		return nil
	}
	file, err := parser.ParseBytes(data, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		r.syntax(err)
		return nil
	}
	docs := slices.DeleteFunc(file.Docs, func(d *ast.DocumentNode) bool {
		return d.Body == nil || d.Body.Type() == ast.NullType || d.Body.Type() == ast.CommentType
	})
	switch len(docs) {
	case 0:
		r.fault("", 0, "is empty; a drill has name, what, steps and expect")
		return nil
	case 1:
		return docs[0].Body
	}
	r.fault("", line(docs[1].Body), "a second document begins here; a file holds one drill")
	return nil
}

func (r *reader) syntax(err error) {
	var at yaml.Error
	if !errors.As(err, &at) || at.GetToken() == nil {
		r.fault("", 0, "not YAML: %v", err)
		return
	}
	r.fault("", at.GetToken().Position.Line, "not YAML: %s", at.GetMessage())
}

// add takes over faults of values, but for those about what could not be read in the first place.
func (r *reader) add(list config.Faults) {
	unread := slices.Clone(r.faults)
	for _, f := range list {
		if slices.ContainsFunc(unread, func(u config.Fault) bool { return u.Path == "" || within(u.Path, f.Path) || within(f.Path, u.Path) }) {
			continue
		}
		at := f.Path
		for at != "" && r.lines[at] == 0 {
			at = at[:max(strings.LastIndexAny(at, ".["), 0)]
		}
		f.Line = r.lines[at]
		r.faults = append(r.faults, f)
	}
}

// within tells whether a path is another or below it.
func within(path, of string) bool {
	rest, ok := strings.CutPrefix(path, of)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}
