package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/urfave/cli/v2"

	"tunneldirector/cmd/console"
	"tunneldirector/director/api"
)

func repinCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "repin", Usage: "move a tunnel or a group, up or not", ArgsUsage: "TUNNEL|@GROUP",
		Description: console.Describe(`
Moves a tunnel at once to the real server that --to names, or to whichever is best. It is interrupted
if it is up: its site must establish it anew. A tunnel of a group moves with its whole group, which
may also be named as @GROUP.`,
			"director repin site-0042 --to rs3", "director repin @branch-7", "director repin site-0042 --idle"),
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "to", Usage: "real server `NAME`; default: whichever is best"},
			&cli.BoolFlag{Name: "idle", Usage: "only if it is not up"},
		},
		Action: asks(env, console.Count{Min: 1, Max: 1}, repin),
	}
}

// A repinLine is what `repin` prints with --json.
type repinLine struct {
	api.RepinAnswer
	From string `json:"from,omitempty"`
}

func repin(ctx context.Context, t *talk) error {
	name := t.Args().First()
	group, from, err := t.groupOf(ctx, name)
	if err != nil {
		return err
	}
	a, err := t.client.Repin(ctx, group, api.RepinRequest{To: t.String("to"), Idle: t.Bool("idle")})
	if err != nil {
		return err
	}
	what := "tunnel " + name
	if g, ok := strings.CutPrefix(group, "@"); ok {
		what = "group " + g
	}
	return t.Show(repinLine{a, from}, func(p *console.Page) {
		switch {
		case !a.Changed:
			p.Line("%s stays: %s", what, placementWords(a.Placement))
		case from != "":
			p.Line("%s moved from %s: %s", what, from, placementWords(a.Placement))
		default:
			p.Line("%s moved: %s", what, placementWords(a.Placement))
		}
	})
}

// groupOf finds the group of a tunnel, and the real server where it is now.
func (t *talk) groupOf(ctx context.Context, name string) (group, from string, err error) {
	if strings.HasPrefix(name, "@") {
		return name, "", nil
	}
	s, err := t.client.Tunnel(ctx, name)
	var p *api.Problem
	switch {
	case errors.As(err, &p) && p.Status == http.StatusNotFound:
		return "", "", fmt.Errorf("%w; a group is written @%s", err, name)
	case err != nil:
		return "", "", err
	}
	if s.Placement != nil {
		from = s.Placement.RealServer
	}
	if s.Group == "" {
		return name, from, nil
	}
	t.note("tunnel %s is of group %s, which moves as a whole", name, s.Group)
	return "@" + s.Group, from, nil
}
