package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"tunneldirector/cmd/console"
	"tunneldirector/director/api"
)

// A drainWatch tells how far drains are: on a terminal by a bar, elsewhere by a line now and then. One goroutine owns it.
type drainWatch struct {
	t     *talk
	names []string // not empty yet
	every time.Duration
	told  map[string]tellDrain
	bar   *progress
	shown int64 // of the bar
	lost  bool
}

// A tellDrain is what was told of a drain last.
type tellDrain struct {
	left  uint32
	stuck string
	at    time.Time
}

// tellEvery is how often a line is printed of what goes on as expected.
const tellEvery = 10 * time.Second

// A drainLine is what `drain --watch` prints with --json.
type drainLine struct {
	RealServer string           `json:"real_server"`
	Empty      bool             `json:"empty"`
	Drain      *api.DrainStatus `json:"drain"`
}

// run returns when the real servers are empty, when one of them is not drained any more, or when ctx ends.
func (w *drainWatch) run(ctx context.Context) error {
	defer func() {
		if w.bar != nil {
			w.bar.done()
		}
	}()
	tick := time.NewTicker(w.every)
	defer tick.Stop()
	for {
		list, err := w.servers(ctx)
		if err == nil {
			err = w.tell(list)
		}
		if err = w.fatal(ctx, err); err != nil || len(w.names) == 0 {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// fatal is an error that ends the watching. What does not answer is asked again.
func (w *drainWatch) fatal(ctx context.Context, err error) error {
	var p *api.Problem
	var c *console.CodedError
	switch {
	case ctx.Err() != nil:
		w.t.note("the drain goes on; director realserver undrain ends it")
		return ctx.Err()
	case err == nil:
		w.lost = false
		return nil
	case errors.As(err, &c), errors.As(err, &p) && p.Status < http.StatusInternalServerError:
		return err
	case !w.lost:
		w.lost = true
		w.t.note("connection lost (%v); asking again, the drain goes on", err)
	}
	return nil
}

func (w *drainWatch) servers(ctx context.Context) ([]api.RealServerState, error) {
	ctx, cancel := w.t.limited(ctx)
	defer cancel()
	return w.t.client.RealServers(ctx)
}

// tell tells what changed, and takes those off the list that are empty.
func (w *drainWatch) tell(list []api.RealServerState) error {
	var all, left int64
	var open []string
	for _, name := range w.names {
		i := slices.IndexFunc(list, func(r api.RealServerState) bool { return r.Name == name })
		if i < 0 {
			return console.Coded(console.ExitFailed, fmt.Errorf("real server %s was removed meanwhile", name))
		}
		if list[i].Status == nil || list[i].Status.Drain == nil {
			return console.Coded(console.ExitFailed, fmt.Errorf("real server %s is not emptied any more: somebody changed its drain", name))
		}
		d := list[i].Status.Drain
		all, left = all+int64(max(d.Of, d.Left)), left+int64(d.Left)
		if err := w.one(name, d); err != nil {
			return console.Coded(console.ExitFailed, err)
		}
		if d.Left > 0 {
			open = append(open, name)
		}
	}
	w.names = open
	w.advance(all, all-left)
	return nil
}

func (w *drainWatch) one(name string, d *api.DrainStatus) error {
	now, was := w.t.Now(), w.told[name]
	first := was.at.IsZero()
	changed := d.Left != was.left && (w.t.JSON || !w.onTerminal()) && now.Sub(was.at) >= tellEvery
	if !first && !changed && d.Stuck == was.stuck && d.Left > 0 {
		return nil
	}
	w.told[name] = tellDrain{d.Left, d.Stuck, now}
	if first && d.Left > 0 {
		return nil // the drain was told just now
	}
	if w.bar != nil {
		w.bar.clear()
	}
	return w.t.Show(drainLine{name, d.Left == 0, d}, func(p *console.Page) { p.Line("%s: %s", name, drainWords(now, d)) })
}

func (w *drainWatch) onTerminal() bool { return w.t.IsTerminal(w.t.Stderr) }

// advance moves the bar. A real server that is empty leaves its count on it.
func (w *drainWatch) advance(all, done int64) {
	if w.bar == nil {
		w.bar = w.t.progress(all, "draining", false)
		w.bar.add(0) // it is there before the first one moves
	}
	if done > w.shown {
		w.bar.add(int(done - w.shown))
		w.shown = done
	}
}
