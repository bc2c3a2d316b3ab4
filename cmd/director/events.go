package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"tunneldirector/cmd/console"
	"tunneldirector/director/api"
)

// maxEvents is how many a director tells at once.
const maxEvents = 10_000

func eventsCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "events", Usage: "show what happened, and why",
		Description: console.Describe(`
Shows what the director that is asked has on disk of what it did and saw, the newest last: moves, deaths
and births of real servers, drains, freezes, refused changes, who assigns, which director was heard, who
held which address, failures made for drills, alarms. Each director keeps its own. With --object only
what happened to a tunnel, group, real server, service, director or address, and what was moved from or
to it.

Times are UTC. Where very many events of a kind came at once, above all at a push, a line stands for all
of a second. With --follow it goes on with what happens until Ctrl-C, and connects again when the
connection breaks. With --json an event a line.`,
			"director events --since 2h", "director events --object site-0042", "director events --kind moved --since 2026-01-02T03:00:00Z --until 2026-01-02T04:00:00Z --limit 0", "director events --follow"),
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "since", Usage: "only what happened after `TIME`: a duration before now, as 2h or 3d, or a time, as 2026-01-02T03:04:05Z"},
			&cli.StringFlag{Name: "until", Usage: "only what happened before `TIME`, written in the same ways"},
			&cli.StringSliceFlag{Name: "kind", Usage: "only `KIND`: " + strings.Join(api.EventKinds(), ", ") + "; may be repeated"},
			&cli.StringFlag{Name: "object", Usage: "only what is about `NAME`"},
			&cli.StringFlag{Name: "by", Usage: "only what `NAME` asked for: a token's name, or local"},
			&cli.IntFlag{Name: "limit", Aliases: []string{"n"}, Value: 200, Usage: "the last `N`, up to 10000; 0: all"},
			&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "go on with what happens"},
		},
		Action: streams(env, console.Count{}, func(ctx context.Context, t *talk) error {
			l, err := newEventLister(t)
			if err != nil {
				return err
			}
			if err := t.reach(ctx); err != nil {
				return err
			}
			err = l.run(ctx)
			if ctx.Err() != nil && l.follow {
				return nil // Ctrl-C is how it ends
			}
			return err
		}),
	}
}

// An eventLister prints events, over as many connections as it takes.
type eventLister struct {
	t      *talk
	q      api.EventQuery
	all    bool
	follow bool
	pause  time.Duration // before the next connection; doubled up to maxPause

	printed    int
	unreadable int
	page       api.EventPage // the last
}

func newEventLister(t *talk) (*eventLister, error) {
	l := &eventLister{t: t, follow: t.Bool("follow"), pause: time.Second, q: api.EventQuery{Kinds: t.list("kind"), Object: t.String("object"), By: t.String("by"), Limit: t.Int("limit")}}
	var err error
	if l.q.Since, err = parseTime("since", t.String("since"), t.Now()); err != nil {
		return nil, err
	}
	if l.q.Until, err = parseTime("until", t.String("until"), t.Now()); err != nil {
		return nil, err
	}
	switch {
	case l.q.Limit < 0 || l.q.Limit > maxEvents:
		return nil, console.Usage("--limit %d: is not between 0 (all) and %d", l.q.Limit, maxEvents)
	case l.follow && !l.q.Until.IsZero():
		return nil, console.Usage("--follow and --until: say one of them")
	case l.q.Limit == 0:
		l.all, l.q.Limit, l.q.After = true, maxEvents, "0:0"
	}
	return l, nil
}

// parseTime reads a time, or how long before now; the zero time for nothing.
func parseTime(flag, s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.ParseFloat(days, 64); err == nil && n >= 0 && n < 36500 {
			return now.Add(-time.Duration(n * 24 * float64(time.Hour))), nil
		}
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02 15:04:05Z07:00", time.DateTime, "2006-01-02 15:04", time.DateOnly} {
		if at, err := time.Parse(layout, s); err == nil {
			return at, nil
		}
	}
	return time.Time{}, console.Usage("--%s %s: is neither a duration, as 2h or 3d, nor a time in UTC, as 2026-01-02T03:04:05Z", flag, s)
}

func (l *eventLister) run(ctx context.Context) error {
	for {
		if err := l.connect(ctx, false); err != nil {
			return err
		}
		if !l.all || !l.page.More {
			break
		}
	}
	l.tellPage()
	if !l.follow {
		return nil
	}
	l.q.Since, l.q.Limit = time.Time{}, maxEvents
	for pause := l.pause; ; pause = min(2*pause, maxPause) {
		before := l.printed
		err := l.connect(ctx, true)
		var p *api.Problem
		var c *console.CodedError
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &c), errors.As(err, &p) && p.Status < http.StatusInternalServerError:
			return err
		case l.printed > before:
			pause = l.pause
		}
		l.t.note("connection lost (%v); connecting again", err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// connect prints the events of one connection; the next one goes on after them.
func (l *eventLister) connect(ctx context.Context, follow bool) error {
	for line, err := range l.t.client.Events(ctx, l.q, follow) {
		switch {
		case err != nil:
			return err
		case line.Event != nil:
			l.printed++
			if l.all || follow {
				l.q.After = line.Event.Position
			}
			if err := l.t.Show(line.Event, func(p *console.Page) { p.Line("%s", recordedWords(line.Event)) }); err != nil {
				return console.Coded(console.ExitFailed, err)
			}
		case line.Page != nil:
			if l.page = *line.Page; l.page.Why != "" {
				return errors.New(l.page.Why)
			}
			l.unreadable += l.page.Unreadable
			if l.all || follow || l.follow {
				l.q.After = l.page.End
			}
		}
	}
	return ctx.Err()
}

// tellPage says what stands above, and what does not.
func (l *eventLister) tellPage() {
	if l.printed == 0 {
		l.t.note("director %s has no such events on disk", l.page.Director)
	} else {
		l.t.note("%s of director %s; times are UTC", console.Some(l.printed, "event"), l.page.Director)
	}
	if l.page.More {
		l.t.note("... there are older ones; --limit 0 shows all")
	}
	if l.unreadable > 0 {
		l.t.note("%s cannot be read and left out: a crash tears the last one", console.Some(l.unreadable, "line"))
	}
}

// recordedWords is an event, or a sum of many, in a line.
func recordedWords(e *api.Recorded) string {
	s := e.Time.UTC().Format("2006-01-02 15:04:05.000") + "  " + fmt.Sprintf("%-14s", e.Kind)
	switch {
	case e.Count > 0 && e.First == e.Last:
		s += fmt.Sprintf("  %s times %s", console.Number(e.Count), e.First)
	case e.Count > 0:
		s += fmt.Sprintf("  %s from %s to %s", console.Number(e.Count), e.First, e.Last)
	case e.Object != "":
		s += "  " + e.Object
	}
	switch {
	case e.From != "" && e.To != "" && e.From != e.To:
		s += "  " + e.From + " -> " + e.To
	case e.To != "" && e.To != e.Object:
		s += "  " + e.To
	case e.From != "" && e.From != e.To:
		s += "  was " + e.From
	}
	s += after("  backup ", e.Backup)
	if e.Why != "" {
		s += "  (" + e.Why + ")"
	}
	return s + after("  by ", e.By)
}
