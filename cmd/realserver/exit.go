package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"
)

// The exit codes. The help lists them: see exitCodes.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitUnreachable = 4
	exitNotWell     = 6
	exitInterrupted = 130 // as shells call a command that SIGINT ended
)

const exitCodes = `0    done
1    failed: the message says at what
2    wrong usage: nothing was done
4    the daemon cannot be reached
6    not all is well: plan --check has changes, doctor found what breaks tunnels, status --check has troubles
130  interrupted (Ctrl-C)`

// A codedError ends the program with its code.
type codedError struct {
	code int
	err  error
}

func (e *codedError) Error() string { return e.err.Error() }
func (e *codedError) Unwrap() error { return e.err }

func coded(code int, err error) error { return &codedError{code, err} }

func usage(format string, args ...any) error { return coded(exitUsage, fmt.Errorf(format, args...)) }

// exitCode is the code that an error ends the program with.
func exitCode(err error) int {
	var c *codedError
	var own cli.ExitCoder
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &c):
		return c.code
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	case errors.As(err, &own):
		return own.ExitCode()
	}
	return exitFailed
}

// report tells an error to whoever called, and returns the exit code.
func report(env *Env, err error) int {
	code := exitCode(err)
	switch {
	case err == nil:
	case env.JSON:
		line, _ := json.Marshal(struct { // it encodes
			Error string `json:"error"`
			Code  int    `json:"exit_code"`
		}{err.Error(), code})
		fmt.Fprintf(env.Stderr, "%s\n", line)
	default:
		fmt.Fprintf(env.Stderr, "realserver: %s\n", strings.TrimRight(err.Error(), "\n"))
	}
	return code
}
