package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"tunneldirector/cmd/console"
	"tunneldirector/realserver"
)

func completionCommand(env *console.Env) *cli.Command {
	return console.CompletionCommand(env, "realserver", `
Prints a script for the shell. Commands, flags and, where the agent runs, names of real servers are
completed.`)
}

func completeCommand(env *console.Env) *cli.Command {
	return console.CompleteCommand(env, "realserver", "tunnels r", func(ctx context.Context, app *cli.App, before []string, word string) []console.Choice {
		return choices(ctx, env, app.Commands, before, word)
	})
}

// choices are what may follow some words, with what they mean.
func choices(ctx context.Context, env *console.Env, all []*cli.Command, before []string, word string) (out []console.Choice) {
	if len(before) == 0 {
		return console.CommandChoices(all)
	}
	i := slices.IndexFunc(all, func(c *cli.Command) bool { return c.Name == before[0] })
	switch {
	case i < 0:
		return nil
	case strings.HasPrefix(word, "-"):
		return console.FlagChoices(all[i].Flags)
	case before[0] == "completion":
		return []console.Choice{{Word: "bash"}, {Word: "zsh"}, {Word: "fish"}}
	case before[0] == "tunnels" && !slices.Contains([]string{"--socket", "-socket"}, before[len(before)-1]):
		return names(ctx, socketOf(env, before))
	}
	return nil
}

// socketOf is the daemon's socket that some words, or the environment, name.
func socketOf(env *console.Env, words []string) string {
	for i, w := range words {
		if name, value, has := strings.Cut(strings.TrimLeft(w, "-"), "="); name == flagSocket && has {
			return value
		} else if name == flagSocket && i+1 < len(words) {
			return words[i+1]
		}
	}
	if s := env.Getenv("REALSERVER_SOCKET"); s != "" {
		return s
	}
	return defaultSocket
}

// names are the real servers that a daemon looks after. Errors are no names: completion stays silent.
func names(ctx context.Context, socket string) (out []console.Choice) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var s realserver.Status
	if ask(ctx, socket, "/status", &s) != nil {
		return nil
	}
	for _, r := range s.RealServers {
		out = append(out, console.Choice{Word: r.Name, Means: r.Terminator + ", " + r.Health})
	}
	return out
}
