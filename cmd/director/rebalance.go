package main

import (
	"context"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"tunneldirector/cmd/console"
	"tunneldirector/director/api"
)

func rebalanceCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "rebalance", Usage: "even out the load by moving tunnels that are not up",
		Description: console.Describe(`
Moves groups that are not up to where the service's placement would put them now, the most useful
moves first, at a rate. What is up stays, and so does what comes up meanwhile. Ctrl-C stops it; what
was moved stays moved. Plane ipvs sees no packets, so nobody could tell what is not up: it is refused
there, and repin moves tunnels one by one.`,
			"director rebalance --dry-run", "director rebalance --service ipsec --rate 50/s --limit 1000"),
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "service", Usage: "only the service `NAME`"},
			&cli.BoolFlag{Name: "dry-run", Usage: "move nothing, tell what would"},
			&cli.StringFlag{Name: "rate", Value: "100/s", Usage: "at most `N/s` groups"},
			&cli.IntFlag{Name: "limit", Usage: "at most `N` groups; 0: no limit"},
		},
		Action: streams(env, console.Count{}, rebalance),
	}
}

func rebalance(ctx context.Context, t *talk) error {
	rate, err := strconv.ParseFloat(strings.TrimSuffix(t.String("rate"), "/s"), 64)
	if err != nil || !(rate > 0) {
		return console.Usage("--rate %s: is not a number of groups a second, like 50/s", t.String("rate"))
	}
	if t.Int("limit") < 0 {
		return console.Usage("--limit %d: is negative; 0 is no limit", t.Int("limit"))
	}
	if err := t.reach(ctx); err != nil {
		return err
	}
	dry, moved := t.Bool("dry-run"), 0
	sum, err := t.client.Rebalance(ctx, api.RebalanceRequest{Service: t.String("service"), Rate: rate, Limit: t.Int("limit"), DryRun: dry}, func(l api.RebalanceLine) {
		if l.Error == nil {
			moved++
		}
		_ = t.Show(l, func(p *console.Page) { p.Line("%s", moveWords(l, dry)) }) // the sum fails too
	})
	if err != nil {
		if ctx.Err() != nil {
			t.note("%s moved; the rest stays where it is", console.Some(moved, "group"))
		}
		return err
	}
	err = t.Show(api.RebalanceLine{Summary: &sum}, func(p *console.Page) {
		switch {
		case sum.Planned == 0:
			p.Line("nothing to move: what is not up is spread evenly already")
		case dry:
			p.Line("dry run, nothing was moved: %s would", console.Some(sum.Planned, "group"))
		default:
			p.Line("%s moved, %s stayed, of %s planned, in %.1f s", console.Some(sum.Moved, "group"), console.Number(sum.Refused), console.Number(sum.Planned), sum.Seconds)
		}
	})
	if err == nil && sum.Refused > 0 {
		return console.Coded(console.ExitPartly, nil)
	}
	return err
}

func moveWords(l api.RebalanceLine, dry bool) string {
	switch {
	case l.Error != nil:
		return l.Group + ": stays at " + orWord(l.From, "no real server") + ": " + l.Error.Error()
	case dry:
		return l.Group + ": " + orWord(l.From, "unplaced") + " -> " + orWord(l.To, "whichever is best")
	}
	return l.Group + ": " + orWord(l.From, "unplaced") + " -> " + l.To
}
