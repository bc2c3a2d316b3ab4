package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"strings"
	"syscall"

	"tunneldirector/cmd/console"
	"tunneldirector/director/api"
)

// exitCodes are what the help says of them.
const exitCodes = `0    done
1    failed: the message says at what; audit: something differs; drill run: it did not pass; trace --live: no packet came
2    wrong usage: nothing was asked of the director
3    refused by the director: each fault is told with field, value, problem and remedy; drill run: it did not begin, or was refused
4    the director cannot be reached
5    done in part: some items were refused, each is told
6    status --check: not ready, or there are alarms; cluster status --check: something is wrong; doctor: something breaks or is at risk
130  interrupted (Ctrl-C)`

// exitCode is the code that an error ends the program with.
func exitCode(err error) int {
	code := console.ExitCode(err)
	var c *console.CodedError
	var p *api.Problem
	if code == console.ExitFailed && !errors.As(err, &c) && errors.As(err, &p) && p.Status >= 400 && p.Status < 500 {
		return console.ExitRefused
	}
	return code
}

// unreachable tells whether an error is about the way to the director and not about what was asked.
func unreachable(err error) bool {
	var op *net.OpError
	var cert *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var dns *net.DNSError
	return errors.As(err, &op) || errors.As(err, &dns) || errors.As(err, &cert) || errors.As(err, &record) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNREFUSED)
}

// report tells an error to whoever called, and returns the exit code.
func report(env *console.Env, err error) int {
	code := exitCode(err)
	if err == nil || err.Error() == "" {
		return code
	}
	text := words(err)
	if code == console.ExitInterrupted {
		text = "interrupted" + unlessCanceled(err)
	}
	env.Tell("director", errorAnswer(err, code), text)
	return code
}

func unlessCanceled(err error) string {
	if s := err.Error(); !strings.Contains(s, context.Canceled.Error()) {
		return ": " + s
	}
	return ""
}

// An errorLine is an error on stderr with --json.
type errorLine struct {
	console.ErrorLine
	Problem *api.Problem `json:"problem,omitempty"`
}

func errorAnswer(err error, code int) errorLine {
	line := errorLine{ErrorLine: console.ErrorLine{Error: words(err), Code: code}}
	if errors.As(err, &line.Problem) {
		line.Error = err.Error()
	}
	return line
}

// words are an error as people read it: a problem has a line for each fault.
func words(err error) string {
	var p *api.Problem
	if errors.As(err, &p) {
		before, after, _ := strings.Cut(err.Error(), p.Error())
		if after = strings.TrimLeft(after, ";:,. \n"); after != "" {
			after = "\n  " + after
		}
		return before + problemWords(p) + after
	}
	return err.Error()
}

func problemWords(p *api.Problem) string {
	var b strings.Builder
	b.WriteString(p.Title)
	if p.Detail != "" {
		b.WriteString(": " + p.Detail)
	}
	for i, e := range p.Errors {
		if i > 0 {
			b.WriteString("\n")
		}
		for _, part := range []struct{ name, text string }{{"field", e.Field}, {"value", e.Value}, {"problem", e.Problem}, {"remedy", e.Remedy}} {
			if part.text != "" {
				fmt.Fprintf(&b, "\n  %-8s %s", part.name, part.text)
			}
		}
	}
	if p.RetryAfter > 0 {
		fmt.Fprintf(&b, "\n  try again in %d s", p.RetryAfter)
	}
	return b.String()
}

// notReached says why a director does not answer and what to do about it.
func notReached(err error, socket string) error {
	if socket == "" {
		return console.Coded(console.ExitUnreachable, fmt.Errorf("%w\nIs the director running there, and does it listen on this address? Its node file says so under api.listen", err))
	}
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		err = fmt.Errorf("%w\nNo director listens on the socket %s. Start one:  director run --config /etc/tunneldirector/director.yaml\nIf it listens elsewhere, say --socket PATH or --server URL", err, socket)
	case errors.Is(err, fs.ErrPermission):
		err = fmt.Errorf("%w\nThe socket %s is not open to this user: run as root, or as a member of the group that api.socket.group names", err, socket)
	}
	return console.Coded(console.ExitUnreachable, err)
}
