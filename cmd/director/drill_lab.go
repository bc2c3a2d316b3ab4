package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"github.com/urfave/cli/v2"

	"tunneldirector/cmd/console"
	"tunneldirector/integration/drills"
)

// inLab runs a drill in namespaces of this machine, with this very program as its directors'.
func inLab(env *console.Env, c *cli.Context) error {
	if err := (console.Count{Min: 1, Max: 1}).Check(c); err != nil {
		return err
	}
	if c.IsSet("probe") {
		return console.Usage("--probe and --lab: a lab has its own targets")
	}
	r, err := newRehearsal(env, c, "lab")
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	agent, err := agentProgram(self, c.String("realserver"))
	if err != nil {
		return err
	}
	if !env.JSON {
		fmt.Fprintln(env.Stderr, "making a lab of network namespaces ...")
	}
	log := &tail{}
	w, err := drills.Open(c.Context, drills.Options{Director: self, RealServer: agent, Log: log})
	if err != nil {
		return console.Coded(console.ExitFailed, fmt.Errorf("make the lab: %w%s", err, after("\nits programs said last:\n", log.String())))
	}
	r.world = w
	err = r.announceAndRun(c.Context)
	return errors.Join(err, w.Close())
}

func (r *rehearsal) announceAndRun(ctx context.Context) error {
	if err := r.announce(ctx); err != nil {
		return err
	}
	return r.run(ctx)
}

// A tail is the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

const tailed = 4 << 10

// Write keeps the last of it.
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, b...)
	t.text = t.text[max(0, len(t.text)-tailed):]
	return len(b), nil
}

// String is what is left, from the beginning of a line.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, rest, cut := strings.Cut(string(t.text), "\n"); cut && len(t.text) == tailed {
		return rest
	}
	return string(t.text)
}

// agentProgram is the program of the agent.
func agentProgram(self, given string) (string, error) {
	if given == "" {
		beside := filepath.Join(filepath.Dir(self), "realserver")
		if _, err := os.Stat(beside); err == nil {
			return beside, nil
		}
		given = "realserver"
	}
	path, err := exec.LookPath(given)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return "", console.Coded(console.ExitRefused, fmt.Errorf("the lab needs the program of the agent: %w; say --realserver PATH", err))
	}
	return path, nil
}
