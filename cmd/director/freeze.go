package main

import (
	"context"

	"github.com/urfave/cli/v2"

	"tunneldirector/cmd/console"
	"tunneldirector/director/api"
)

func freezeCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "freeze", Usage: "stop automatic moves while people work",
		Description: console.Describe(`
Stops the director from moving tunnels by itself, also over restarts, until freeze --off. A real server
that dies meanwhile is NOT failed over: its tunnels are down until then. New tunnels are still placed;
what an operator asks for is still done.`,
			"director freeze", "director freeze --off"),
		Flags: []cli.Flag{&cli.BoolFlag{Name: "off", Usage: "allow automatic moves again"}},
		Action: asks(env, console.Count{}, func(ctx context.Context, t *talk) error {
			return t.freeze(ctx, !t.Bool("off"))
		}),
	}
}

func unfreezeCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "unfreeze", Usage: "allow automatic moves again",
		Description: console.Describe(`The same as director freeze --off.`, "director unfreeze"),
		Action: asks(env, console.Count{}, func(ctx context.Context, t *talk) error {
			return t.freeze(ctx, false)
		}),
	}
}

func (t *talk) freeze(ctx context.Context, on bool) error {
	if err := t.client.Freeze(ctx, on); err != nil {
		return err
	}
	return t.Show(api.Frozen{Frozen: on}, func(p *console.Page) {
		if on {
			p.Line("frozen: tunnels are not moved automatically; end it with director unfreeze")
		} else {
			p.Line("not frozen: tunnels are moved automatically where they must")
		}
	})
}
