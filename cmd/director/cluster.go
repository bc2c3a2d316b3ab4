package main

import (
	"context"

	"github.com/urfave/cli/v2"

	"tunneldirector/cmd/console"
)

func clusterCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "cluster", Usage: "make one table of several directors, and see how they stand",
		Description: console.Describe(`
Several directors hold the same table, and each forwards by it. The first one is made by init; each
other one is invited there and joins here, so that joining is two commands:

  d1# director cluster init --cluster prod --name d1 --listen 10.0.0.1 --write /etc/tunneldirector/director.yaml
  d1# director cluster invite d2 --rank 2 --out d2.invitation
  d2# director cluster join d2.invitation --listen 10.0.0.2 --write /etc/tunneldirector/director.yaml

A director takes part when it is restarted with the section cluster in its file.`,
			"director cluster members", "director cluster status --json", "director cluster keyring rotate"),
		Subcommands: []*cli.Command{
			clusterInitCommand(env),
			clusterInviteCommand(env),
			clusterJoinCommand(env),
			clusterMembersCommand(env),
			clusterStatusCommand(env),
			clusterLeaveCommand(env),
			clusterForgetCommand(env),
			clusterKeyringCommand(env),
		},
	}
}

func clusterLeaveCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "leave", Usage: "have the director go in good order",
		Description: console.Describe(`
The director that is asked says to all others that it goes: they take its addresses over, and the next
one assigns if it did. It goes on forwarding what still comes until its daemon is stopped, which is
the next thing to do. To come back, start the daemon.`,
			"director cluster leave && systemctl stop director"),
		Action: asks(env, console.Count{}, func(ctx context.Context, t *talk) error {
			already, err := t.client.LeaveCluster(ctx)
			if err != nil {
				return err
			}
			return t.Show(map[string]bool{"left": true, "already": already}, func(p *console.Page) {
				if already {
					p.Line("this director has left already; stop its daemon")
					return
				}
				p.Line("this director has left: the others hold its addresses; stop its daemon now")
			})
		}),
	}
}

func clusterForgetCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "forget", Usage: "forget a director that is scrapped", ArgsUsage: "NAME",
		Description: console.Describe(`
All directors forget one that is dead and will not come back: nothing waits for it any more, and what
was deleted need not be remembered for it. A director that is only down for a while needs no forgetting.
Its certificate stays valid until it ends.`,
			"director cluster forget d3"),
		Action: asks(env, console.Count{Min: 1, Max: 1}, func(ctx context.Context, t *talk) error {
			name := t.Args().First()
			if err := t.client.ForgetDirector(ctx, name); err != nil {
				return err
			}
			return t.Show(map[string]string{"forgotten": name}, func(p *console.Page) { p.Line("director %s is forgotten", name) })
		}),
	}
}
