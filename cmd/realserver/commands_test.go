package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"tunneldirector/cmd/console"
	"tunneldirector/realserver/terminator"
)

func TestStatusAndTunnels(t *testing.T) {
	w := newWorld(t)
	at := []string{"--socket", w.socket}
	until(t, console.ExitOK, "working", append([]string{"status"}, at...)...)
	steps := []struct {
		args string
		code int
		out  []string
		errs []string
	}{
		{"status", console.ExitOK, []string{"agent of host node-a, version 1.2.3", "rs1", "memory", "192.0.2.10", "working", "NOT connected", "TROUBLE  no stream to director 192.0.2.1:7460: connection refused"}, nil},
		{"status --check", console.ExitNotWell, nil, []string{"not all is well: no stream to director"}},
		{"status --check --json", console.ExitNotWell, []string{`"health":"working"`}, []string{`{"error":"not all is well`, `"exit_code":6`}},
		{"tunnels", console.ExitOK, []string{"site-1", "203.0.113.5:4500", "100.64.1.0/24", "2.0 KiB", "1 tunnel"}, nil},
		{"tunnels --json", console.ExitOK, []string{`{"tunnels":[{"real_server":"rs1","peer":"site-1"`}, nil},
		{"tunnels rs2", console.ExitOK, []string{"no tunnels are established"}, nil},
		{"tunnels --json rs2", console.ExitOK, []string{`{"tunnels":[]}`}, nil},
		{"tunnels rs1 rs2", console.ExitUsage, nil, []string{"takes [REALSERVER], but got 2"}},
		{"tunnels rs1 --json", console.ExitUsage, nil, []string{"flags stand before"}},
		{"status now", console.ExitUsage, nil, []string{"takes no arguments"}},
	}
	for _, s := range steps {
		words := strings.Fields(s.args)
		runIn(t.Context(), t, append(append(words[:1:1], at...), words[1:]...)...).Exits(s.code, s.out...).Tells(s.errs...)
	}
	w.soft.mu.Lock()
	w.soft.err = fmt.Errorf("connection refused: %w", terminator.ErrGone)
	w.soft.mu.Unlock()
	until(t, console.ExitOK, "dead", append([]string{"status"}, at...)...).Exits(console.ExitOK, "TROUBLE  rs1 is dead")
}

func TestWrongUsage(t *testing.T) {
	tests := []struct{ args, tells string }{
		{"", "needs a command: run, check, plan, apply, revert, doctor, status, tunnels, undo-faults, completion, version"},
		{"stat", `has no command "stat"`},
		{"doctr", `Did you mean "doctor"?`},
		{"status --josn", "there is no flag --josn"},
		{"completion tcsh", "is not bash, zsh or fish"},
		{"plan now", "takes no arguments"},
	}
	for _, tt := range tests {
		runIn(t.Context(), t, strings.Fields(tt.args)...).Exits(console.ExitUsage).Tells(tt.tells)
	}
}

func TestNoAgent(t *testing.T) {
	dir := t.TempDir()
	for _, args := range []string{"status", "tunnels"} {
		runIn(t.Context(), t, args, "--socket", dir+"/none").Exits(console.ExitUnreachable).Tells("No agent listens on the socket "+dir+"/none", "realserver run")
	}
	w := newWorld(t)
	if _, err := listen(w.socket); err == nil || !strings.Contains(err.Error(), "another agent answers there") {
		t.Errorf("a second agent listens there, too: %v", err)
	}
}

func TestBadFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bad.yaml")
	if err := os.WriteFile(path, []byte("hots: node-a\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range []string{"run", "check", "plan", "apply", "revert", "doctor"} {
		runIn(t.Context(), t, args, "--config", path).Exits(console.ExitFailed).Tells("configuration "+path, "hots: unknown key")
		runIn(t.Context(), t, args, "--config", "/nowhere/file").Exits(console.ExitFailed).Tells("read configuration: open /nowhere/file", "--config FILE")
	}
}

// A program reads the faults of a file as it reads all else.
func TestCheckInJSON(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bad.yaml")
	if err := os.WriteFile(path, []byte("host: node-a\nhots: node-a\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	runIn(t.Context(), t, "check", "--json", "--config", path).Exits(console.ExitFailed, `"faults":[`, `{"path":"hots","problem":"unknown key`, `"line":2`, `"can_run":false`)
}

func TestVersion(t *testing.T) {
	runIn(t.Context(), t, "version").Exits(console.ExitOK, "realserver ", "go1.")
	runIn(t.Context(), t, "version", "--json").Exits(console.ExitOK, `{"version":"`)
}

// The help of every command is written, with an example that names it.
func TestHelpIsComplete(t *testing.T) {
	env := &console.Env{Getenv: func(string) string { return "" }}
	for _, c := range newApp(env).Commands {
		if c.Usage == "" || !strings.Contains(c.Description, "Examples:\n  ") || !strings.Contains(c.Description, "realserver "+c.Name) {
			t.Errorf("%s lacks usage, description or example", c.Name)
		}
		for _, f := range c.Flags {
			if d, ok := f.(cli.DocGenerationFlag); ok && d.GetUsage() == "" {
				t.Errorf("%s --%s lacks usage", c.Name, f.Names()[0])
			}
		}
		for line := range strings.Lines(c.Description) {
			if len(line) > 125 {
				t.Errorf("%s: the help's line is too long: %s", c.Name, line)
			}
		}
		if !c.Hidden {
			runIn(t.Context(), t, c.Name, "--help").Exits(console.ExitOK, "realserver "+c.Name+" - "+c.Usage)
		}
	}
	runIn(t.Context(), t, "--help").Exits(console.ExitOK, "EXIT CODES:", "tunnels", "doctor")
}

func TestCompletion(t *testing.T) {
	w := newWorld(t)
	until(t, console.ExitOK, "working", "status", "--socket", w.socket)
	tests := []struct {
		words string
		want  []string
	}{
		{"st", []string{"status"}},
		{"re", []string{"revert"}},
		{"plan --c", []string{"--config", "--check"}},
		{"status --js", []string{"--json"}},
		{"completion ", []string{"bash", "zsh", "fish"}},
		{"tunnels --socket " + w.socket + " r", []string{"rs1"}},
		{"tunnels --socket /nowhere ", nil},
		{"tunnels --socket ", nil},
		{"nothing ", nil},
	}
	for _, tt := range tests {
		r := runIn(t.Context(), t, append([]string{"__complete", "--"}, strings.Split(tt.words, " ")...)...).Exits(console.ExitOK)
		var got []string
		for line := range strings.Lines(r.Out) {
			word, _, _ := strings.Cut(line, "\t")
			got = append(got, strings.TrimSpace(word))
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%q: %q, want %q", tt.words, got, tt.want)
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		runIn(t.Context(), t, "completion", shell).Exits(console.ExitOK, "realserver", "__complete")
	}
}

// The codes that the help lists are those that there are.
func TestExitCodesAreDocumented(t *testing.T) {
	var listed []string
	for line := range strings.Lines(exitCodes) {
		listed = append(listed, strings.Fields(line)[0])
	}
	if want := strings.Fields("0 1 2 4 6 130"); !slices.Equal(listed, want) {
		t.Errorf("listed are %q, want %q", listed, want)
	}
}
