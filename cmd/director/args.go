package main

import (
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
)

// arrange puts arguments into the order that the flag parser wants, so that people may write flags anywhere: global ones,
// the command, its flags, then the rest. What it does not know it leaves for the parser to refuse.
func arrange(root []cli.Flag, commands []*cli.Command, args []string) []string {
	a := arranger{root: root, subcommands: commands}
	for i := 0; i < len(args); i++ {
		switch arg := args[i]; {
		case arg == "--":
			a.rest = append(a.rest, args[i+1:]...)
			i = len(args)
		case len(arg) > 1 && arg[0] == '-' && !a.isNumber(arg):
			i += a.flag(arg, args[i+1:])
		default:
			a.word(arg)
		}
	}
	out := append(append(a.global, a.path...), a.local...)
	for _, r := range a.rest {
		if strings.HasPrefix(r, "-") && r != "-" {
			out = append(out, "--")
			break
		}
	}
	return append(out, a.rest...)
}

// An arranger sorts arguments. One goroutine owns it.
type arranger struct {
	root        []cli.Flag
	command     *cli.Command // the innermost that was named
	subcommands []*cli.Command

	global, path, local, rest []string
}

// isNumber tells a negative number, which is for the command to judge, from a flag.
func (a *arranger) isNumber(arg string) bool {
	_, err := strconv.ParseFloat(arg, 64)
	return err == nil && arg[1] >= '0' && arg[1] <= '9' && findFlag(a.commandFlags(), arg[1:]) == nil
}

func (a *arranger) word(arg string) {
	if arg == "help" && a.command == nil && len(a.rest) == 0 {
		a.local = append(a.local, "--help") // of what follows
		return
	}
	if len(a.rest) == 0 {
		for _, c := range a.subcommands {
			if c.HasName(arg) {
				a.command, a.subcommands = c, c.Subcommands
				a.path = append(a.path, arg)
				return
			}
		}
		a.subcommands = nil
	}
	a.rest = append(a.rest, arg)
}

// flag takes in a flag and says how many of the following arguments are its value.
func (a *arranger) flag(arg string, following []string) int {
	name, _, hasValue := strings.Cut(strings.TrimLeft(arg, "-"), "=")
	to := &a.local
	f := findFlag(a.commandFlags(), name)
	if f == nil {
		if f = findFlag(a.root, name); f != nil {
			to = &a.global
		}
	}
	*to = append(*to, arg)
	if f == nil || hasValue || !takesValue(f) || len(following) == 0 {
		return 0
	}
	*to = append(*to, following[0])
	return 1
}

func (a *arranger) commandFlags() []cli.Flag {
	if a.command == nil {
		return nil
	}
	return a.command.Flags
}

func findFlag(flags []cli.Flag, name string) cli.Flag {
	for _, f := range flags {
		for _, n := range f.Names() {
			if n == name {
				return f
			}
		}
	}
	return nil
}

func takesValue(f cli.Flag) bool {
	d, ok := f.(cli.DocGenerationFlag)
	return ok && d.TakesValue()
}
