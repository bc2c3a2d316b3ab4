package main

import (
	"github.com/urfave/cli/v2"

	"tunneldirector/cmd/console"
)

func versionCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "version", Usage: "tell the version of this program",
		Description: console.Describe(`Prints the version of this program; that of a running agent is in its status.`, "realserver version", "realserver version --json"),
		Action: func(c *cli.Context) error {
			if err := takes(c, 0); err != nil {
				return err
			}
			a := console.ThisVersion()
			return env.Show(a, func(p *console.Page) { a.Line(p, "realserver") })
		},
	}
}
