package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/urfave/cli/v2"

	"tunneldirector/cmd/console"
	"tunneldirector/director/api"
)

func watchCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "watch", Usage: "follow placements, moves and real servers' states",
		Description: console.Describe(`
Prints events as they happen, until Ctrl-C. When the connection breaks it connects again and goes on
after the last event that it printed. With --since it begins after a revision, as other commands
print it; if the director does not keep the events after it any more, the exit code is 3.

With --json an event a line, with the revision to go on from.`,
			"director watch", "director watch --since 0f3c…:1234 --json"),
		Flags: []cli.Flag{&cli.StringFlag{Name: "since", Usage: "`REVISION` after which to begin; default: now"}},
		Action: streams(env, console.Count{}, func(ctx context.Context, t *talk) error {
			w := &watcher{t: t, since: t.String("since"), pause: time.Second}
			err := w.run(ctx)
			if ctx.Err() != nil {
				return nil // Ctrl-C is how it ends
			}
			return err
		}),
	}
}

// A watcher prints events, over as many connections as it takes.
type watcher struct {
	t     *talk
	since string        // the last revision that was printed
	pause time.Duration // before the next connection; doubled up to maxPause
}

const maxPause = 16 * time.Second

// A watchLine is an event as `watch` prints it with --json.
type watchLine struct {
	api.Event
	Revision string `json:"revision"`
}

func (w *watcher) run(ctx context.Context) error {
	if w.since == "" {
		// From a known revision on, so that what happens during a broken connection is not missed.
		first, cancel := w.t.limited(ctx)
		defer cancel()
		page, err := w.t.client.TunnelPage(first, api.TunnelFilter{Limit: 1}, "")
		if err != nil {
			return err
		}
		w.since = page.Revision
	} else if err := w.t.reach(ctx); err != nil {
		return err
	}
	w.t.note("watching from revision %s", w.since)
	for pause := w.pause; ; pause = min(2*pause, maxPause) {
		seen, err := w.connect(ctx)
		if err = w.fatal(ctx, err); err != nil {
			return err
		}
		if seen {
			pause = w.pause
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// connect prints the events of one connection; seen: there were some.
func (w *watcher) connect(ctx context.Context) (seen bool, err error) {
	for e, err := range w.t.client.Watch(ctx, w.since) {
		if err != nil {
			return seen, err
		}
		seen, w.since = true, e.Revision
		if err := w.t.Show(watchLine{e.Event, e.Revision}, func(p *console.Page) { p.Line("%s", eventWords(&e.Event)) }); err != nil {
			return seen, console.Coded(console.ExitFailed, err)
		}
	}
	return seen, ctx.Err()
}

// fatal is an error after which connecting again does not help.
func (w *watcher) fatal(ctx context.Context, err error) error {
	var p *api.Problem
	var c *console.CodedError
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &c):
		return err
	case errors.As(err, &p) && p.Status == http.StatusGone:
		return fmt.Errorf("%w\nWhat happened after %s is not known here any more. Export the tunnels again, then watch from the revision that export tells", err, w.since)
	case errors.As(err, &p) && p.Status < http.StatusInternalServerError:
		return err
	}
	w.t.note("connection lost (%v); connecting again, events go on after %s", err, w.since)
	return nil
}

// eventWords is an event in a line.
func eventWords(e *api.Event) string {
	s := e.Time.UTC().Format("15:04:05.000Z") + "  " + fmt.Sprintf("%-14s  %s", e.Kind, e.Object)
	switch {
	case e.From != "" && e.To != "" && e.From != e.To:
		s += "  " + e.From + " -> " + e.To
	case e.To != "":
		s += "  " + e.To
	case e.From != "":
		s += "  was " + e.From
	}
	if e.Backup != "" {
		s += "  backup " + e.Backup
	}
	if e.Why != "" {
		s += "  (" + e.Why + ")"
	}
	return s + after("  by ", e.By)
}
