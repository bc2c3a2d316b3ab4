package main

import (
	"context"
	"time"

	"github.com/urfave/cli/v2"

	"tunneldirector/cmd/console"
	"tunneldirector/director/api"
)

func doctorCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "doctor", Usage: "find what is wrong, what that causes, and what mends it",
		Description: console.Describe(`
Looks at the director and at what it depends on: the kernel against the table, drops that go on, real
servers by each way to them, MAC addresses, MTUs, agents and what they find on their hosts, tunnels at the
wrong place, the other directors, who holds which address, the kernel's settings, clock, disk, processors,
certificates. It takes some seconds, sends nothing and changes nothing. What it could not look at, it says.

  breaks  tunnels do not work      risks  they may fail, or do in part      notes  worth knowing

The exit code is 6 when something breaks or is at risk.`,
			"director doctor", "director doctor --all --json"),
		Flags:  []cli.Flag{&cli.BoolFlag{Name: "all", Usage: "ask every live director, not this one alone"}},
		Action: asks(env, console.Count{}, examine),
	}
}

func examine(ctx context.Context, t *talk) error {
	r, err := t.client.Doctor(ctx, t.Bool("all"))
	if err != nil {
		return err
	}
	if err := t.Show(r, func(p *console.Page) { doctorPage(p, t.Now(), &r) }); err != nil {
		return err
	}
	for i := range r.Reports {
		if r.Reports[i].Wrong() > 0 {
			return console.Coded(console.ExitNotWell, nil) // each was told
		}
	}
	if len(r.Silent) > 0 { // who is alive and says nothing is not well
		return console.Coded(console.ExitNotWell, nil)
	}
	return nil
}

func doctorPage(p *console.Page, now time.Time, r *api.DoctorReports) {
	for i := range r.Reports {
		if i > 0 {
			p.Line("")
		}
		reportPage(p, now, &r.Reports[i])
	}
	for _, s := range r.Silent {
		p.Line("\ndirector %s did not answer: %s", s.Director, s.Why)
	}
}

func reportPage(p *console.Page, now time.Time, r *api.DoctorReport) {
	for _, f := range r.Findings {
		since := ""
		if f.Since != nil {
			since = " (since " + f.Since.UTC().Format(time.RFC3339) + ", " + console.Ago(now, *f.Since) + ")"
		}
		p.Line("%s: %s: %s%s", f.Severity, f.Check, f.What, since)
		p.Line("    causes: %s", f.Causes)
		p.Line("    mend:   %s\n", f.Mend)
	}
	for _, u := range r.Unchecked {
		p.Line("not checked: %s: %s", u.Check, u.Why)
	}
	words := "nothing is wrong"
	if n := r.Wrong(); n > 0 {
		words = console.Some(n, "thing") + " to mend"
	}
	p.Line("director %s: %s, %s, in %.1f s", r.Director, words, console.Some(len(r.Checked), "check"), r.Seconds)
}
