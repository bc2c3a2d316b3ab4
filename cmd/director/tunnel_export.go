package main

import (
	"bufio"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"tunneldirector/affinity"
	"tunneldirector/cmd/console"
	"tunneldirector/director/api"
)

func tunnelExportCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "export", Usage: "write tunnels to a file that import takes", ArgsUsage: "[FILE]",
		Description: console.Describe(`
Writes the tunnels that all given filters let through to FILE, or to standard output, as NDJSON or
CSV. Importing the file again changes nothing. Placements and owners are the director's and not in
it: tunnels that exist keep their owners, the others belong to the token that imports them. Learned
tunnels, which nobody announced, are only in it with --learned, and then nothing else is. A file is
put in place when it is complete.

The tunnels are read a page at a time: changes made meanwhile may be in it or not. The revision told
at the end is the one to watch from for what came later.`,
			"director tunnel export tunnels.csv", "director tunnel export --service ipsec --format ndjson > ipsec.ndjson"),
		Flags:  append(filterFlags(), formatFlag()),
		Action: streams(env, console.Count{Max: 1}, exportTunnels),
	}
}

func exportTunnels(ctx context.Context, t *talk) error {
	name, format := orWord(t.Args().First(), "-"), t.String("format")
	if err := checkFormat(format); err != nil {
		return err
	}
	if format == "" {
		format = orWord(formatOfName(name), formatNDJSON)
	}
	ex := &exporter{t: t}
	if name == "-" {
		return ex.run(ctx, t.Stdout, format)
	}
	return exportTo(name, 0o640, func(w io.Writer) error { return ex.run(ctx, w, format) })
}

// An exporter writes tunnels.
type exporter struct {
	t        *talk
	n        int
	revision string // of the first page
}

func (ex *exporter) run(ctx context.Context, to io.Writer, format string) error {
	w := bufio.NewWriterSize(to, 64<<10)
	put, flush := ndjsonWriter(w)
	if format == formatCSV {
		put, flush = csvWriter(w)
	}
	if err := ex.pages(ctx, put); err != nil {
		return err
	}
	if err := errors.Join(flush(), w.Flush()); err != nil {
		return fmt.Errorf("write the tunnels: %w", err)
	}
	ex.t.note("exported %s at revision %s", console.Some(ex.n, "tunnel"), ex.revision)
	return nil
}

func (ex *exporter) pages(ctx context.Context, put func(*api.Tunnel) error) error {
	f := ex.t.filter(exportPage)
	if f.Learned == "" && f.Owner != affinity.LearnedOwner {
		f.Learned = "no" // who imports them would announce them
	}
	var bar *progress
	for cursor := ""; ; {
		page, err := ex.t.tunnelPage(ctx, f, cursor)
		if err != nil {
			return err
		}
		if bar == nil {
			ex.revision, bar = page.Revision, ex.t.progress(int64(page.Total), "exporting", false)
			defer bar.done()
		}
		for i := range page.Tunnels {
			if err := put(&page.Tunnels[i].Tunnel); err != nil {
				return fmt.Errorf("write the tunnels: %w", err)
			}
		}
		ex.n += len(page.Tunnels)
		bar.add(len(page.Tunnels))
		if cursor = page.Next; cursor == "" {
			return nil
		}
	}
}

func ndjsonWriter(w io.Writer) (put func(*api.Tunnel) error, flush func() error) {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return func(t *api.Tunnel) error { return enc.Encode(t) }, func() error { return nil }
}

// csvWriter writes the header too.
func csvWriter(w io.Writer) (put func(*api.Tunnel) error, flush func() error) {
	c := csv.NewWriter(w)
	headed := false
	head := func() error {
		if headed {
			return nil
		}
		headed = true
		return c.Write(csvColumns)
	}
	put = func(t *api.Tunnel) error { return errors.Join(head(), c.Write(csvCells(t))) }
	flush = func() error {
		err := head()
		c.Flush()
		return errors.Join(err, c.Error())
	}
	return put, flush
}
