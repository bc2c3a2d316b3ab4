package fault

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// A Process is one of this machine that cannot be mistaken for another one of the same number.
type Process struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // when it was started, as /proc/PID/stat says
	Boot  string `json:"boot"`  // of the machine, since start counts from there
}

// Find is the processes of some numbers. One that is not there is left out.
func Find(pids ...int) ([]Process, error) {
	var out []Process
	for _, pid := range pids {
		if pid <= 1 {
			return nil, fmt.Errorf("process %d is not one to stop", pid)
		}
		p, there, err := find(pid)
		if err != nil {
			return nil, fmt.Errorf("look for process %d: %w", pid, err)
		}
		if there {
			out = append(out, p)
		}
	}
	return out, nil
}

// errNone is of a fault of processes of which none is there.
var errNone = errors.New("none of its processes is there")

// Stopped is processes that are stopped, as if they hung (SIGSTOP). Undone, they go on.
type Stopped struct {
	Processes []Process `json:"processes"`
}

// Name is an Effect's.
func (*Stopped) Name() string { return "stopped" }

// Do stops them.
func (s *Stopped) Do(context.Context, string, time.Duration) error { return reached(stop(s.Processes)) }

// Undo lets them go on.
func (s *Stopped) Undo(context.Context, string) error {
	_, err := resume(s.Processes)
	return err
}

// Killed is processes that are killed (SIGKILL). Undone, they are started again.
type Killed struct {
	Processes []Process `json:"processes"`
	Start     []string  `json:"start,omitempty"` // program and arguments; it ends when they run, and is no fault if they run already. None: somebody else starts them
	Space     string    `json:"space,omitempty"` // network namespace that Start runs in; "": the process's own
}

// Name is an Effect's.
func (*Killed) Name() string { return "killed" }

// Do kills them.
func (k *Killed) Do(context.Context, string, time.Duration) error { return reached(kill(k.Processes)) }

// Undo starts them again.
func (k *Killed) Undo(ctx context.Context, _ string) error {
	if len(k.Start) == 0 {
		return nil
	}
	if err := start(ctx, k.Space, k.Start); err != nil {
		return fmt.Errorf("start it again by %s: %w; run that by hand to see what it says", strings.Join(k.Start, " "), err)
	}
	return nil
}

// reached is the error of a signal to processes that has to reach one of them.
func reached(n int, err error) error {
	if err == nil && n == 0 {
		err = errNone
	}
	return err
}
