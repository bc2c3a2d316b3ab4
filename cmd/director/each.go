package main

import (
	"context"
	"errors"
	"fmt"

	"tunneldirector/cmd/console"
	"tunneldirector/director/api"
)

// each does something to each name, within --timeout each. What the director refuses does not stop the rest: it is told,
// and the exit code says whether all or some was refused.
func (t *talk) each(ctx context.Context, names []string, do func(context.Context, string) error) error {
	refused := 0
	for _, name := range names {
		one, cancel := t.limited(ctx)
		err := do(one, name)
		cancel()
		var p *api.Problem
		if err != nil && !(errors.As(err, &p) && p.Status < 500 && len(names) > 1) {
			return err
		}
		if err != nil {
			refused++
			report(t.Env, fmt.Errorf("%s: %w", name, err))
		}
	}
	return partly(refused, len(names))
}

// partly is the exit of something done to many of which some were refused and told.
func partly(refused, all int) error {
	switch {
	case refused == 0:
		return nil
	case refused == all:
		return console.Coded(console.ExitRefused, nil)
	}
	return console.Coded(console.ExitPartly, nil)
}
