package console

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/term"
)

// An Env is what a command sees of the process that it runs in.
type Env struct {
	Stdin      io.Reader
	Stdout     io.Writer
	Stderr     io.Writer
	Getenv     func(string) string
	IsTerminal func(io.Writer) bool
	Now        func() time.Time
	JSON       bool // --json, for errors too; the command line sets it
}

// Main runs a program in this process, until it ends; SIGINT and SIGTERM cancel ctx.
func Main(program func(ctx context.Context, env *Env, args []string) (exitCode int)) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends it at once
	env := &Env{
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv, Now: time.Now,
		IsTerminal: func(w io.Writer) bool {
			f, ok := w.(*os.File)
			return ok && term.IsTerminal(int(f.Fd()))
		},
	}
	os.Exit(program(ctx, env, os.Args[1:]))
}

// Show prints an answer: as JSON, or as people like it.
func (env *Env) Show(v any, people func(*Page)) error {
	if env.JSON {
		return env.JSONLine(v)
	}
	p := &Page{W: env.Stdout}
	people(p)
	return p.Err
}

// JSONLine prints one JSON object and a newline.
func (env *Env) JSONLine(v any) error {
	enc := json.NewEncoder(env.Stdout)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("print the answer: %w", err)
	}
	return nil
}

// An ErrorLine is an error on stderr with --json.
type ErrorLine struct {
	Error string `json:"error"`
	Code  int    `json:"exit_code"`
}

// Tell tells whoever called what went wrong in a program: a line in JSON, which encodes, or words.
func (env *Env) Tell(program string, line any, words string) {
	if env.JSON {
		b, _ := json.Marshal(line)
		fmt.Fprintf(env.Stderr, "%s\n", b)
		return
	}
	fmt.Fprintf(env.Stderr, "%s: %s\n", program, strings.TrimRight(words, "\n"))
}
