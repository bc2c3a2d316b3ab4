package main

import (
	"context"
	"errors"
	"strings"

	"github.com/urfave/cli/v2"
)

// director is the program: it runs one command line and returns what went wrong.
func director(ctx context.Context, env *Env, args []string) error {
	app := newApp(env)
	err := app.RunContext(ctx, append([]string{app.Name}, arrange(app.Flags, app.Commands, args)...))
	if err != nil && errors.Is(ctx.Err(), context.Canceled) && exitCode(err) == exitFailed {
		return coded(exitInterrupted, err)
	}
	return err
}

func newApp(env *Env) *cli.App {
	app := &cli.App{
		Name:                      "director",
		Usage:                     "balance tunnels over real servers: the daemon and its command line",
		Version:                   version(),
		HideVersion:               true, // `director version` says more
		HideHelpCommand:           true,
		Flags:                     globalFlags(),
		Commands:                  commands(env),
		Reader:                    env.Stdin,
		Writer:                    env.Stdout,
		ErrWriter:                 env.Stderr,
		DisableSliceFlagSeparator: true,
		CustomAppHelpTemplate:     appHelp,
		Description:               appDescription,
		ExitErrHandler:            func(*cli.Context, error) {}, // main exits
		Before: func(c *cli.Context) error {
			env.JSON = c.Bool(flagJSON)
			return nil
		},
		Action:       needsCommand,
		OnUsageError: wrongUsage,
	}
	quiet(app.Flags)
	prepare(app.Commands)
	return app
}

// commands are all nouns, in the order of the help.
func commands(env *Env) []*cli.Command {
	return []*cli.Command{
		runCommand(),
		checkCommand(),
		uninstallCommand(),
		caCommand(env),
		statusCommand(env),
		traceCommand(env),
		auditCommand(env),
		watchCommand(env),
		tunnelCommand(env),
		seenCommand(env),
		realServerCommand(env),
		serviceCommand(env),
		tenantCommand(env),
		applyCommand(env),
		repinCommand(env),
		rebalanceCommand(env),
		freezeCommand(env),
		unfreezeCommand(env),
		completionCommand(env),
		completeCommand(env),
		versionCommand(env),
	}
}

// prepare gives all commands what they have in common.
func prepare(list []*cli.Command) {
	for _, c := range list {
		c.OnUsageError = wrongUsage
		quiet(c.Flags)
		c.HideHelpCommand = true
		if c.Action == nil {
			c.Action = needsCommand
		}
		if c.CustomHelpTemplate == "" {
			c.CustomHelpTemplate = commandHelp
		}
		prepare(c.Subcommands)
	}
}

// quiet keeps the help from saying that switches are off by default.
func quiet(flags []cli.Flag) {
	for _, f := range flags {
		if b, ok := f.(*cli.BoolFlag); ok {
			b.DisableDefaultText = true
		}
	}
}

func wrongUsage(c *cli.Context, err error, _ bool) error {
	name := c.App.Name
	if c.Command != nil && c.Command.HelpName != "" {
		name = c.Command.HelpName
	}
	text := strings.Replace(err.Error(), "flag provided but not defined: -", "there is no flag --", 1)
	return usage("%s: %s; see %s --help", name, text, name)
}

// needsCommand is the action of what only groups commands.
func needsCommand(c *cli.Context) error {
	name, list := c.Command.HelpName, c.Command.Subcommands
	if name == "" {
		name = c.App.Name
	}
	if !c.Args().Present() {
		var names []string
		for _, s := range list {
			if !s.Hidden {
				names = append(names, s.Name)
			}
		}
		return usage("%s needs a command: %s; see %s --help", name, strings.Join(names, ", "), name)
	}
	word := c.Args().First()
	if near := cli.SuggestCommand(list, word); near != "" {
		return usage("%s has no command %q. %s See %s --help", name, word, near, name)
	}
	return usage("%s has no command %q; see %s --help", name, word, name)
}
