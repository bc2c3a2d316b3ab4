package config

import (
	"errors"
	"os"
	"testing"
)

// FuzzParse feeds all three parsers: no panic, either a value or Faults, and none of them without words.
func FuzzParse(f *testing.F) {
	for _, name := range []string{"../../examples/director.yaml", "../../examples/records.yaml"} {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	for _, s := range []string{minimal, "- {name: x, role: nms, sha256: " + hash("x") + "}", "a: &b [*b]", "? [a]\n: b", "<<: {a: 1}", "a:\n\t- b", "---\n---\n", "!!str a", "a: |\n  b", "{", "- - - -", "\x00", "a: 'b", "interfaces: [{vlans: {1: 2}}]", member + "  join: [d2:1, '[::1]:2']\n  heartbeat: [10.0.0.1:1]\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		_, err1 := Parse(data)
		_, err2 := ParseRecords(data)
		_, err3 := ParseTokens(data)
		for _, err := range []error{err1, err2, err3} {
			if err == nil {
				continue
			}
			var faults Faults
			if !errors.As(err, &faults) || len(faults) == 0 {
				t.Fatalf("%T %v, want Faults", err, err)
			}
			for _, f := range faults {
				if f.Problem == "" || f.Line < 0 {
					t.Fatalf("%+v", f)
				}
			}
		}
	})
}
