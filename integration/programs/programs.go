// Package programs is for tests of the programs director and realserver: it builds them for a test binary.
package programs

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

var dir = flag.String("programs", "", "directory of the programs director and realserver; default: they are built for the tests")

// Options say how the programs are built, and the tests run.
type Options struct {
	Plain    bool // as they are shipped; else with the race detector
	Parallel int  // tests at a time; 0: as go test does
}

// Main is a TestMain: it builds the programs, unless they are there or nobody is root, runs the tests and ends the process. In a
// virtual machine they are there: DIRECTOR names the one, and the other is beside it.
func Main(m *testing.M, o Options) {
	if o.Parallel != 0 {
		_ = flag.Set("test.parallel", fmt.Sprint(o.Parallel)) // exists
	}
	flag.Parse()
	if given := os.Getenv("DIRECTOR"); given != "" {
		*dir = filepath.Dir(given)
	}
	if *dir != "" || os.Geteuid() != 0 {
		os.Exit(m.Run())
	}
	os.Exit(run(m, o))
}

func run(m *testing.M, o Options) (code int) {
	var err error
	if *dir, err = os.MkdirTemp("", "programs-"); err != nil {
		fmt.Fprintln(os.Stderr, "build the programs:", err)
		return 1
	}
	defer os.RemoveAll(*dir)
	build := exec.Command("go", "build", "-o", *dir)
	if o.Plain { // as `make build` does
		build.Args = append(build.Args, "-trimpath", "-ldflags", "-s -w")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
	} else {
		build.Args = append(build.Args, "-race")
	}
	build.Args = append(build.Args, "tunneldirector/cmd/director", "tunneldirector/cmd/realserver")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the programs: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// Director and RealServer are the programs' paths.
func Director() string   { return filepath.Join(*dir, "director") }
func RealServer() string { return filepath.Join(*dir, "realserver") }
