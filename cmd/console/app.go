package console

import (
	"strings"

	"github.com/urfave/cli/v2"
)

// A Program is what its command line is made of.
type Program struct {
	Name, Usage, Description string
	ExitCodes                string // one a line
	Flags                    []cli.Flag
	Commands                 []*cli.Command // in the order of the help
}

// NewApp makes the command line of a program. Errors are returned, and nothing exits.
func NewApp(env *Env, p Program) *cli.App {
	app := &cli.App{
		Name:                      p.Name,
		Usage:                     p.Usage,
		Version:                   Version(),
		HideVersion:               true, // `version` says more
		HideHelpCommand:           true,
		Flags:                     p.Flags,
		Commands:                  p.Commands,
		Reader:                    env.Stdin,
		Writer:                    env.Stdout,
		ErrWriter:                 env.Stderr,
		DisableSliceFlagSeparator: true,
		CustomAppHelpTemplate:     appHelp(p),
		Description:               p.Description,
		ExitErrHandler:            func(*cli.Context, error) {}, // main exits
		Action:                    needsCommand,
		OnUsageError:              wrongUsage,
	}
	quiet(app.Flags)
	prepare(app.Commands, commandHelp(p))
	return app
}

// prepare gives all commands what they have in common.
func prepare(list []*cli.Command, help string) {
	for _, c := range list {
		c.OnUsageError = wrongUsage
		quiet(c.Flags)
		c.HideHelpCommand = true
		if c.Action == nil {
			c.Action = needsCommand
		}
		if c.CustomHelpTemplate == "" {
			c.CustomHelpTemplate = help
		}
		prepare(c.Subcommands, help)
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
	return Usage("%s: %s; see %s --help", name, text, name)
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
		return Usage("%s needs a command: %s; see %s --help", name, strings.Join(names, ", "), name)
	}
	word := c.Args().First()
	if near := cli.SuggestCommand(list, word); near != "" {
		return Usage("%s has no command %q. %s See %s --help", name, word, near, name)
	}
	return Usage("%s has no command %q; see %s --help", name, word, name)
}

// A Count says how many arguments a command takes; Max < 0: any number.
type Count struct{ Min, Max int }

// Check refuses a command line with another number of arguments.
func (n Count) Check(c *cli.Context) error {
	got := c.Args().Len()
	switch {
	case n.Max == 0 && got > 0:
		return Usage("%s takes no arguments, but got %q", c.Command.HelpName, c.Args().First())
	case got < n.Min:
		return Usage("%s lacks %s; see %s --help", c.Command.HelpName, c.Command.ArgsUsage, c.Command.HelpName)
	case n.Max > 0 && got > n.Max:
		return Usage("%s takes %s, but got %d arguments; see %s --help", c.Command.HelpName, c.Command.ArgsUsage, got, c.Command.HelpName)
	}
	return nil
}
