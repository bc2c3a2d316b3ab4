package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"tunneldirector/cmd/console"
	"tunneldirector/director/api"
)

func blackBoxCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "blackbox", Usage: "show which packets were dropped, as they came in, and why",
		Description: console.Describe(`
Each director keeps the last packets that it dropped: a few of each reason, the first 128 bytes of each.
When something happens that somebody will ask about, it writes them down, with those of the next seconds:
a packet came back from the real server to which it would go, drops of a reason have jumped, a real server
was lost, an operator asked. A recording is a pcapng file, in which each packet has a comment that says
what became of it and why. The oldest go when all are larger than blackbox.max_size of the node's file.`,
			"director blackbox list", "director blackbox show 20260102T030405Z-loop", "director blackbox export 20260102T030405Z-loop", "director blackbox record --why 'site-0042 cannot dial'"),
		Subcommands: []*cli.Command{blackBoxListCommand(env), blackBoxShowCommand(env), blackBoxExportCommand(env), blackBoxRecordCommand(env)},
	}
}

func blackBoxListCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "list", Aliases: []string{"ls"}, Usage: "list the recordings, and what is kept in memory for the next one",
		Description: console.Describe(`
Lists the recordings of the director that is asked, the newest last, and how many dropped packets it has in
memory, by reason. Each director has its own.`,
			"director blackbox list", "director blackbox list --json"),
		Action: asks(env, console.Count{}, func(ctx context.Context, t *talk) error {
			l, err := t.client.Recordings(ctx)
			if err != nil {
				return withoutBlackBox(err)
			}
			return t.Show(l, func(p *console.Page) { recordingsPage(p, t.Now(), &l) })
		}),
	}
}

// withoutBlackBox says what it means that a director knows no such path.
func withoutBlackBox(err error) error {
	var p *api.Problem
	if errors.As(err, &p) && p.Status == http.StatusNotFound && strings.HasPrefix(p.Detail, "no such path") {
		return fmt.Errorf("%w\nthis director has no black box: it is of an older version, its data plane shows no packets, or director status says why", err)
	}
	return err
}

func recordingsPage(p *console.Page, now time.Time, l *api.RecordingList) {
	used := uint64(0)
	var rows [][]string
	for i := range l.Recordings {
		r := &l.Recordings[i]
		used += uint64(r.Bytes)
		size := console.Octets(uint64(r.Bytes))
		if r.Open {
			size += ", being written"
		}
		rows = append(rows, []string{r.ID, moment(now, r.At), harmless(r.Trigger + after(" ", r.Object)), harmless(r.Why), size})
	}
	if len(rows) == 0 {
		p.Line("director %s has no recordings yet", l.Director)
	} else {
		p.Table([]console.Column{{Name: "id"}, {Name: "when"}, {Name: "trigger"}, {Name: "why"}, {Name: "size", Right: true}}, rows)
		p.Line("\n%s of director %s, %s of %s", console.Some(len(rows), "recording"), l.Director, console.Octets(used), console.Octets(uint64(l.MaxBytes)))
	}
	p.Line("")
	keptTable(p, now, l.Kept)
	if l.Error != "" {
		p.Line("\nERROR  %s", l.Error)
	}
}

// keptTable is what is in memory.
func keptTable(p *console.Page, now time.Time, kept []api.KeptDrops) {
	if len(kept) == 0 {
		p.Line("no dropped packets are in memory")
		return
	}
	var rows [][]string
	for _, k := range kept {
		rows = append(rows, []string{k.Reason, console.Number(k.Samples), moment(now, k.Last)})
	}
	p.Table([]console.Column{{Name: "in memory"}, {Name: "packets", Right: true}, {Name: "last"}}, rows)
}

func blackBoxRecordCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "record", Usage: "write down now what was dropped, and what is dropped in the next seconds",
		Description: console.Describe(`
Begins a recording, or has the one that goes on be about this, too, and tells its id. It holds the dropped
packets that are in memory and those of the next seconds. It takes an operator, or a token of the role drill.`,
			"director blackbox record", "director blackbox record --why 'site-0042 cannot dial'"),
		Flags: []cli.Flag{&cli.StringFlag{Name: "why", Usage: "`TEXT` that says what for, in one line"}},
		Action: asks(env, console.Count{}, func(ctx context.Context, t *talk) error {
			r, err := t.client.Record(ctx, t.String("why"))
			if err != nil {
				return withoutBlackBox(err)
			}
			return t.Show(r, func(p *console.Page) {
				p.Line("recording %s", r.ID)
				t.note("it holds what is in memory, and goes on for some seconds; then: director blackbox show %s", r.ID)
			})
		}),
	}
}
