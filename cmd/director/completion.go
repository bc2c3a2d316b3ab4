package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"tunneldirector/cluster/ca"
	"tunneldirector/cmd/console"
	"tunneldirector/director/api"
	"tunneldirector/director/config"
	"tunneldirector/director/drill"
)

func completionCommand(env *console.Env) *cli.Command {
	return console.CompletionCommand(env, "director", `
Prints a script for the shell. Commands, flags and, where a director is reachable, the names of real
servers, services, tenants, tunnels and recordings are completed.`)
}

func completeCommand(env *console.Env) *cli.Command {
	return console.CompleteCommand(env, "director", "realserver drain r", func(ctx context.Context, app *cli.App, before []string, word string) []console.Choice {
		return completer{env: env, app: app}.choices(ctx, before, word)
	})
}

type completer struct {
	env *console.Env
	app *cli.App
}

// choices are what may follow some words, not all of which begin as the word does.
func (k completer) choices(ctx context.Context, before []string, word string) []console.Choice {
	a := arranger{root: k.app.Flags, subcommands: k.app.Commands}
	for i := 0; i < len(before); i++ {
		if arg := before[i]; len(arg) > 1 && arg[0] == '-' {
			following := before[i+1:]
			if len(following) == 0 {
				if f := k.open(&a, arg); f != "" {
					return k.values(ctx, before, kindOf(a.path, f), word)
				}
			}
			i += a.flag(arg, following)
		} else {
			a.word(arg)
		}
	}
	switch {
	case strings.HasPrefix(word, "-"):
		return console.FlagChoices(append(slices.Clone(a.commandFlags()), k.app.Flags...))
	case len(a.subcommands) > 0:
		return console.CommandChoices(a.subcommands)
	case a.command == nil:
		return nil
	}
	return k.values(ctx, before, argumentOf(strings.Join(a.path, " "), len(a.rest)), word)
}

// open is the name of a flag whose value comes next; "" if none does.
func (k completer) open(a *arranger, arg string) string {
	name, _, hasValue := strings.Cut(strings.TrimLeft(arg, "-"), "=")
	f := findFlag(a.commandFlags(), name)
	if f == nil {
		f = findFlag(a.root, name)
	}
	if f == nil || hasValue || !takesValue(f) {
		return ""
	}
	return f.Names()[0]
}

// kindOf is what a flag's values are. A flag of one name is of one kind, but for one.
func kindOf(path []string, flag string) string {
	switch {
	case len(path) > 0 && path[0] == "seen" && flag == "state":
		return "seen"
	case len(path) > 0 && path[0] == "drill" && flag == "target":
		return "realserver"
	}
	return flag
}

// argumentOf says what the nth argument of a command is, by the name of a flag of the same kind.
func argumentOf(path string, n int) string {
	noun, verb, _ := strings.Cut(path, " ")
	switch {
	case noun == "completion" && n == 0:
		return "shell"
	case path == "cluster forget" && n == 0:
		return "director"
	case (path == "cluster keyring use" || path == "cluster keyring remove") && n == 0:
		return "key"
	case noun == "repin" && n == 0, noun == "tunnel" && slices.Contains([]string{"get", "show", "add", "put"}, verb) && n == 0, noun == "tunnel" && (verb == "rm" || verb == "delete"):
		return "tunnel"
	case (noun == "realserver" || noun == "rs") && (n == 0 && slices.Contains([]string{"weight", "show", "get", "orders"}, verb) || slices.Contains([]string{"drain", "undrain", "rm", "delete"}, verb)):
		return "realserver"
	case (path == "drill run" || path == "drill show") && n == 0:
		return "drill"
	case (path == "blackbox show" || path == "blackbox export") && n == 0:
		return "recording"
	case noun == "service" && verb != "list":
		return "service"
	case noun == "tenant" && verb != "list":
		return "tenant"
	}
	return ""
}

// values are the values of a flag or an argument. Names come from the director, if it answers soon.
func (k completer) values(ctx context.Context, before []string, name, word string) []console.Choice {
	fixed := map[string][]string{
		"shell": {"bash", "zsh", "fish"}, "format": {formatNDJSON, formatCSV}, "state": {"down", "coming", "up", "unsaid"}, "placed": {"yes", "no", "contested"},
		"kind":     api.EventKinds(),
		"reason":   reasonNames(),
		"seen":     {api.SeenRight, api.SeenWrong, api.SeenUnknown, api.SeenNot},
		"fragment": {"first", "later"}, "role": {string(ca.RoleDirector), string(ca.RoleAgent)}, "side": {config.RoleBothSides, config.RoleTunnelSide, config.RoleSubnetSide}, "proto": {"esp", "ah", "gre", "l2tp", "ipip", "udp", "tcp", "icmp"},
	}
	var out []console.Choice
	if name == "drill" {
		for _, d := range drill.Builtin() {
			out = append(out, console.Choice{Word: d.Name, Means: d.What})
		}
	}
	for _, v := range fixed[name] {
		out = append(out, console.Choice{Word: v})
	}
	if len(out) > 0 {
		return out
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	client := k.client(before)
	if client == nil {
		return nil
	}
	return namesFrom(ctx, client, name, word)
}

// client talks to the director that the words before name; nil if that does not work.
func (k completer) client(before []string) *api.Client {
	var found *talk
	probe := &cli.Command{Name: "probe", Hidden: true, Action: func(c *cli.Context) error {
		var err error
		found, err = newTalk(k.env, c, console.Count{})
		return err
	}}
	a := arranger{root: k.app.Flags, subcommands: k.app.Commands}
	for i := 0; i < len(before); i++ {
		if arg := before[i]; len(arg) > 1 && arg[0] == '-' {
			i += a.flag(arg, before[i+1:])
		} else {
			a.word(arg)
		}
	}
	app := &cli.App{Name: "director", Flags: globalFlags(), Commands: []*cli.Command{probe}, Writer: discard{}, ErrWriter: discard{},
		ExitErrHandler: func(*cli.Context, error) {}, HideVersion: true}
	if err := app.Run(append(append([]string{"director"}, a.global...), "probe")); err != nil || found == nil {
		return nil
	}
	return found.client
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

const maxChoices = 100

// namesFrom asks for the names of a kind of object. Errors are no names: completion stays silent.
func namesFrom(ctx context.Context, c *api.Client, kind, word string) []console.Choice {
	var out []console.Choice
	switch kind {
	case "realserver", "to":
		list, _ := c.RealServers(ctx)
		for _, r := range list {
			out = append(out, console.Choice{Word: r.Name, Means: r.State + " " + r.Admin})
		}
	case "service":
		list, _ := c.Services(ctx)
		for _, s := range list {
			out = append(out, console.Choice{Word: s.Name, Means: strings.Join(s.VIPs, " ")})
		}
	case "tenant":
		list, _ := c.Tenants(ctx)
		for _, n := range list {
			out = append(out, console.Choice{Word: n.Name, Means: strings.Join(n.Covers, " ")})
		}
	case "recording":
		list, _ := c.Recordings(ctx)
		for _, r := range list.Recordings {
			out = append(out, console.Choice{Word: r.ID, Means: r.Why})
		}
	case "director":
		st, _ := c.Cluster(ctx)
		for _, m := range st.Members {
			out = append(out, console.Choice{Word: m.Name, Means: m.State})
		}
	case "key":
		list, _ := c.Keyring(ctx)
		for _, k := range list {
			out = append(out, console.Choice{Word: k.Fingerprint, Means: "opens on " + strings.Join(k.On, " ")})
		}
	case "tunnel", "separate-from":
		out = tunnelsFrom(ctx, c, word)
	}
	return out
}

// tunnelsFrom are the first tunnels whose ids begin with word. A cursor is where the page before ended.
func tunnelsFrom(ctx context.Context, c *api.Client, word string) []console.Choice {
	var out []console.Choice
	cursor := ""
	if word != "" {
		if s, err := c.Tunnel(ctx, word); err == nil {
			out = append(out, console.Choice{Word: s.ID, Means: s.Service})
		}
		cursor = api.CursorAfter(word)
	}
	page, _ := c.TunnelPage(ctx, api.TunnelFilter{Limit: maxChoices}, cursor)
	for _, s := range page.Tunnels {
		out = append(out, console.Choice{Word: s.ID, Means: s.Service})
	}
	return out
}
