package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"tunneldirector/cmd/console"
	"tunneldirector/director/drill"
)

func drillCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "drill", Usage: "rehearse failures, and measure what they cost",
		Description: console.Describe(`
A drill makes a failure on purpose, sends packets through a sample of tunnels all along, both ways, and
says what it cost: the outage of each tunnel, packets lost, tunnels moved, what was detected and decided
when. What is made is undone at the end, however the drill ends, and by itself in time where it was made.

With --lab it takes place in network namespaces of this machine. On the live cluster it asks first, and
takes drill: {allow: true} in the node's file of each director, and in the host's file of each agent,
that is to make something fail, and an operator or a token of the role drill.`,
			"director drill run terminator-crash --lab", "director drill list"),
		Subcommands: []*cli.Command{drillListCommand(env), drillShowCommand(env), drillRunCommand(env), drillDiffCommand(env), drillFaultsCommand(env), drillUndoCommand(env)},
	}
}

// keepFlag says where results are.
func keepFlag() cli.Flag {
	return &cli.StringFlag{Name: "keep", Usage: "`DIR` of the results", DefaultText: "$XDG_STATE_HOME/tunneldirector/drills; of root /var/lib/tunneldirector/drills"}
}

// storeOf is where results are kept.
func storeOf(env *console.Env, c *cli.Context) (drill.Store, error) {
	const below = "tunneldirector/drills"
	switch state, home := env.Getenv("XDG_STATE_HOME"), env.Getenv("HOME"); {
	case c.String("keep") != "":
		return drill.Store{Dir: c.String("keep")}, nil
	case filepath.IsAbs(state):
		return drill.Store{Dir: filepath.Join(state, below)}, nil
	case os.Geteuid() == 0:
		return drill.Store{Dir: filepath.Join("/var/lib", below)}, nil
	case home != "":
		return drill.Store{Dir: filepath.Join(home, ".local/state", below)}, nil
	}
	return drill.Store{}, console.Usage("results are kept nowhere: neither XDG_STATE_HOME nor HOME is set; say --keep DIR")
}

// here makes the action of a command that asks no director.
func here(env *console.Env, n console.Count, do func(c *cli.Context, s drill.Store) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		if err := n.Check(c); err != nil {
			return err
		}
		s, err := storeOf(env, c)
		if err != nil {
			return err
		}
		return do(c, s)
	}
}

// A drillList is what `drill list` prints with --json.
type drillList struct {
	Drills  []*drill.Drill  `json:"drills"`
	Results []drill.Summary `json:"results"`
}

func drillListCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "list", Usage: "list the drills that come with the program, and the results that are kept",
		Description: console.Describe(`
Lists drills by name, and the last 100 results, the newest first.`, "director drill list"),
		Flags: []cli.Flag{keepFlag()},
		Action: here(env, console.Count{}, func(_ *cli.Context, s drill.Store) error {
			results, err := s.List()
			if err != nil {
				env.Tell("director", console.ErrorLine{Error: err.Error()}, err.Error()) // what can be read is listed
			}
			l := drillList{drill.Builtin(), results}
			if l.Results == nil {
				l.Results = []drill.Summary{}
			}
			return env.Show(l, func(p *console.Page) { drillListPage(p, &l) })
		}),
	}
}

func drillShowCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "show", Usage: "show a drill, or a result", ArgsUsage: "NAME|ID",
		Description: console.Describe(`
Shows the file of a drill that comes with the program, as a start for one of your own, or a result by its
id.`, "director drill show host-loss > mine.yaml", "director drill show host-loss-20260102T030405Z"),
		Flags: []cli.Flag{keepFlag()},
		Action: here(env, console.Count{Min: 1, Max: 1}, func(c *cli.Context, s drill.Store) error {
			name := c.Args().First()
			if d := builtin(name); d != nil {
				text, _ := drill.Text(name)
				return env.Show(d, func(p *console.Page) { p.Line("%s", strings.TrimSuffix(text, "\n")) })
			}
			r, err := load(s, name)
			if err != nil {
				return err
			}
			return env.Show(r, func(p *console.Page) { resultPage(p, r) })
		}),
	}
}

// builtin is a drill that comes with the program, or nil.
func builtin(name string) *drill.Drill {
	for _, d := range drill.Builtin() {
		if d.Name == name {
			return d
		}
	}
	return nil
}

// load reads a result.
func load(s drill.Store, id string) (*drill.Result, error) {
	r, err := s.Load(id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, console.Coded(console.ExitFailed, fmt.Errorf("%s: is neither a drill that comes with the program nor a result in %s; see director drill list", id, s.Dir))
	}
	return r, err
}

// drillOf is the drill that is meant: one of those that come with the program, or a file.
func drillOf(name string) (*drill.Drill, error) {
	if d := builtin(name); d != nil {
		return d, nil
	}
	data, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		var names []string
		for _, d := range drill.Builtin() {
			names = append(names, d.Name)
		}
		return nil, console.Usage("drill %s: is neither a file nor one of %s", name, strings.Join(names, ", "))
	}
	if err != nil {
		return nil, fmt.Errorf("read the drill: %w", err)
	}
	d, err := drill.Parse(data, name)
	if err != nil {
		return nil, console.Usage("drill %s:\n%w", name, err)
	}
	return d, nil
}

func drillDiffCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "diff", Usage: "compare two results", ArgsUsage: "[ID ID]",
		Description: console.Describe(`
Compares two results by their figures: without ids the last one, and the one of the same drill and world
before it.`, "director drill diff", "director drill diff drain-20260102T030405Z drain-20260103T030405Z"),
		Flags: []cli.Flag{keepFlag()},
		Action: here(env, console.Count{Max: 2}, func(c *cli.Context, s drill.Store) error {
			a, b, err := twoResults(s, c.Args().Slice())
			if err != nil {
				return err
			}
			d := drill.Diff(a, b)
			return env.Show(d, func(p *console.Page) { diffPage(p, &d) })
		}),
	}
}

// twoResults are those that are to be compared, the older one first.
func twoResults(s drill.Store, ids []string) (a, b *drill.Result, err error) {
	switch len(ids) {
	case 1:
		return nil, nil, console.Usage("director drill diff takes two ids or none; see director drill list")
	case 2:
		if a, err = load(s, ids[0]); err == nil {
			b, err = load(s, ids[1])
		}
		return a, b, err
	}
	list, _ := s.List() // those that can be read
	if len(list) == 0 {
		return nil, nil, console.Coded(console.ExitFailed, fmt.Errorf("there is no result in %s", s.Dir))
	}
	if b, err = load(s, list[0].ID); err != nil {
		return nil, nil, err
	}
	if a, err = s.Last(b); err == nil && a == nil {
		err = console.Coded(console.ExitFailed, fmt.Errorf("there is one result of drill %s alone (%s)", b.Drill.Name, b.World))
	}
	return a, b, err
}

// inSeconds writes a duration with milliseconds; one that is below 0 did not come.
func inSeconds(d time.Duration) string {
	if d < 0 {
		return ""
	}
	return fmt.Sprintf("%.3f s", d.Seconds())
}
