package drill

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"tunneldirector/director/config/tree"
)

// maxFile is the largest file that is read. A person wrote it.
const maxFile = 64 << 10

// Parse reads the text of a drill, and fills in what it does not say. The error holds tree.Faults: all that is wrong with it. The name
// says where the text is from, for the error alone.
func Parse(data []byte, name string) (*Drill, error) {
	d := &Drill{}
	var r reader
	if root := r.document(data); root != nil {
		r.value(root, d)
		d.fillIn()
		r.add(d.faults())
	}
	if err := r.Err(); err != nil {
		return nil, fmt.Errorf("drill %s:\n%w", name, err)
	}
	return d, nil
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
	switch docs := r.Documents(data, maxFile); {
	case len(r.Faults) > 0:
		r.Faults[0].Column = 0 // the line says enough
	case len(docs) == 0:
		r.Fault("", nil, "is empty; a drill has name, what, steps and expect")
	case len(docs) == 1:
		return docs[0]
	default:
		r.Fault("", docs[1], "a second document begins here; a file holds one drill")
	}
	return nil
}

// add takes over faults of values, but for those about what could not be read in the first place.
func (r *reader) add(list tree.Faults) {
	unread := slices.Clone(r.Faults)
	for _, f := range list {
		if !slices.ContainsFunc(unread, func(u tree.Fault) bool { return u.Path == "" || within(u.Path, f.Path) || within(f.Path, u.Path) }) {
			r.FaultAt(f.Path, "%s", f.Problem)
		}
	}
}

// within tells whether a path is another or below it.
func within(path, of string) bool {
	rest, ok := strings.CutPrefix(path, of)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}
