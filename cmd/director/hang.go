package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"tunneldirector/cmd/console"
)

// hang stops the daemon with SIGSTOP. What has it go on is a child that was started before, in a session of its own: it needs nobody.
//
//	daemon:  start child ─▶ "ready" ─▶ SIGSTOP to itself ······························▶ goes on ─▶ hangs up ─▶ end
//	child:           "ready" ─▶ sleeps so long ─▶ SIGCONT, again and again, until the daemon has hung up ─▶ end
type hang struct{ made }

func (*hang) Name() string { return "hang" }

const continueCommand = "__continue"

// Do starts the child, and stops soon. It hangs up long after: a thread goes on for a moment after it has sent SIGSTOP to all, and may not
// call the child off in that.
func (e *hang) Do(ctx context.Context, id string, lasts time.Duration) error {
	hangUp, err := startChild(ctx, lasts+begins)
	if err != nil {
		return fmt.Errorf("start what would have the daemon go on: %w", err)
	}
	time.AfterFunc(lasts+begins+time.Second, hangUp)
	e.o.soon(id, func() { e.kill(syscall.SIGSTOP) })
	return nil
}

// Undo is called when it goes on, or before it stopped.
func (e *hang) Undo(_ context.Context, id string) error {
	e.o.callOff(id)
	e.undone(id)
	return nil
}

// startChild starts this program as the one who sends SIGCONT, and returns when it is ready to.
func startChild(ctx context.Context, after time.Duration) (hangUp func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := exec.Command(self, continueCommand, after.String())
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	in, err := c.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, err
	}
	hangUp = sync.OnceFunc(func() {
		_ = in.Close() // it ends
		_ = c.Wait()   // however
	})
	ready := make(chan error, 1)
	go func() {
		_, err := bufio.NewReader(out).ReadString('\n')
		ready <- err
	}()
	select {
	case err = <-ready:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = c.Process.Kill() // it may not have read that it is to end
		hangUp()
		return nil, fmt.Errorf("it is not ready: %w", err)
	}
	return hangUp, nil
}

// continueEvery is the time between two signals to a process that may not have been stopped yet at the first one.
const continueEvery = 200 * time.Millisecond

// continueCommandOf is the child.
func continueCommandOf(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: continueCommand, Hidden: true, Usage: "have the daemon that started this go on after a time", ArgsUsage: "DURATION",
		Description: console.Describe("For the drill director-hang.", "director "+continueCommand+" 5s"),
		Action: func(c *cli.Context) error {
			if err := (console.Count{Min: 1, Max: 1}).Check(c); err != nil {
				return err
			}
			after, err := time.ParseDuration(c.Args().First())
			if err != nil {
				return console.Usage("%s %s: is no duration", continueCommand, c.Args().First())
			}
			parent := os.Getppid()
			p, err := os.FindProcess(parent) // from here on the handle is that of this process, whoever gets its number later
			if err == nil && os.Getppid() != parent {
				err = errors.New("it has ended")
			}
			if err != nil {
				return fmt.Errorf("who started this: %w", err)
			}
			fmt.Fprintln(env.Stdout, "ready")
			return goOn(p, after, env.Stdin)
		},
	}
}

// goOn has a process go on after a time, until it hangs up.
func goOn(p *os.Process, after time.Duration, hungUp io.Reader) error {
	end := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, hungUp) // its end is what counts
		close(end)
	}()
	wait := time.NewTimer(after)
	defer wait.Stop()
	for {
		select {
		case <-end:
			return nil
		case <-wait.C:
		}
		if err := p.Signal(syscall.SIGCONT); errors.Is(err, os.ErrProcessDone) {
			return nil
		}
		wait.Reset(continueEvery)
	}
}
