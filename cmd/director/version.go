package main

import (
	"context"

	"github.com/urfave/cli/v2"

	"tunneldirector/cmd/console"
)

// A versionAnswer is what `version` prints with --json.
type versionAnswer struct {
	console.VersionAnswer
	Director string `json:"director,omitempty"`
}

func versionCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name:  "version",
		Usage: "tell the version of this program",
		Description: console.Describe(`
Prints the version of this program, and with --remote that of the running director too: after an
upgrade they differ until the daemon is restarted.`,
			"director version", "director version --remote --json"),
		Flags: []cli.Flag{&cli.BoolFlag{Name: "remote", Usage: "ask the running director too"}},
		Action: asks(env, console.Count{}, func(ctx context.Context, t *talk) error {
			a := versionAnswer{VersionAnswer: console.ThisVersion()}
			if t.Bool("remote") {
				s, err := t.client.Status(ctx)
				if err != nil {
					return err
				}
				a.Director = s.Version
			}
			return t.Show(a, func(p *console.Page) {
				a.Line(p, "director")
				if a.Director != "" {
					p.Line("running  %s", a.Director)
				}
			})
		}),
	}
}
