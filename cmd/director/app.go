package main

import (
	"context"
	"errors"

	"github.com/urfave/cli/v2"

	"tunneldirector/cmd/console"
)

// director is the program: it runs one command line and returns what went wrong.
func director(ctx context.Context, env *console.Env, args []string) error {
	app := newApp(env)
	err := app.RunContext(ctx, append([]string{app.Name}, arrange(app.Flags, app.Commands, args)...))
	if err != nil && errors.Is(ctx.Err(), context.Canceled) && exitCode(err) == console.ExitFailed {
		return console.Coded(console.ExitInterrupted, err)
	}
	return err
}

func newApp(env *console.Env) *cli.App {
	app := console.NewApp(env, console.Program{
		Name: "director", Usage: "balance tunnels over real servers: the daemon and its command line", Description: appDescription,
		ExitCodes: exitCodes, Flags: globalFlags(), Commands: commands(env),
	})
	app.Before = func(c *cli.Context) error {
		env.JSON = c.Bool(flagJSON)
		return nil
	}
	return app
}

// commands are all nouns, in the order of the help.
func commands(env *console.Env) []*cli.Command {
	return []*cli.Command{
		runCommand(),
		checkCommand(env),
		uninstallCommand(),
		caCommand(env),
		clusterCommand(env),
		statusCommand(env),
		traceCommand(env),
		doctorCommand(env),
		auditCommand(env),
		blackBoxCommand(env),
		drillCommand(env),
		watchCommand(env),
		eventsCommand(env),
		tunnelCommand(env),
		seenCommand(env),
		realServerCommand(env),
		serviceCommand(env),
		tenantCommand(env),
		applyCommand(env),
		exportCommand(env),
		importCommand(env),
		repinCommand(env),
		rebalanceCommand(env),
		freezeCommand(env),
		unfreezeCommand(env),
		completionCommand(env),
		completeCommand(env),
		continueCommandOf(env),
		versionCommand(env),
	}
}
