package vm

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"
)

// moduleRoot is the directory of the module that the working directory is in.
func moduleRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("find the module's root: %w", err)
	}
	mod := strings.TrimSpace(string(out))
	if !filepath.IsAbs(mod) || filepath.Base(mod) != "go.mod" {
		return "", fmt.Errorf("find the module's root: the working directory is in no module")
	}
	return filepath.Dir(mod), nil
}

// programs are the compiled files of a job.
type programs struct {
	init     string
	director string // "": neither it nor the agent is wanted
	agent    string
	tests    []string // as the job's Tests
}

// compile builds all that the guest runs of ours, into dir.
func compile(ctx context.Context, root, dir string, job Job) (programs, error) {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(2)
	p := programs{init: filepath.Join(dir, "init"), tests: make([]string, len(job.Tests))}
	g.Go(func() error { return build(ctx, root, "build", "./integration/vm/init", p.init) })
	if job.Director {
		p.director, p.agent = filepath.Join(dir, "director"), filepath.Join(dir, "realserver")
		g.Go(func() error { return build(ctx, root, "build", "./cmd/director", p.director) })
		g.Go(func() error { return build(ctx, root, "build", "./cmd/realserver", p.agent) })
	}
	built := map[string]string{} // package to program: two Tests may be of one package
	for i, t := range job.Tests {
		if p.tests[i] = built[t.Package]; p.tests[i] != "" {
			continue
		}
		p.tests[i] = filepath.Join(dir, fmt.Sprintf("%d.test", i))
		built[t.Package] = p.tests[i]
		g.Go(func() error { return build(ctx, root, "test", t.Package, p.tests[i]) })
	}
	return p, g.Wait()
}

// build compiles a static program: a command, or with verb test a package's tests.
func build(ctx context.Context, root, verb, pkg, to string) error {
	args := []string{verb, "-trimpath", "-ldflags=-s -w", "-o", to}
	if verb == "test" {
		args = append(args, "-c")
	}
	cmd := exec.CommandContext(ctx, "go", append(args, pkg)...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("compile %s: %w: %s", pkg, err, out)
	}
	if _, err := os.Stat(to); err != nil {
		return fmt.Errorf("compile %s: it has no tests for Linux", pkg)
	}
	return nil
}
