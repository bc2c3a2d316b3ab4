package main

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v2"

	"tunneldirector/cmd/console"
	"tunneldirector/director/api"
)

func auditCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "audit", Usage: "compare all that the kernel holds with what it should",
		Description: console.Describe(`
Reads the kernel's tables whole and tells each endpoint and subnet that they treat differently than
the director's table says. It disturbs nothing, and may take minutes for a large table. With plane
shadow the other side is what keepalived or others have put into IPVS, and has learned there. The exit
code is 1 when something differs.`,
			"director audit", "director audit --json"),
		Action: streams(env, console.Count{}, audit),
	}
}

func audit(ctx context.Context, t *talk) error {
	if err := t.reach(ctx); err != nil {
		return err
	}
	sum, err := t.client.Audit(ctx, func(l api.AuditLine) {
		_ = t.Show(l, func(p *console.Page) { // the sum fails too
			if d := l.Difference; d != nil {
				p.Line("%s: want %s, have %s", d.Key, d.Want, d.Have)
			} else if l.Progress != nil {
				t.note("comparing for %.0f s, %s so far", l.Progress.Seconds, console.Some(l.Progress.Differences, "difference"))
			}
		})
	})
	if err != nil {
		return err
	}
	err = t.Show(api.AuditLine{Summary: &sum}, func(p *console.Page) { p.Line("%s", auditWords(&sum)) })
	if err == nil && sum.Differences() > 0 {
		return console.Coded(console.ExitFailed, nil) // each was told
	}
	return err
}

func auditWords(s *api.AuditSummary) string {
	if s.Differences() == 0 {
		return fmt.Sprintf("no differences: all %s are as wanted, in %.1f s", console.Some(s.Equal, "key"), s.Seconds)
	}
	return fmt.Sprintf("%s: %s missing, %s different, %s not wanted; %s as wanted, in %.1f s", console.Some(s.Differences(), "difference"), console.Number(s.Missing), console.Number(s.Other),
		console.Number(s.Surplus), console.Some(s.Equal, "key"), s.Seconds)
}

// pairTable shows what pair addresses stand for.
func pairTable(p *console.Page, list []api.Pair) {
	var rows [][]string
	for _, x := range list {
		rows = append(rows, []string{x.Address4, x.Address6, x.Primary, x.Backup, orWord(x.Now, "nobody")})
	}
	p.Table([]console.Column{{Name: "IPv4"}, {Name: "IPv6"}, {Name: "primary"}, {Name: "backup"}, {Name: "goes to"}}, rows)
}
