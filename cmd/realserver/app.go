package main

import (
	"context"
	"errors"
	"strings"

	"github.com/urfave/cli/v2"

	"tunneldirector/cmd/console"
)

const (
	flagJSON   = "json"
	flagConfig = "config"
	flagSocket = "socket"
)

// realServer is the program: it runs one command line and returns what went wrong.
func realServer(ctx context.Context, env *console.Env, args []string) error {
	err := newApp(env).RunContext(ctx, append([]string{"realserver"}, args...))
	if err != nil && errors.Is(ctx.Err(), context.Canceled) && console.ExitCode(err) == console.ExitFailed {
		return console.Coded(console.ExitInterrupted, err)
	}
	return err
}

func newApp(env *console.Env) *cli.App {
	return console.NewApp(env, console.Program{
		Name: "realserver", Usage: "the agent on a host of real servers: the daemon and its command line", Description: appDescription,
		ExitCodes: exitCodes, Commands: withJSON(env, commands(env)),
	})
}

// commands are in the order of the help.
func commands(env *console.Env) []*cli.Command {
	return []*cli.Command{
		runCommand(env), checkCommand(env), planCommand(env), applyCommand(env), revertCommand(env), doctorCommand(env),
		statusCommand(env), tunnelsCommand(env), undoFaultsCommand(env), completionCommand(env), completeCommand(env), versionCommand(env),
	}
}

// withJSON gives all commands --json, which errors heed, too.
func withJSON(env *console.Env, list []*cli.Command) []*cli.Command {
	for _, c := range list {
		if !c.SkipFlagParsing {
			c.Flags = append(c.Flags, &cli.BoolFlag{Name: flagJSON, Usage: "print JSON; errors too"})
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

// takes refuses a command line with more arguments than a command takes, or with flags behind them.
func takes(c *cli.Context, most int) error {
	if behind := c.Args().Get(most); strings.HasPrefix(behind, "-") {
		return console.Usage("%s: flags stand before what is not a flag; see %s --help", c.Command.HelpName, c.Command.HelpName)
	}
	return console.Count{Max: most}.Check(c)
}
