package main

import (
	"context"
	"errors"
	"strings"

	"github.com/urfave/cli/v2"
)

const (
	flagJSON   = "json"
	flagConfig = "config"
	flagSocket = "socket"
)

// realServer is the program: it runs one command line and returns what went wrong.
func realServer(ctx context.Context, env *Env, args []string) error {
	err := newApp(env).RunContext(ctx, append([]string{"realserver"}, args...))
	if err != nil && errors.Is(ctx.Err(), context.Canceled) && exitCode(err) == exitFailed {
		return coded(exitInterrupted, err)
	}
	return err
}

func newApp(env *Env) *cli.App {
	return &cli.App{
		Name:                      "realserver",
		Usage:                     "the agent on a host of real servers: the daemon and its command line",
		Version:                   version(),
		HideVersion:               true, // `realserver version` says more
		HideHelpCommand:           true,
		Commands:                  prepared(env, commands(env)),
		Writer:                    env.Stdout,
		ErrWriter:                 env.Stderr,
		DisableSliceFlagSeparator: true,
		CustomAppHelpTemplate:     appHelp,
		Description:               appDescription,
		ExitErrHandler:            func(*cli.Context, error) {}, // main exits
		Action:                    needsCommand,
		OnUsageError:              wrongUsage,
	}
}

// commands are in the order of the help.
func commands(env *Env) []*cli.Command {
	return []*cli.Command{
		runCommand(env), checkCommand(env), planCommand(env), applyCommand(env), revertCommand(env), doctorCommand(env),
		statusCommand(env), tunnelsCommand(env), completionCommand(env), completeCommand(env), versionCommand(env),
	}
}

// prepared gives all commands what they have in common: --json among it, which errors heed, too.
func prepared(env *Env, list []*cli.Command) []*cli.Command {
	for _, c := range list {
		c.OnUsageError = wrongUsage
		c.CustomHelpTemplate = commandHelp
		c.HideHelpCommand = true
		if !c.SkipFlagParsing {
			c.Flags = append(c.Flags, &cli.BoolFlag{Name: flagJSON, Usage: "print JSON; errors too"})
		}
		for _, f := range c.Flags {
			if b, ok := f.(*cli.BoolFlag); ok {
				b.DisableDefaultText = true // that switches are off by default goes without saying
			}
		}
		c.Before = func(c *cli.Context) error {
			env.JSON = c.Bool(flagJSON)
			return nil
		}
	}
	return list
}

func configFlag() cli.Flag {
	return &cli.StringFlag{Name: flagConfig, Aliases: []string{"c"}, Value: "/etc/tunneldirector/realserver.yaml", Usage: "the host's `FILE`", EnvVars: []string{"REALSERVER_CONFIG"}}
}

func socketFlag() cli.Flag {
	return &cli.StringFlag{Name: flagSocket, Value: defaultSocket, Usage: "unix socket of the daemon, `PATH`", EnvVars: []string{"REALSERVER_SOCKET"}}
}

func wrongUsage(c *cli.Context, err error, _ bool) error {
	name := c.App.Name
	if c.Command != nil && c.Command.HelpName != "" {
		name = c.Command.HelpName
	}
	text := strings.Replace(err.Error(), "flag provided but not defined: -", "there is no flag --", 1)
	return usage("%s: %s; see %s --help", name, text, name)
}

// needsCommand is the action where no command was said.
func needsCommand(c *cli.Context) error {
	if !c.Args().Present() {
		var names []string
		for _, s := range c.App.VisibleCommands() {
			names = append(names, s.Name)
		}
		return usage("realserver needs a command: %s; see realserver --help", strings.Join(names, ", "))
	}
	word := c.Args().First()
	if near := cli.SuggestCommand(c.App.Commands, word); near != "" {
		return usage("realserver has no command %q. %s See realserver --help", word, near)
	}
	return usage("realserver has no command %q; see realserver --help", word)
}

// takes refuses a command line with more arguments than a command takes, or with flags behind them.
func takes(c *cli.Context, most int) error {
	switch n := c.Args().Len(); {
	case n > most && strings.HasPrefix(c.Args().Get(most), "-"):
		return usage("%s: flags stand before what is not a flag; see %s --help", c.Command.HelpName, c.Command.HelpName)
	case n > most && most == 0:
		return usage("%s takes no arguments, but got %q", c.Command.HelpName, c.Args().First())
	case n > most:
		return usage("%s takes %s, but got %d arguments; see %s --help", c.Command.HelpName, c.Command.ArgsUsage, n, c.Command.HelpName)
	}
	return nil
}
