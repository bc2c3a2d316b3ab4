package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"github.com/urfave/cli/v2"

	"tunneldirector/cmd/console"
	"tunneldirector/director/api"
	"tunneldirector/director/config"
)

func applyCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "apply", Usage: "make services, tenants and real servers as a file says", ArgsUsage: "FILE",
		Description: console.Describe(`
Reads records from a YAML file ("-": standard input) and makes each one so: virtual services, then
tenants, then real servers. Says of each whether it was created, changed or unchanged. Records that
the file does not name stay; a drained real server stays drained. A faulty file changes nothing, and
every fault is told with its line. Applying a file again changes nothing.

  services:
  - {name: ipsec, vips: [192.0.2.10], protocols: [esp, udp/500, udp/4500]}
  tenants:
  - {name: default, covers: [100.64.0.0/10]}
  real_servers:
  - {name: rs1, addresses: [198.51.100.11], services: [ipsec], host: node-a, zone: z1}`,
			"director apply site.yaml", "director apply site.yaml --dry-run"),
		Flags:  []cli.Flag{&cli.BoolFlag{Name: "dry-run", Usage: "change nothing, tell what would change"}},
		Action: streams(env, console.Count{Min: 1, Max: 1}, apply),
	}
}

// A record is one thing to apply.
type record struct {
	what   string // service ipsec
	exists bool
	want   any // api.Service, api.Tenant or api.RealServer
	put    func(context.Context) (api.Changed, error)
}

// An applyLine is what `apply` prints with --json for each record.
type applyLine struct {
	Object   string       `json:"object"`
	Result   string       `json:"result"` // created, changed, unchanged, refused
	DryRun   bool         `json:"dry_run,omitempty"`
	Warnings []string     `json:"warnings,omitempty"`
	Problem  *api.Problem `json:"problem,omitempty"`
}

// maxRecords is the longest file of records that is read, in bytes.
const maxRecords = 1 << 20

func apply(ctx context.Context, t *talk) error {
	name := t.Args().First()
	data, err := readRecords(ctx, t.Env, name)
	if err != nil {
		return err
	}
	wanted, err := config.ParseRecords(data)
	if err != nil {
		return fmt.Errorf("%s: nothing was applied:\n%w", name, err)
	}
	a := &applier{t: t, dryRun: t.Bool("dry-run"), counts: map[string]int{}}
	records, err := a.records(ctx, wanted)
	if err != nil {
		return err
	}
	do := a.all
	if a.dryRun {
		do = a.check
	}
	if err := do(ctx, records); err != nil {
		return fmt.Errorf("apply stopped after %d of %d records: %w", a.told(), len(records), err)
	}
	t.note("%s", a.sum(len(records)))
	return partly(a.counts["refused"], len(records))
}

func readRecords(ctx context.Context, env *console.Env, name string) ([]byte, error) {
	var r io.Reader = &interruptible{ctx: ctx, r: env.Stdin}
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("open the records: %w", err)
		}
		defer f.Close()
		r = f
	}
	data, err := io.ReadAll(io.LimitReader(r, maxRecords+1))
	if err != nil {
		return nil, fmt.Errorf("read the records: %w", err)
	}
	if len(data) > maxRecords {
		return nil, fmt.Errorf("read the records: %s is longer than %s; is it a file of records?", name, console.Octets(maxRecords))
	}
	return data, nil
}

// An applier makes records so.
type applier struct {
	t      *talk
	dryRun bool
	counts map[string]int // by result
}

func (a *applier) told() (n int) {
	for _, c := range a.counts {
		n += c
	}
	return n
}

func (a *applier) sum(all int) string {
	s := console.Some(all, "record") + ":"
	for _, result := range slices.Sorted(maps.Keys(a.counts)) {
		s += fmt.Sprintf(" %d %s", a.counts[result], result)
	}
	if a.dryRun {
		s += " (dry run: nothing was changed)"
	}
	return s
}

// check tells what would become of the records.
func (a *applier) check(ctx context.Context, list []record) error {
	ctx, cancel := a.t.limited(ctx)
	defer cancel()
	var w api.CheckRequest
	for _, r := range list {
		switch x := r.want.(type) {
		case api.Service:
			w.Services = append(w.Services, x)
		case api.Tenant:
			w.Tenants = append(w.Tenants, x)
		case api.RealServer:
			w.RealServers = append(w.RealServers, x)
		}
	}
	results, err := a.t.client.Check(ctx, w)
	if err != nil {
		return err
	}
	for _, r := range results {
		l := applyLine{Object: r.Object, Result: changeWord(r.Changed, r.Created), DryRun: true, Warnings: r.Warnings, Problem: r.Problem}
		if r.Problem != nil {
			l.Result = "refused"
		}
		a.tell(l)
	}
	return nil
}

// all applies the records, again those that were refused as long as others got through: a VIP may move from one service
// to another in one file.
func (a *applier) all(ctx context.Context, list []record) error {
	for {
		var refused []record
		var problems []*api.Problem
		for _, r := range list {
			result, changed, err := a.one(ctx, r)
			var p *api.Problem
			switch {
			case errors.As(err, &p) && p.Status < 500:
				refused, problems = append(refused, r), append(problems, p)
				continue
			case err != nil:
				return err
			}
			a.tell(applyLine{Object: r.what, Result: result, Warnings: changed.Warnings})
		}
		if len(refused) == 0 || len(refused) == len(list) {
			for i, r := range refused {
				a.tell(applyLine{Object: r.what, Result: "refused", Problem: problems[i]})
			}
			return nil
		}
		list = refused
	}
}

func (a *applier) one(ctx context.Context, r record) (string, api.Changed, error) {
	ctx, cancel := a.t.limited(ctx)
	defer cancel()
	c, err := r.put(ctx)
	return changeWord(c.Changed, !r.exists), c, err
}

func (a *applier) tell(l applyLine) {
	a.counts[l.Result]++
	_ = a.t.Show(l, func(p *console.Page) { // the exit code tells
		p.Line("%-9s  %s", l.Result, l.Object)
		for _, w := range l.Warnings {
			p.Line("           note: %s", w)
		}
	})
	if l.Problem != nil && !a.t.JSON {
		fmt.Fprintf(a.t.Stderr, "%s: %s\n", l.Object, problemWords(l.Problem))
	}
}
