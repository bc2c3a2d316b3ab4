package main

import (
	"context"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"tunneldirector/cmd/console"
	"tunneldirector/director/api"
)

func seenCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "seen", Usage: "compare the tunnels that agents see with those that are wanted",
		Description: console.Describe(`
Lists what the agents on real servers see of tunnels where it is not as wanted:

  wrong-place  established at another real server than its packets go to
  unknown      established, and of no tunnel that was announced
  not-up       the NMS says up, and the agent of its real server does not see it
  right        established where it is wanted; only listed with --state right

What was moved seconds ago is in the wrong place until the successor has it.`,
			"director seen", "director seen --state wrong-place --realserver rs1", "director seen --state right --json"),
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "state", Usage: "only `STATE`: right, wrong-place, unknown or not-up; may be repeated; default: all but right"},
			&cli.StringFlag{Name: "realserver", Aliases: []string{"rs"}, Usage: "only what is established at, or wanted at, the real server `NAME`"},
			&cli.IntFlag{Name: "limit", Aliases: []string{"n"}, Value: 1000, Usage: "at most `N`, up to 100000"},
		},
		Action: asks(env, console.Count{}, listSeen),
	}
}

func listSeen(ctx context.Context, t *talk) error {
	if t.Int("limit") < 1 {
		return console.Usage("--limit %d: is not at least 1", t.Int("limit"))
	}
	f := api.SeenFilter{States: t.list("state"), RealServer: t.String("realserver"), Limit: t.Int("limit")}
	list, err := t.client.Seen(ctx, f)
	if err != nil {
		return err
	}
	why := ""
	if len(list.Seen) == 0 {
		if why, err = t.noSeen(ctx, len(f.States) == 0); err != nil {
			return err
		}
	}
	return t.Show(list, func(p *console.Page) {
		if len(list.Seen) == 0 {
			t.note("%s", why)
			return
		}
		seenTable(p, t.Now(), list.Seen)
		if list.More {
			t.note("... there are more; --limit 100000 lists as many as can be")
		}
	})
}

// noSeen says why there is nothing to list.
func (t *talk) noSeen(ctx context.Context, allWrong bool) (string, error) {
	heard, err := t.heard(ctx)
	switch {
	case err != nil:
		return "", err
	case !heard:
		return noAgents, nil
	case allWrong:
		return "all tunnels that agents see are where they are wanted", nil
	}
	return "agents see no such tunnels", nil
}

const noAgents = "no agent of a real server has spoken to this director. Agents dial in where its node file says so, under agents: with listen and tls; " +
	"certificates are made by director ca"

// heard tells whether any agent ever spoke to the director.
func (t *talk) heard(ctx context.Context) (bool, error) {
	list, err := t.client.RealServers(ctx)
	for _, r := range list {
		if r.Status != nil && r.Status.Agent != nil {
			return true, nil
		}
	}
	return false, err
}

func seenTable(p *console.Page, now time.Time, list []api.SeenTunnel) {
	var rows [][]string
	for _, s := range list {
		rows = append(rows, []string{s.State, s.Tunnel, s.At, s.Pinned, s.Endpoint, someNames(s.Subnets, 2), s.Peer, agoWord(now, s.Since), agoWord(now, s.Last)})
	}
	p.Table([]console.Column{{Name: "state"}, {Name: "tunnel"}, {Name: "established at"}, {Name: "wanted at"}, {Name: "endpoint"}, {Name: "subnets"}, {Name: "peer"},
		{Name: "since"}, {Name: "last packet"}}, rows)
}

func agoWord(now time.Time, at *time.Time) string {
	if at == nil {
		return ""
	}
	return console.Ago(now, *at)
}

func realServerOrdersCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "orders", Usage: "list what agents were ordered to do with tunnels", ArgsUsage: "[NAME]",
		Description: console.Describe(`
Lists the orders of the last 15 minutes to the agent of a real server, or to all, open ones first:
adopt (establish a tunnel that comes from another real server) and release (give one up, so that the
site knows at once). Outcomes: unsent (the agent is silent), sent, queued, trying, done, waiting (the
terminator cannot begin: the site has to dial), failed.`,
			"director realserver orders", "director realserver orders rs2 --open"),
		Flags: []cli.Flag{&cli.BoolFlag{Name: "open", Usage: "only those that more is to come of"},
			&cli.IntFlag{Name: "limit", Aliases: []string{"n"}, Value: 1000, Usage: "at most `N`, up to 100000"}},
		Action: asks(env, console.Count{Max: 1}, listOrders),
	}
}

func listOrders(ctx context.Context, t *talk) error {
	if t.Int("limit") < 1 {
		return console.Usage("--limit %d: is not at least 1", t.Int("limit"))
	}
	list, err := t.client.Orders(ctx, t.Args().First(), t.Bool("open"), t.Int("limit"))
	if err != nil {
		return err
	}
	why := "no such orders in the last 15 minutes"
	if len(list.Orders) == 0 {
		if heard, err := t.heard(ctx); err != nil {
			return err
		} else if !heard {
			why = noAgents
		}
	}
	return t.Show(list, func(p *console.Page) {
		if len(list.Orders) == 0 {
			t.note("%s", why)
			return
		}
		orderTable(p, t.Now(), list.Orders)
		if list.More {
			t.note("... there are more; --limit 100000 lists as many as can be")
		}
	})
}

func orderTable(p *console.Page, now time.Time, list []api.Order) {
	var rows [][]string
	counts := map[string]int{}
	for _, o := range list {
		counts[o.Outcome]++
		rows = append(rows, []string{o.RealServer, o.Kind, o.Tunnel, o.Endpoint, o.Outcome, console.Ago(now, o.Ordered), console.Ago(now, o.Changed), o.Why})
	}
	p.Table([]console.Column{{Name: "real server"}, {Name: "order"}, {Name: "tunnel"}, {Name: "endpoint"}, {Name: "outcome"}, {Name: "ordered"}, {Name: "changed"}, {Name: "why"}}, rows)
	line := ""
	for _, outcome := range []string{"unsent", "sent", "queued", "trying", "done", "waiting", "failed"} {
		if n := counts[outcome]; n > 0 {
			line += fmt.Sprintf(", %s %s", console.Number(n), outcome)
		}
	}
	p.Line("%s: %s", console.Some(len(list), "order"), line[2:])
}
