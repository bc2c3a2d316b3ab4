package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"tunneldirector/cmd/console"
	"tunneldirector/director/api"
)

func drillFaultsCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "faults", Usage: "show the failures that are made on purpose now",
		Description: console.Describe(`
Shows what is in place at all live directors, and who asked for it. Each ends by itself in time.`, "director drill faults"),
		Action: asks(env, console.Count{}, func(ctx context.Context, t *talk) error {
			l, err := t.client.Faults(ctx)
			if err != nil {
				return err
			}
			return t.Show(l, func(p *console.Page) { faultsPage(p, t.Now(), &l) })
		}),
	}
}

func faultsPage(p *console.Page, now time.Time, l *api.FaultList) {
	if len(l.Faults) == 0 {
		p.Line("nothing is made to fail now")
	} else {
		var rows [][]string
		for _, f := range l.Faults {
			rows = append(rows, []string{f.ID, f.Kind, f.Target, f.By, console.Ago(now, f.At), until(now, f.Until), f.Director, f.Error})
		}
		p.Table([]console.Column{{Name: "id"}, {Name: "kind"}, {Name: "of"}, {Name: "asked by"}, {Name: "made"}, {Name: "ends"}, {Name: "director"}, {Name: "why it does not end"}}, rows)
	}
	for _, s := range l.Silent {
		p.Line("director %s was not asked: %s", s.Director, s.Why)
	}
}

// faultsWords are in a line what is in place at a director; nothing where nothing is.
func faultsWords(list []api.FaultInPlace) string {
	var out []string
	for _, f := range list {
		s := f.Kind + after(" of ", f.Target) + " until " + f.Until.UTC().Format(time.TimeOnly) + " UTC" + after(", by ", f.By)
		out = append(out, s+after(", NOT undone: ", f.Error))
	}
	if len(out) == 0 {
		return ""
	}
	return strings.Join(out, "; ") + "; director drill undo ends them"
}

func drillUndoCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "undo", Usage: "end failures that are made on purpose", ArgsUsage: "[ID...]",
		Description: console.Describe(`
Ends those of these ids, or all that are in place. A director or a host that its failure keeps from
answering ends it by itself when its time is over.`, "director drill undo"),
		Action: asks(env, console.Count{Max: -1}, undoFaults),
	}
}

// An undone fault is what `drill undo` prints with --json.
type undone struct {
	ID      string `json:"id"`
	Already bool   `json:"already"`
}

func undoFaults(ctx context.Context, t *talk) error {
	l, err := t.client.Faults(ctx)
	if err != nil {
		return err
	}
	ids := t.Args().Slice()
	if len(ids) == 0 {
		for _, f := range l.Faults {
			ids = append(ids, f.ID)
		}
	}
	if len(ids) == 0 {
		return t.Show([]undone{}, func(p *console.Page) { faultsPage(p, t.Now(), &l) })
	}
	return t.each(ctx, ids, func(ctx context.Context, id string) error {
		target, words := "", "fault "+id
		if i := slices.IndexFunc(l.Faults, func(f api.FaultInPlace) bool { return f.ID == id }); i >= 0 {
			target = l.Faults[i].Target
			words = l.Faults[i].Kind + after(" of ", target) + " (" + id + ")"
		}
		already, err := t.client.UndoFault(ctx, id, target)
		if err != nil {
			return err
		}
		return t.Show(undone{id, already}, func(p *console.Page) {
			if already {
				p.Line("%s was not in place", words)
			} else {
				p.Line("%s undone", words)
			}
		})
	})
}
