package main

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"time"

	"tunneldirector/integration/vm/wire"
)

// lingering is how long a program's children may hold its output after it has ended.
const lingering = 2 * time.Second

// events sends events to the host.
type events struct {
	mu      sync.Mutex // of encoder: a program's output and its end come from two goroutines
	encoder *json.Encoder
}

func (e *events) send(event wire.Event) error {
	event.Uptime = uptime()
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.encoder.Encode(event)
}

// output makes events of what a program writes.
type output struct {
	events  *events
	program int
}

func (o output) Write(b []byte) (int, error) {
	return len(b), o.events.send(wire.Event{Kind: wire.Output, Program: o.program, Data: b})
}

// run does the job.
func run() error {
	if err := prepare(); err != nil {
		return err
	}
	p, err := port(wire.EventPort)
	if err != nil {
		return err
	}
	events := &events{encoder: json.NewEncoder(p)}
	if err := events.send(wire.Event{Kind: wire.Booted, Release: kernel()}); err != nil {
		return err
	}
	if err := programs(events); err != nil {
		return errors.Join(events.send(wire.Event{Kind: wire.Failed, Problem: err.Error()}), p.Close())
	}
	return errors.Join(events.send(wire.Event{Kind: wire.Done}), p.Close())
}

// programs runs all programs of the job and sends what they left.
func programs(events *events) error {
	b, err := os.ReadFile(wire.JobFile)
	if err != nil {
		return err
	}
	var job wire.Job
	if err := json.Unmarshal(b, &job); err != nil {
		return fmt.Errorf("read the job: %w", err)
	}
	for i, p := range job.Programs {
		if err := events.send(wire.Event{Kind: wire.Start, Program: i}); err != nil {
			return err
		}
		code, problem := execute(p, output{events, i})
		if err := events.send(wire.Event{Kind: wire.Exit, Program: i, Code: code, Problem: problem}); err != nil {
			return err
		}
	}
	return sendOut()
}

// execute runs one program and says how it ended.
func execute(p wire.Program, to output) (code int, problem string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(p.Seconds)*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.Args[0], p.Args[1:]...)
	cmd.Dir = p.Dir
	cmd.Env = append(os.Environ(), p.Env...)
	cmd.Stdout, cmd.Stderr = to, to
	cmd.WaitDelay = lingering
	err := cmd.Run()
	if ctx.Err() != nil {
		return -1, fmt.Sprintf("killed after %d s", p.Seconds)
	}
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited && !errors.Is(err, exec.ErrWaitDelay) {
		return -1, err.Error()
	}
	if code = cmd.ProcessState.ExitCode(); code < 0 {
		return code, cmd.ProcessState.String()
	}
	return code, ""
}

// sendOut sends all that was left for the host, as a tar archive.
func sendOut() (err error) {
	p, err := port(wire.OutPort)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	w := tar.NewWriter(p)
	if err := w.AddFS(os.DirFS(wire.Out)); err != nil {
		return fmt.Errorf("send what was left in %s: %w", wire.Out, err)
	}
	return w.Close()
}
