package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/goccy/go-yaml"
	"github.com/urfave/cli/v2"

	"tunneldirector/cmd/console"
	"tunneldirector/director/api"
)

func exportCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "export", Usage: "write the whole table to a file",
		Description: console.Describe(`
Writes services, tenants, real servers with their drains, and all tunnels with their owners and where
they are placed, as they are at one moment. It is a YAML file; a tunnel is a line of it. What agents
saw and nobody announced is not in it, nor is what passes: who is alive, events, a freeze. A file is put
in place when it is complete, readable by you and your group.`,
			"director export --file table.yaml", "director export | gzip > table.yaml.gz"),
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "file", Usage: "`FILE` to write; default: standard output"},
			&cli.BoolFlag{Name: "no-placement", Usage: "leave out where tunnels are placed"},
		},
		Action: streams(env, console.Count{}, func(ctx context.Context, t *talk) error {
			ex := &tableExport{t: t}
			name := t.String("file")
			if name == "" || name == "-" {
				return ex.run(ctx, t.Stdout)
			}
			return exportTo(name, 0o640, func(w io.Writer) error { return ex.run(ctx, w) })
		}),
	}
}

// A tableExport writes a table.
type tableExport struct {
	t   *talk
	n   int
	rev string
}

func (ex *tableExport) run(ctx context.Context, to io.Writer) error {
	w := bufio.NewWriterSize(to, 64<<10)
	err := ex.t.client.ExportTable(ctx, func(l api.TableLine) error {
		switch {
		case l.Table != nil:
			ex.rev = l.Table.Revision
			return writeHead(w, l.Table)
		case l.Tunnel != nil:
			ex.n++
			if ex.t.Bool("no-placement") {
				l.Tunnel.Pinned = nil
			}
			return writeItem(w, "- ", l.Tunnel)
		}
		return writeItem(w, "end: ", l.End)
	})
	if err == nil {
		err = w.Flush()
	}
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	ex.t.note("exported %s at revision %s", console.Some(ex.n, "tunnel"), ex.rev)
	return nil
}

// writeHead writes all before the tunnels.
func writeHead(w io.Writer, h *api.TableHead) error {
	data, err := json.Marshal(h)
	if err != nil {
		return err
	}
	text, err := yaml.JSONToYAML(data)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "# The whole table of director %s. `director import FILE` makes it so: what it does not name stays.\n"+
		"# Services, tenants and real servers are as the API has them. A tunnel is one line, and JSON.\n%stunnels:\n", h.Director, text)
	return err
}

// writeItem writes one line.
func writeItem(w io.Writer, before string, v any) error {
	if _, err := io.WriteString(w, before); err != nil {
		return err
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
