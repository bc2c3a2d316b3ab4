package console

import (
	"context"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"
)

// A Choice is what a word may be, and what it means.
type Choice struct{ Word, Means string }

// CompletionCommand prints scripts; completed says in the help what they complete.
func CompletionCommand(env *Env, program, completed string) *cli.Command {
	return &cli.Command{
		Name: "completion", Usage: "print a script that completes command lines", ArgsUsage: "bash|zsh|fish",
		Description: Describe(completed,
			"source <("+program+" completion bash)",
			program+" completion zsh > /usr/share/zsh/site-functions/_"+program,
			program+" completion fish > ~/.config/fish/completions/"+program+".fish"),
		Action: func(c *cli.Context) error {
			if err := (Count{1, 1}).Check(c); err != nil {
				return err
			}
			script, ok := map[string]string{"bash": bashCompletion, "zsh": zshCompletion, "fish": fishCompletion}[c.Args().First()]
			if !ok {
				return Usage("%s completion %s: is not bash, zsh or fish", program, c.Args().First())
			}
			_, err := fmt.Fprint(env.Stdout, strings.ReplaceAll(script, "PROGRAM", program))
			return err
		},
	}
}

// CompleteCommand is what the scripts call: it prints what the last of the words may be, a word and a tab and what it means on each
// line. What choices answers need not begin as the word does.
func CompleteCommand(env *Env, program, example string, choices func(ctx context.Context, app *cli.App, before []string, word string) []Choice) *cli.Command {
	return &cli.Command{
		Name: "__complete", Hidden: true, Usage: "tell what a command line may go on with", ArgsUsage: "WORD...", SkipFlagParsing: true,
		Description: Describe("For the scripts of "+program+" completion.", program+" __complete -- "+example),
		Action: func(c *cli.Context) error {
			words := c.Args().Slice()
			if len(words) > 0 && words[0] == "--" {
				words = words[1:]
			}
			if len(words) == 0 {
				words = []string{""}
			}
			last := words[len(words)-1]
			for _, ch := range choices(c.Context, c.App, words[:len(words)-1], last) {
				if !strings.HasPrefix(ch.Word, last) {
					continue
				}
				if _, err := fmt.Fprintf(env.Stdout, "%s\t%s\n", ch.Word, ch.Means); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// CommandChoices are the commands of a list that are not hidden.
func CommandChoices(list []*cli.Command) (out []Choice) {
	for _, c := range list {
		if !c.Hidden {
			out = append(out, Choice{c.Name, c.Usage})
		}
	}
	return out
}

// FlagChoices are a command's flags.
func FlagChoices(flags []cli.Flag) (out []Choice) {
	for _, f := range flags {
		if d, ok := f.(cli.DocGenerationFlag); ok && f.Names()[0] != "help" {
			out = append(out, Choice{"--" + f.Names()[0], strings.ReplaceAll(d.GetUsage(), "`", "")})
		}
	}
	return append(out, Choice{"--help", "show help"})
}
