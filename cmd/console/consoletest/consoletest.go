// Package consoletest is for tests of command lines: what a command did, and what it printed.
package consoletest

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tunneldirector/cmd/console"
)

var update = flag.Bool("update", false, "write the golden files anew")

// A Ran is a command that ended.
type Ran struct {
	Args        []string
	Code        int
	Out, ErrOut string

	t *testing.T
}

// Run runs a command line as main does: command does, and returns the exit code. env's outputs are set.
func Run(t *testing.T, env *console.Env, args []string, command func() int) Ran {
	var out, errOut bytes.Buffer
	env.Stdout, env.Stderr = &out, &errOut
	code := command()
	return Ran{args, code, out.String(), errOut.String(), t}
}

// Exits expects an exit code and words on standard output.
func (r Ran) Exits(code int, words ...string) Ran {
	r.t.Helper()
	if r.Code != code {
		r.t.Fatalf("%q exits with %d, want %d\nstdout: %s\nstderr: %s", r.Args, r.Code, code, r.Out, r.ErrOut)
	}
	for _, w := range words {
		if !strings.Contains(r.Out, w) {
			r.t.Errorf("%q does not print %q but:\n%s", r.Args, w, r.Out)
		}
	}
	return r
}

// Tells expects words on standard error.
func (r Ran) Tells(words ...string) Ran {
	r.t.Helper()
	for _, w := range words {
		if !strings.Contains(r.ErrOut, w) {
			r.t.Errorf("%q does not tell %q but:\n%s", r.Args, w, r.ErrOut)
		}
	}
	return r
}

// Golden holds text against testdata/NAME.golden.
func Golden(t *testing.T, name string, text []byte) {
	t.Helper()
	file := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(file, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(text)); d != "" {
		t.Errorf("%s differs; -update writes it anew (-want +got):\n%s", file, d)
	}
}
