package libreswan

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"tunneldirector/realserver/terminator"
)

const (
	maxOutput = 64 << 20
	maxError  = 4 << 10
)

var errTooMuch = errors.New("it says too much")

// whack runs the program and returns what it prints. It ends with ctx, after Timeout, and when it prints too much.
func (d *Driver) whack(ctx context.Context, args ...string) (string, error) {
	act := args[0]
	if _, err := os.Stat(filepath.Join(d.o.RunDir, "pluto.ctl")); errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("whack %s: %w: %w", act, terminator.ErrGone, err)
	}
	run, cancel := context.WithTimeout(ctx, d.o.Timeout)
	defer cancel()
	var out, says bounded
	out.most, says.most = maxOutput, maxError
	c := exec.CommandContext(run, d.o.Program, append([]string{"--rundir", d.o.RunDir}, args...)...)
	c.Stdout, c.Stderr = &out, &says
	c.Env = []string{"LC_ALL=C"}
	c.WaitDelay = time.Second // of whoever else holds the pipes
	err := c.Run()
	switch cause := context.Cause(run); {
	case cause != nil:
		err = cause
	case out.over:
		err = errTooMuch
	case err != nil:
		text := strings.TrimSpace(says.String() + "\n" + last(out.String()))
		for _, gone := range []string{"is not running", "Connection refused"} {
			if strings.Contains(text, gone) {
				err = terminator.ErrGone
			}
		}
		err = fmt.Errorf("%w: %s", err, text)
	}
	if err != nil {
		return "", fmt.Errorf("whack %s: %w", act, err)
	}
	return out.String(), nil
}

// last is the end of a text, which is what went wrong.
func last(s string) string { return s[max(0, len(s)-maxError):] }

// A bounded buffer fails the program that writes too much.
type bounded struct {
	text bytes.Buffer
	most int
	over bool
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.text.Len()+len(p) > b.most {
		b.over = true
		return 0, errTooMuch
	}
	return b.text.Write(p)
}

func (b *bounded) String() string { return b.text.String() }
