package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/goccy/go-yaml"
	"github.com/urfave/cli/v2"

	"tunneldirector/cmd/console"
	"tunneldirector/director/api"
)

func importCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "import", Usage: "make all so that an exported table has", ArgsUsage: "FILE",
		Description: console.Describe(`
Takes a file of director export ("-": standard input) and makes services, tenants, real servers and
tunnels as it says, tunnels in the names of their owners. What it does not name stays; what was pushed
or deleted with a higher generation since is left alone; to import again changes nothing. A file that is
cut off, or with a fault in it, changes nothing, and each fault is told with its line. Look first with
--dry-run.

Tunnels are placed as if they were new. With --keep-placement those that are not up are moved
afterwards to the real servers that the file names, where these are alive: into an empty director,
import again when they are.`,
			"director import table.yaml --dry-run", "director import table.yaml --keep-placement"),
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "dry-run", Usage: "change nothing, tell what would change"},
			&cli.BoolFlag{Name: "keep-placement", Usage: "move what is not up to where the file has it"},
		},
		Action: streams(env, console.Count{Min: 1, Max: 1}, importTable),
	}
}

func importTable(ctx context.Context, t *talk) error {
	name := t.Args().First()
	var r io.Reader = &interruptible{ctx: ctx, r: t.Env.Stdin}
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return fmt.Errorf("open the table: %w", err)
		}
		defer f.Close()
		r = f
	}
	file := &tableFile{lines: lineReader{r: bufio.NewReaderSize(r, 64<<10)}}
	head, err := file.head()
	if err != nil {
		return fmt.Errorf("%s: nothing was changed: %w", name, err)
	}
	if err := t.reach(ctx); err != nil {
		return err
	}
	im := &importer{t: t, src: &source{name: name}}
	o := api.ImportOptions{DryRun: t.Bool("dry-run"), KeepPlacement: t.Bool("keep-placement")}
	im.bar = t.progress(-1, "importing", false)
	sum, err := t.client.ImportTable(ctx, o, func(w io.Writer) error { return file.send(ctx, w, head, &im.lines) }, im.tell)
	im.bar.done()
	if err != nil && sum.Lines == 0 {
		var p *api.Problem
		if errors.As(err, &p) {
			return err
		}
		return fmt.Errorf("%s: %w", name, err)
	}
	return im.end(sum, err, nil, false)
}

// A tableFile is an exported table: YAML, of which the tunnels are read line by line.
type tableFile struct{ lines lineReader }

// maxHead is more than services, tenants and real servers take.
const maxHead = 8 << 20

var tunnelsKey = []byte("tunnels:")

// head reads all before the tunnels, as JSON.
func (f *tableFile) head() ([]byte, error) {
	var text []byte
	for {
		data, whole, err := f.lines.next()
		switch {
		case errors.Is(err, io.EOF):
			return nil, errors.New("it is no exported table, or was cut off: a line `tunnels:` is missing")
		case err != nil:
			return nil, err
		case !whole || len(text) > maxHead:
			return nil, fmt.Errorf("line %d: it is no exported table: there is too much before the tunnels", f.lines.n)
		}
		if bytes.HasPrefix(data, tunnelsKey) {
			break
		}
		text = append(append(text, data...), '\n')
	}
	data, err := yaml.YAMLToJSON(text)
	if err != nil {
		return nil, fmt.Errorf("not well-formed YAML:\n%s", yaml.FormatError(err, false, true))
	}
	if data = bytes.TrimSpace(data); bytes.ContainsRune(data, '\n') || len(data) == 0 || data[0] != '{' {
		return nil, errors.New("it is no exported table: what is before the tunnels is not keys and values")
	}
	return data, nil
}

// send writes the table as the API takes it. Its lines have the numbers of the file's: it is those that faults are told with.
func (f *tableFile) send(ctx context.Context, w io.Writer, head []byte, sent *lineMap) error {
	for n := range f.lines.n {
		sent.add(n + 1)
	}
	if _, err := fmt.Fprintf(w, "{\"table\":%s}\n%s", head, bytes.Repeat([]byte("\n"), f.lines.n-1)); err != nil {
		return err
	}
	for {
		data, whole, err := f.lines.next()
		switch {
		case errors.Is(err, io.EOF):
			return nil // the director sees whether the end was there
		case err != nil:
			return fmt.Errorf("read line %d: %w", f.lines.n, err)
		case ctx.Err() != nil:
			return ctx.Err()
		case !whole:
			return fmt.Errorf("line %d is longer than %d bytes", f.lines.n, maxLine)
		}
		sent.add(f.lines.n)
		key, rest := "", []byte(nil)
		switch {
		case len(bytes.TrimSpace(data)) == 0 || data[0] == '#':
		case bytes.HasPrefix(data, []byte("- ")):
			key, rest = "tunnel", data[2:]
		case bytes.HasPrefix(data, []byte("end: ")):
			key, rest = "end", data[5:]
		default:
			return fmt.Errorf("line %d is neither a tunnel (- {...}) nor the end", f.lines.n)
		}
		if key == "" {
			_, err = w.Write([]byte("\n"))
		} else {
			_, err = fmt.Fprintf(w, "{%q:%s}\n", key, rest)
		}
		if err != nil {
			return err
		}
	}
}
