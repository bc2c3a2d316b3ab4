package exec

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"time"

	"tunneldirector/director/agent"
	"tunneldirector/realserver/terminator"
)

const (
	maxOutput = 16 << 20
	// path is where a program finds others.
	path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	// linger is how long a program's own children may hold its output open after its end.
	linger = 100 * time.Millisecond

	exUnavailable = 69
	exTempFail    = 75
)

var errMuch = fmt.Errorf("it prints more than %d MiB", maxOutput>>20)

// run runs a program to its end and returns what it printed. At the end of ctx, or of the program's time, it and all that it
// started in its process group are killed.
func (t *Terminator) run(ctx context.Context, argv, env []string) ([]byte, error) {
	if len(argv) == 0 {
		return nil, errNone
	}
	ctx, cancel := context.WithTimeoutCause(ctx, t.opts.Timeout, fmt.Errorf("it takes longer than %s: %w", t.opts.Timeout, context.DeadlineExceeded))
	defer cancel()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	out := &bounded{max: maxOutput, over: func() { stop(errMuch) }}
	said := &bounded{max: agent.MaxText, over: func() {}}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env, cmd.Stdout, cmd.Stderr, cmd.WaitDelay = append([]string{path}, env...), out, said, linger
	group(cmd)
	if err := t.opts.Space.Do(cmd.Start); err != nil {
		return nil, fmt.Errorf("start %s: %w", argv[0], err)
	}
	err := cmd.Wait()
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("run %s: %w", argv[0], context.Cause(ctx))
	case errors.Is(err, exec.ErrWaitDelay):
		return nil, fmt.Errorf("run %s: it has ended, but what it started goes on to hold its output", argv[0])
	case err == nil:
		return out.b.Bytes(), nil
	}
	if line, _, _ := bytes.Cut(said.b.Bytes(), []byte("\n")); len(line) > 0 {
		err = fmt.Errorf("%w: %q", err, line)
	}
	if status(err) == exUnavailable {
		err = fmt.Errorf("%w: %w", err, terminator.ErrGone)
	}
	return nil, fmt.Errorf("run %s: %w", argv[0], err)
}

// status is the exit status that an error of run tells of; -1: none.
func status(err error) int {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode()
	}
	return -1
}

// bounded keeps what is written up to max bytes, drops the rest, and says so.
type bounded struct {
	b    bytes.Buffer
	max  int
	over func()
}

func (w *bounded) Write(p []byte) (int, error) {
	room := w.max - w.b.Len()
	if len(p) > room {
		w.b.Write(p[:room])
		w.over()
		return len(p), nil
	}
	return w.b.Write(p)
}
