package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tunneldirector/cmd/console"
	"tunneldirector/director/api"
)

// asProgram makes this test binary the program itself.
const asProgram = "DIRECTOR_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	os.Exit(m.Run())
}

// A program is a director's daemon in a process of its own, over the mem plane.
type program struct {
	t      *testing.T
	cmd    *exec.Cmd
	client *api.Client
	socket string
	log    *bytes.Buffer
}

// started has a daemon, and waits until it answers.
func started(t *testing.T, settings string) *program {
	t.Helper()
	dir := t.TempDir()
	p := &program{t: t, socket: filepath.Join(dir, "api.sock"), log: &bytes.Buffer{}}
	file := write(t, "director.yaml", "name: d1\nplane: mem\ndata_dir: "+dir+"/data\napi: {socket: {path: "+p.socket+"}}\n"+settings)
	p.cmd = p.command("run", "--config", file)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	var err error
	if p.client, err = api.NewClient(api.ClientOptions{Socket: p.socket}); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.cmd.Process.Signal(syscall.SIGCONT)
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		_ = p.cmd.Wait()
		if t.Failed() {
			t.Logf("the daemon's log:\n%s", p.log)
		}
	})
	p.within(20*time.Second, "answers", func() bool { return p.ready() })
	return p
}

// command is a command line of the program.
func (p *program) command(args ...string) *exec.Cmd {
	c := exec.Command(os.Args[0], args...)
	c.Env = append(os.Environ(), asProgram+"=1")
	return c
}

func (p *program) ready() bool {
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Second)
	defer cancel()
	return p.client.Ready(ctx) == nil
}

// state is what the kernel says of the process: T is stopped.
func (p *program) state() string {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	return strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))[0]
}

func (p *program) within(limit time.Duration, what string, is func() bool) {
	p.t.Helper()
	for end := time.Now().Add(limit); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			p.t.Fatalf("not within %v: the daemon %s", limit, what)
		}
	}
}

// faults are those in the journal, as made and undone.
func (p *program) faults() (out []string) {
	for line, err := range p.client.Events(p.t.Context(), api.EventQuery{Kinds: []string{"fault"}, Limit: 100}, false) {
		if err != nil {
			p.t.Fatal(err)
		}
		if e := line.Event; e != nil {
			out = append(out, strings.TrimSpace(e.Object+" "+e.From+"->"+e.To+" "+e.By))
		}
	}
	return out
}

const hangs = `
name: hangs
what: The only director hangs.
needs: {directors: 1, real_servers: 1, tunnels: 1}
sample: {tunnels: 1, every: 100ms}
steps:
  - {fault: director-hang, for: 8s}
  - wait: 1m
expect: {moved: none}
`

// A daemon that is stopped for a drill goes on by itself, though who asked for it is dead.
func TestHangEndsWithoutAnybody(t *testing.T) {
	p := started(t, "drill: {allow: true}\n")
	for _, c := range [][]string{{"apply", write(t, "records.yaml", furniture)}, {"tunnel", "add", "site-1", "--service", "ipsec", "--endpoint", "203.0.113.5", "--subnet", "100.64.1.0/28", "--state", "up"}} {
		runIn(t.Context(), t, strings.NewReader(""), nil, append([]string{"--socket", p.socket}, c...)...).Exits(console.ExitOK)
	}
	p.within(10*time.Second, "has real servers that are alive", func() bool {
		s, err := p.client.Tunnel(t.Context(), "site-1")
		return err == nil && s.Placement.RealServer != "" && s.Up
	})
	run := p.command("--socket", p.socket, "drill", "run", write(t, "hangs.yaml", hangs), "--yes", "--probe", "site-1=127.0.0.1", "--keep", t.TempDir())
	var told bytes.Buffer
	run.Stderr = &told
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); p.state() != "T"; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			_ = run.Process.Kill()
			_ = run.Wait()
			t.Fatalf("the daemon does not hang; the drill says:\n%s", &told)
		}
	}
	if err := run.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = run.Wait() // by the signal
	if p.ready() {
		t.Error("a stopped daemon answers")
	}
	p.within(20*time.Second, "goes on", p.ready)
	p.within(5*time.Second, "has forgotten the failure", func() bool {
		l, err := p.client.Faults(t.Context())
		return err == nil && len(l.Faults) == 0
	})
	p.within(5*time.Second, "has it in its journal", func() bool {
		return cmp.Equal(p.faults(), []string{"d1 ->director-hang local", "d1 director-hang->"})
	})
}

// A daemon that is to restart is another process in the same place; one that is killed undoes when it is started again.
func TestRestartAndCrash(t *testing.T) {
	p := started(t, "drill: {allow: true, restarted: true}\n")
	before, err := p.client.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	inject := func(id, kind string) {
		t.Helper()
		if _, err := p.client.MakeFault(t.Context(), api.FaultRequest{ID: id, Kind: kind, Target: "d1", ForMS: 60_000}); err != nil {
			t.Fatal(err)
		}
	}
	inject("r", "director-restart")
	p.within(20*time.Second, "runs anew", func() bool {
		s, err := p.client.Status(t.Context())
		return err == nil && s.Started.After(before.Started) && len(s.Faults) == 0
	})
	inject("c", "director-crash")
	if err := p.cmd.Wait(); err == nil || p.cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the daemon ended: %v", err)
	}
	again := p.command(p.cmd.Args[1:]...)
	again.Stdout, again.Stderr = p.log, p.log
	p.cmd = again
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.within(20*time.Second, "is there again", p.ready)
	want := []string{"d1 ->director-restart local", "d1 director-restart->", "d1 ->director-crash local", "d1 director-crash->"}
	p.within(5*time.Second, "has all in its journal", func() bool { return cmp.Equal(p.faults(), want) })
	if s, err := p.client.Status(t.Context()); err != nil || len(s.Faults) > 0 {
		t.Errorf("in place are %+v, %v", s.Faults, err)
	}
}
