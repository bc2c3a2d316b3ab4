package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"tunneldirector/cmd/console"
	"tunneldirector/director/api"
)

// The global flags, and the variables that stand in for them.
const (
	flagSocket    = "socket"
	flagServer    = "server"
	flagTokenFile = "token-file"
	flagCA        = "ca"
	flagJSON      = "json"
	flagTimeout   = "timeout"

	envPrefix = "TUNNELDIRECTOR_"
)

func globalFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: flagSocket, Usage: "unix socket of the director, `PATH` (" + envPrefix + "SOCKET)", DefaultText: api.DefaultSocket},
		&cli.StringFlag{Name: flagServer, Usage: "director to ask instead of the socket's, `URL` like https://director1:8443 (" + envPrefix + "SERVER)"},
		&cli.StringFlag{Name: flagTokenFile, Usage: "`FILE` whose first line is the bearer token (" + envPrefix + "TOKEN_FILE)"},
		&cli.StringFlag{Name: flagCA, Usage: "`FILE` of the certificates (PEM) that may sign the server's; default: the system's (" + envPrefix + "CA)"},
		&cli.BoolFlag{Name: flagJSON, Usage: "print JSON: one object, or one a line for long lists; errors too"},
		&cli.DurationFlag{Name: flagTimeout, Value: 30 * time.Second, Usage: "`DURATION` to wait for an answer, of streams for the first one; 0: for ever"},
	}
}

// A talk is one command's conversation with a director.
type talk struct {
	*console.Env
	*cli.Context // flags and arguments; its Context field is not used
	client       *api.Client
	socket       string // "": it is a URL
}

// asks makes the action of a command that asks a director; --timeout is for all of it.
func asks(env *console.Env, n console.Count, do func(ctx context.Context, t *talk) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		t, err := newTalk(env, c, n)
		if err != nil {
			return err
		}
		ctx, cancel := t.limited(c.Context)
		defer cancel()
		return t.explain(do(ctx, t))
	}
}

// streams makes the action of a command that may take long: only the first answer has a --timeout.
func streams(env *console.Env, n console.Count, do func(ctx context.Context, t *talk) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		t, err := newTalk(env, c, n)
		if err != nil {
			return err
		}
		return t.explain(do(c.Context, t))
	}
}

func newTalk(env *console.Env, c *cli.Context, n console.Count) (*talk, error) {
	if err := n.Check(c); err != nil {
		return nil, err
	}
	t := &talk{Env: env, Context: c}
	o := api.ClientOptions{
		URL: t.global(flagServer), Socket: t.global(flagSocket), TokenFile: t.global(flagTokenFile), CAFile: t.global(flagCA),
	}
	if c.IsSet(flagServer) && c.IsSet(flagSocket) {
		return nil, console.Usage("--server and --socket: say one of them")
	}
	if c.IsSet(flagSocket) { // said now: it goes before a URL of the environment
		o.URL = ""
	}
	if o.URL == "" {
		if t.socket = o.Socket; t.socket == "" {
			t.socket = api.DefaultSocket
		}
		o.Socket = t.socket
	} else if o.TokenFile != "" && !protected(o.URL) {
		return nil, console.Usage("--server %s: a token is not sent without encryption to another host; use https", o.URL)
	}
	var err error
	if t.client, err = api.NewClient(o); err != nil {
		return nil, console.Coded(console.ExitUsage, err)
	}
	return t, nil
}

// global is a global flag's value, else the environment's.
func (t *talk) global(name string) string {
	if v := t.String(name); v != "" {
		return v
	}
	return t.Getenv(envPrefix + strings.ToUpper(strings.ReplaceAll(name, "-", "_")))
}

// protected tells whether what is sent to a URL cannot be read on the way.
func protected(raw string) bool {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme == "https" {
		return true // a bad URL is refused elsewhere
	}
	a, err := netip.ParseAddr(u.Hostname())
	return u.Hostname() == "localhost" || err == nil && a.IsLoopback()
}

// note tells people something beside the answer.
func (t *talk) note(format string, args ...any) {
	if !t.JSON {
		fmt.Fprintf(t.Stderr, format+"\n", args...)
	}
}

func (t *talk) limited(ctx context.Context) (context.Context, context.CancelFunc) {
	d := t.Duration(flagTimeout)
	if d <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, d)
}

// reach finds out whether a director answers, before a stream is begun. Not being ready is an answer.
func (t *talk) reach(ctx context.Context) error {
	ctx, cancel := t.limited(ctx)
	defer cancel()
	err := t.client.Ready(ctx)
	var p *api.Problem
	if errors.As(err, &p) {
		return nil
	}
	return err
}

// explain makes an error of the way to the director say what to do.
func (t *talk) explain(err error) error {
	var p *api.Problem
	var c *console.CodedError
	switch {
	case err == nil, errors.As(err, &p), errors.As(err, &c), errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, context.DeadlineExceeded):
		return notReached(fmt.Errorf("%w: no answer within %s (--timeout)", err, t.Duration(flagTimeout)), t.socket)
	case unreachable(err):
		return notReached(err, t.socket)
	}
	return err
}
