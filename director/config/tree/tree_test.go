package tree

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestPairs(t *testing.T) {
	var r Reader
	docs := r.Documents([]byte("# none\n---\na: 1\n1: x\n\"1\": ~\na: 2\ntrue: 3\n"), 100)
	if len(docs) != 1 || r.Err() != nil {
		t.Fatalf("%d documents: %v", len(docs), r.Err())
	}
	for _, tt := range []struct {
		name, path string
		numbers    bool
		want       []Pair
	}{
		{"a number is no key", "", false, []Pair{{Name: "a", Plain: true, Path: "a"}, {}, {Name: "1", Plain: true, Path: "1"}, {Name: "a", Plain: true, First: 3, Path: "a"}, {}}},
		{"a number is one, and the same as its text", "x[0]", true, []Pair{
			{Name: "a", Plain: true, Path: "x[0].a"}, {Name: "1", Plain: true, Path: "x[0].1"}, {Name: "1", Plain: true, First: 4, Path: "x[0].1"},
			{Name: "a", Plain: true, First: 3, Path: "x[0].a"}, {Path: "x[0]."},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := Pairs(docs[0], tt.path, tt.numbers)
			if d := cmp.Diff(tt.want, got, cmpopts.IgnoreFields(Pair{}, "Key", "Value")); !ok || d != "" {
				t.Error(ok, d)
			}
			for i, kind := range []string{"a number", "text", "empty", "a number", "a number"} {
				if Line(got[i].Key) != i+3 || Kind(got[i].Value) != kind {
					t.Errorf("pair %d: line %d, %s", i, Line(got[i].Key), Kind(got[i].Value))
				}
			}
		})
	}
	if _, ok := Pairs(nil, "", true); ok {
		t.Error("nothing is a mapping")
	}
}

// What is not in the file is told in the line of what would hold it.
func TestFaultAt(t *testing.T) {
	r := Reader{Lines: map[string]int{"a": 7, "a.b[1]": 9}}
	for _, path := range []string{"a.b[1]", "a.b[1].c.d", "a.b[2].c", "b"} {
		r.FaultAt(path, "is missing")
	}
	want := Faults{{Path: "b", Problem: "is missing"}, {Path: "a.b[2].c", Problem: "is missing", Line: 7}, {Path: "a.b[1]", Problem: "is missing", Line: 9}, {Path: "a.b[1].c.d", Problem: "is missing", Line: 9}}
	if d := cmp.Diff(want, r.Err()); d != "" {
		t.Error(d)
	}
}
