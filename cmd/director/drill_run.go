package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"sync/atomic"
	"time"

	"github.com/urfave/cli/v2"

	"tunneldirector/cmd/console"
	"tunneldirector/director/drill"
)

func drillRunCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "run", Usage: "run a drill, on the live cluster or in a lab", ArgsUsage: "NAME|FILE",
		Description: console.Describe(`
Runs a drill that comes with the program (see director drill list), or that of a file. On the live
cluster it says what it will do, and to whom, and asks; without a terminal it takes --yes. It does not
begin unless all is in peace and what the drill needs is there, such as room for what a host carries. It
gives up at once when a condition of the drill says so; Ctrl-C does the same. Whatever happens, what was
made to fail is undone.

Packets are ICMP echo from this machine through tunnels that are up, to the first address of the first
subnet behind each, or to what --probe says. So run it where the target hosts are, with --server.

With --lab it makes directors, real servers and sites in network namespaces of this machine, with
WireGuard tunnels, and nothing else is touched. That takes root, and a minute.

The result is kept, and compared with the last one of the same drill. The exit code is 0 if all that the
drill expects held, 1 if not, 3 if it was refused or did not begin.`,
			"director drill run terminator-crash --lab", "director drill run host-loss --target ipsec-2 --probe site-0042=100.64.40.33 --yes --json", "director drill run mine.yaml"),
		Flags: []cli.Flag{
			keepFlag(),
			&cli.BoolFlag{Name: "lab", Usage: "in namespaces of this machine, not on the live cluster"},
			&cli.StringFlag{Name: "target", Usage: "`NAME` of the real server or director that the first failure befalls, rather than whom the drill says"},
			&cli.StringSliceFlag{Name: "probe", Usage: "send packets through `TUNNEL=ADDRESS`, an address behind it; may be repeated"},
			&cli.BoolFlag{Name: "yes", Usage: "do not ask"},
			&cli.StringFlag{Name: "realserver", Usage: "with --lab: `PATH` of the agent's program", DefaultText: "beside this program, or on PATH"},
		},
		Action: func(c *cli.Context) error {
			if c.Bool("lab") {
				return inLab(env, c)
			}
			return streams(env, console.Count{Min: 1, Max: 1}, onCluster)(c)
		},
	}
}

// A rehearsal is a drill that is about to run.
type rehearsal struct {
	*console.Env
	store drill.Store
	d     *drill.Drill
	world drill.World
	o     drill.Options
}

// onCluster runs a drill on the live cluster.
func onCluster(ctx context.Context, t *talk) error {
	r, err := newRehearsal(t.Env, t.Context, "live")
	if err != nil {
		return err
	}
	if t.IsSet("realserver") {
		return console.Usage("--realserver: there is no --lab")
	}
	if !t.Bool("yes") && !r.canAsk() {
		return console.Coded(console.ExitRefused, errors.New("this is no terminal, so nobody can be asked: say --yes to make things fail on the live cluster, or --lab"))
	}
	if err := t.reach(ctx); err != nil {
		return err
	}
	w, wanted, err := openLive(ctx, t, r.d)
	if err != nil {
		return err
	}
	r.world, r.o.Sample = w, wanted
	if err := r.announce(ctx); err != nil {
		return err
	}
	if !t.Bool("yes") {
		if err := r.confirm(ctx); err != nil {
			return err
		}
	}
	return r.run(ctx)
}

func newRehearsal(env *console.Env, c *cli.Context, world string) (*rehearsal, error) {
	s, err := storeOf(env, c)
	if err != nil {
		return nil, err
	}
	d, err := drillOf(c.Args().First())
	if err != nil {
		return nil, err
	}
	r := &rehearsal{Env: env, store: s, d: d, o: drill.Options{World: world}}
	if name := c.String("target"); name != "" {
		r.o.Targets = map[string]string{"": name}
	}
	return r, nil
}

// canAsk tells whether somebody is there to confirm.
func (r *rehearsal) canAsk() bool {
	in, ok := r.Stdin.(io.Writer)
	return ok && r.IsTerminal(in) && r.IsTerminal(r.Stderr)
}

// announce says what is about to be done, and to whom. It will be done to them, whatever the words of the drill stand for by then.
func (r *rehearsal) announce(ctx context.Context) error {
	s, err := r.world.State(ctx)
	if err != nil {
		return fmt.Errorf("read the state before the drill: %w", err)
	}
	plan, err := drill.NewPlan(s, r.d, r.o)
	if err != nil {
		return notBegun(err)
	}
	if r.o.Targets == nil {
		r.o.Targets = map[string]string{}
	}
	maps.Copy(r.o.Targets, plan.Targets)
	if r.JSON {
		return nil
	}
	fmt.Fprintf(r.Stderr, "drill %s (%s): %s\n", r.d.Name, r.o.World, r.d.What)
	for _, step := range r.d.Steps {
		fmt.Fprintf(r.Stderr, "  %s\n", stepWords(&step, plan))
	}
	var ids []string
	for _, t := range plan.Sample {
		ids = append(ids, t.ID+" ("+t.RealServer+")")
	}
	fmt.Fprintf(r.Stderr, "packets go every %s through %s: %s\n", r.d.Sample.Every, console.Some(len(ids), "tunnel"), strings.Join(ids, ", "))
	return nil
}

// stepWords are what a step does, in a line.
func stepWords(s *drill.Step, plan *drill.Plan) string {
	switch {
	case s.Fault != "" && s.Target == drill.Each:
		return fmt.Sprintf("%s of %s, one after another", s.Fault, strings.Join(plan.Each, ", "))
	case s.Fault.Befalls() == "cluster":
		return string(s.Fault)
	case s.Fault != "":
		return fmt.Sprintf("%s of %s %s, for %s at most", s.Fault, s.Fault.Befalls(), plan.Targets[s.Target], s.For)
	case s.Emptied > 0:
		return fmt.Sprintf("wait until it is empty, %s at most", s.Emptied)
	case s.Undo:
		return "undo it"
	case s.Settle > 0:
		return fmt.Sprintf("wait until all is settled, %s at most", s.Settle)
	}
	return fmt.Sprintf("wait %s", s.Wait)
}

// confirm asks a person.
func (r *rehearsal) confirm(ctx context.Context) error {
	fmt.Fprintf(r.Stderr, "This makes things fail on the live cluster. Go on? [y/N] ")
	answer := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(r.Stdin).ReadString('\n') // no line is no
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case said := <-answer:
		if said == "y" || said == "yes" {
			return nil
		}
		return console.Coded(console.ExitRefused, errors.New("nothing was done"))
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// A drillRun is what `drill run` prints with --json.
type drillRun struct {
	Result *drill.Result     `json:"result"`
	Last   *drill.Comparison `json:"compared_with_last,omitempty"`
}

// run runs the drill, keeps and prints what it came to.
func (r *rehearsal) run(ctx context.Context) error {
	began := r.Now()
	r.o.Progress = func(what string) {
		if !r.JSON {
			fmt.Fprintf(r.Stderr, "%8s  %s\n", r.Now().Sub(began).Round(100*time.Millisecond), what)
		}
	}
	noted := &refusals{World: r.world}
	res, err := drill.Run(ctx, noted, r.d, r.o)
	if err != nil {
		return notBegun(err)
	}
	out := drillRun{Result: res}
	last, lerr := r.store.Last(res)
	if last != nil {
		c := drill.Diff(last, res)
		out.Last = &c
	}
	kept := errors.Join(lerr, r.store.Save(res))
	err = r.Show(out, func(p *console.Page) {
		resultPage(p, res)
		if out.Last != nil {
			p.Line("")
			diffPage(p, out.Last)
		}
	})
	if err = errors.Join(err, kept); err != nil {
		return err
	}
	switch {
	case res.Passed:
		return nil
	case ctx.Err() != nil:
		return context.Canceled
	case noted.any.Load() && !res.Drill.Expect.Refused:
		return console.Coded(console.ExitRefused, nil) // it was told
	}
	return console.Coded(console.ExitFailed, nil)
}

// notBegun gives what kept a drill from beginning its exit code.
func notBegun(err error) error {
	if errors.Is(err, drill.ErrNotReady) {
		return console.Coded(console.ExitRefused, err)
	}
	return err
}

// refusals is a World, and notes whether a fault was refused.
type refusals struct {
	drill.World
	any atomic.Bool
}

// Inject makes a fault.
func (w *refusals) Inject(ctx context.Context, f drill.Fault) (func(context.Context) error, error) {
	undo, err := w.World.Inject(ctx, f)
	if errors.Is(err, drill.ErrRefused) {
		w.any.Store(true)
	}
	return undo, err
}
