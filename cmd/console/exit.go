package console

import (
	"context"
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"
)

// The exit codes. A program has some of them, and its help says of what.
const (
	ExitOK          = 0
	ExitFailed      = 1
	ExitUsage       = 2
	ExitRefused     = 3
	ExitUnreachable = 4
	ExitPartly      = 5
	ExitNotWell     = 6
	ExitInterrupted = 130 // as shells call a command that SIGINT ended
)

// A CodedError ends the program with its code. Without a message it was told already.
type CodedError struct {
	code int
	err  error
}

func (e *CodedError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *CodedError) Unwrap() error { return e.err }

// Coded makes an error, which may be nil, end the program with a code.
func Coded(code int, err error) error { return &CodedError{code, err} }

// Usage is an error about the command line.
func Usage(format string, args ...any) error { return Coded(ExitUsage, fmt.Errorf(format, args...)) }

// ExitCode is the code that an error ends the program with.
func ExitCode(err error) int {
	var c *CodedError
	var own cli.ExitCoder
	switch {
	case err == nil:
		return ExitOK
	case errors.As(err, &c):
		return c.code
	case errors.Is(err, context.Canceled):
		return ExitInterrupted
	case errors.As(err, &own): // the library's own: it knows no such command, and would exit with what here means refused
		return ExitUsage
	}
	return ExitFailed
}
