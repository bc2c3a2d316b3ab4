package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"strings"
	"sync"

	"github.com/urfave/cli/v2"

	"tunneldirector/cmd/console"
	"tunneldirector/director/api"
)

func tunnelImportCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "import", Usage: "push many tunnels from a file", ArgsUsage: "FILE",
		Description: console.Describe(`
Reads tunnels from FILE ("-": standard input), one a line, and pushes them as one stream of any
length. What is accepted is durable and forwarded as it goes; what is refused is told with its line
and stays out, and the exit code is 5. Interrupted, what was pushed stays: import again to go on.

NDJSON: a JSON object a line, with the fields of the API, or {"delete":"ID"}.
CSV: the first line names the columns, in any order, out of
  id,service,endpoints,subnets,bandwidth_bps,group,tenant,state,labels,separate_from,generation
of which id and service are needed. Lists are separated by ";" or spaces, labels are key=value pairs
or a JSON object, rates may be written 2M. A tunnel is replaced as a whole: what a line leaves out
is empty afterwards.

With --complete the file is the complete wanted set of its owner: tunnels that it does not name are
deleted, within the director's daily limit and never one that is up, unless --force. Then a faulty
line keeps everything from being sent. Look first with --dry-run.`,
			"director tunnel import tunnels.csv",
			"nms-dump | director tunnel import --format ndjson -",
			"director tunnel import --complete --dry-run all.ndjson",
			"director tunnel import --check tunnels.csv"),
		Flags: []cli.Flag{
			formatFlag(),
			&cli.BoolFlag{Name: "check", Usage: "only read the file and tell its faults; no director is asked"},
			&cli.BoolFlag{Name: "complete", Usage: "the file is the owner's complete set: delete what it does not name"},
			&cli.BoolFlag{Name: "dry-run", Usage: "with --complete: change nothing, tell what would be"},
			&cli.BoolFlag{Name: "force", Usage: "with --complete: delete however many, and what is up"},
			&cli.StringFlag{Name: "owner", Usage: "with --complete: whose set it is, `NAME` of a token; operators only"},
		},
		Action: streams(env, console.Count{Min: 1, Max: 1}, importTunnels),
	}
}

func formatFlag() cli.Flag {
	return &cli.StringFlag{Name: "format", Usage: "`FORMAT` of the file: ndjson or csv; default: by its name, else by its beginning"}
}

func importTunnels(ctx context.Context, t *talk) error {
	if err := checkFormat(t.String("format")); err != nil {
		return err
	}
	for _, name := range []string{"dry-run", "force", "owner"} {
		if t.IsSet(name) && !t.Bool("complete") {
			return console.Usage("--%s goes with --complete; to try a file without it there is --check", name)
		}
	}
	src, err := openSource(ctx, t.Env, t.Args().First(), t.String("format"))
	if err != nil {
		return err
	}
	defer src.close()
	im := &importer{t: t, src: src}
	if t.Bool("check") {
		return im.check()
	}
	if err := t.reach(ctx); err != nil {
		return err
	}
	if t.Bool("complete") {
		return im.complete(ctx)
	}
	return im.batch(ctx)
}

// An importer pushes a file. The goroutine that reads the file and the one that reads the answers share only lines.
type importer struct {
	t     *talk
	src   *source
	bar   *progress
	lines lineMap
	read  int // entries
	bad   int // of them, those with faults, which are not sent

	out      sync.Mutex // guards what is printed while both goroutines run, and what follows
	unplaced int        // notes of tunnels without a real server, of which the first are printed
	answered int        // lines that the director said are durable or refused
}

// An importLine is what `import` prints with --json for each line that has something to it, and at the end.
type importLine struct {
	api.StreamLine
	Fault      *lineFault `json:"fault,omitempty"`       // found by this program: not sent
	NotSent    int        `json:"not_sent,omitempty"`    // lines with faults; beside the summary
	Interrupts bool       `json:"interrupted,omitempty"` // beside the summary
}

func (im *importer) check() error {
	im.bar = im.t.progress(im.src.size, "reading", true)
	for e, err := range entries(im.bar.reading(im.src.r), im.src.format) {
		if err != nil {
			return err
		}
		im.read++
		im.fault(e)
	}
	im.bar.done()
	if im.bad > 0 {
		im.t.note("%s: %s, %d faulty", im.src.name, console.Some(im.read, "line"), im.bad)
		return console.Coded(console.ExitFailed, nil)
	}
	return im.t.Show(map[string]any{"lines": im.read, "faulty": 0}, func(p *console.Page) {
		p.Line("%s: %s, no fault that shows without a director", im.src.name, console.Some(im.read, "tunnel"))
	})
}

// fault tells the faults of a line, if it has any.
func (im *importer) fault(e entry) bool {
	if len(e.faults) == 0 {
		return false
	}
	im.bad++
	im.out.Lock()
	defer im.out.Unlock()
	im.bar.clear()
	for i := range e.faults {
		if im.t.JSON {
			_ = im.t.JSONLine(importLine{Fault: &e.faults[i]}) // the summary would fail too
			continue
		}
		fmt.Fprintf(im.t.Stderr, "%s: %s\n", im.src.name, e.faults[i].Error())
	}
	return true
}

// batch streams the file.
func (im *importer) batch(ctx context.Context) error {
	im.bar = im.t.progress(im.src.size, "importing", true)
	interrupted := false
	var readErr error
	items := func(yield func(api.BatchItem, error) bool) {
		for e, err := range entries(im.bar.reading(im.src.r), im.src.format) {
			if ctx.Err() != nil { // the stream is ended in good order, so that the director sums up
				interrupted = true
				return
			}
			if err != nil {
				readErr = err
				return
			}
			im.read++
			if im.fault(e) {
				continue
			}
			im.lines.add(e.line)
			if !yield(e.item, nil) {
				return
			}
		}
	}
	push, stop := graceful(ctx, im.t)
	defer stop()
	sum, err := im.t.client.Batch(push, items, true, im.tell)
	im.bar.done()
	if err != nil && sum.Lines == 0 {
		return errors.Join(im.broken(err), readErr)
	}
	return im.end(sum, err, readErr, interrupted)
}

// broken says how far an import came that ended without a word from the director.
func (im *importer) broken(err error) error {
	var p *api.Problem
	if errors.As(err, &p) || errors.Is(err, context.Canceled) {
		return err // refused as a whole, or interrupted
	}
	im.out.Lock()
	defer im.out.Unlock()
	if im.answered == 0 {
		return fmt.Errorf("%w; nothing is known to have been taken in, import again to go on", err)
	}
	return console.Coded(console.ExitPartly, fmt.Errorf("%w; the director had acknowledged %s of the file, import again to go on", err, console.Some(im.answered, "line")))
}

// graceful is a context that lives on for a while after ctx: long enough for a director to sum up.
func graceful(ctx context.Context, t *talk) (context.Context, func()) {
	push, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		limit, done := t.limited(push)
		defer done()
		<-limit.Done()
		cancel()
	})
	return push, func() { stop(); cancel() }
}

// complete checks the whole file, then sends it.
func (im *importer) complete(ctx context.Context) error {
	file, isFile := im.src.r.(*os.File)
	if !isFile || im.src.size < 0 {
		var err error
		if file, err = im.src.spool(); err != nil {
			return err
		}
		defer file.Close()
	}
	im.bar = im.t.progress(im.src.size, "reading", true)
	n, err := im.countAll(ctx, file)
	im.bar.done()
	if err != nil {
		return err
	}
	if im.bad > 0 {
		return console.Coded(console.ExitFailed, fmt.Errorf("%s: %s with faults; nothing was sent, since a complete set is checked as a whole", im.src.name, console.Some(im.bad, "line")))
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("read %s again: %w", im.src.name, err)
	}
	o := api.SetOptions{Owner: im.t.String("owner"), Count: n, DryRun: im.t.Bool("dry-run"), Force: im.t.Bool("force")}
	im.bar = im.t.progress(int64(n), "sending", false)
	im.lines.skip() // the first line gives the count
	sum, err := im.t.client.PutSet(ctx, o, im.tunnels(ctx, file), im.tell)
	im.bar.done()
	if err != nil && sum.Lines == 0 {
		return err
	}
	return im.end(sum, err, nil, false)
}

func (im *importer) countAll(ctx context.Context, r io.Reader) (n int, err error) {
	if f, ok := r.(*os.File); ok {
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return 0, fmt.Errorf("read %s: %w", im.src.name, err)
		}
	}
	for e, err := range entries(im.bar.reading(r), im.src.format) {
		if err = errors.Join(err, ctx.Err()); err != nil {
			return 0, err
		}
		if len(e.faults) == 0 && e.item.Delete != "" {
			e.faults = []lineFault{{Line: e.line, ID: e.item.Delete, Field: "delete", Value: e.item.Delete,
				Problem: "does not belong into a complete set", Remedy: "leave the tunnel out"}}
		}
		im.fault(e)
		n++
	}
	return n, nil
}

func (im *importer) tunnels(ctx context.Context, r io.Reader) iter.Seq2[api.Tunnel, error] {
	return func(yield func(api.Tunnel, error) bool) {
		for e, err := range entries(r, im.src.format) {
			err = errors.Join(err, ctx.Err())
			im.lines.add(e.line)
			if !yield(e.item.Tunnel, err) || err != nil {
				return
			}
			im.bar.add(1)
		}
	}
}

const maxUnplaced = 20 // tunnels without a real server that are told one by one

// tell prints what the director says about a line.
func (im *importer) tell(l api.StreamLine) {
	l.Line = im.lines.file(l.Line)
	im.out.Lock()
	defer im.out.Unlock()
	if l.Progress != nil {
		im.answered = l.Progress.Lines
		return
	}
	if im.t.JSON {
		_ = im.t.JSONLine(importLine{StreamLine: l}) // the summary would fail too
		return
	}
	im.bar.clear()
	where := l.ID
	if l.Line > 0 {
		where = fmt.Sprintf("line %d, tunnel %s", l.Line, console.OrDash(l.ID))
	}
	switch {
	case l.Error != nil:
		fmt.Fprintf(im.t.Stderr, "%s: refused: %s\n", where, problemWords(l.Error))
	case l.Kept != "":
		fmt.Fprintf(im.t.Stderr, "%s: kept: %s\n", where, l.Kept)
	}
	for _, w := range l.Warnings {
		if strings.HasPrefix(w, unplacedNote) {
			if im.unplaced++; im.unplaced > maxUnplaced {
				continue // the summary counts them
			}
		}
		fmt.Fprintf(im.t.Stderr, "%s: note: %s\n", where, w)
	}
}

// end prints the sum and finds the exit code.
func (im *importer) end(sum api.Summary, err, readErr error, interrupted bool) error {
	out := importLine{StreamLine: api.StreamLine{Summary: &sum}, NotSent: im.bad, Interrupts: interrupted}
	if perr := im.t.Show(out, func(p *console.Page) { importPage(p, sum, im.bad) }); perr != nil {
		return perr
	}
	switch {
	case interrupted:
		return console.Coded(console.ExitInterrupted, errors.New("import interrupted; what was pushed stays, import again to go on"))
	case err != nil || readErr != nil:
		return console.Coded(console.ExitPartly, fmt.Errorf("import stopped before its end: %w; what was pushed stays, import again to go on", errors.Join(readErr, err)))
	case sum.Refused > 0 || im.bad > 0:
		return console.Coded(console.ExitPartly, nil)
	}
	return nil
}

func importPage(p *console.Page, sum api.Summary, notSent int) {
	verb := ""
	if sum.DryRun {
		verb = "dry run, nothing was changed: "
	}
	p.Line("%s%s created, %s changed, %s deleted, %s unchanged in %.1f s", verb, console.Number(sum.Created), console.Number(sum.Changed), console.Number(sum.Deleted),
		console.Number(sum.Unchanged), sum.Seconds)
	for _, x := range []struct {
		n    int
		what string
	}{
		{sum.Refused, "refused by the director"}, {sum.Untold, "of them without a line of their own here"}, {notSent, "with faults in the file, not sent"}, {sum.Unplaced, "accepted without a real server that has room"}, {sum.Pending, "accepted, to be placed by the director that assigns"},
		{sum.Kept, "not named by the file but kept"}, {sum.Newer, "pushed by others meanwhile, left alone"}, {sum.Unanswered, "of unknown fate: import them again"},
	} {
		if x.n > 0 {
			p.Line("  %s %s", console.Some(x.n, "tunnel"), x.what)
		}
	}
	for _, w := range sum.Warnings {
		p.Line("  note: %s", w)
	}
	for _, x := range []struct {
		what  string
		names []string
	}{{"create", sum.Names.Create}, {"change", sum.Names.Change}, {"delete", sum.Names.Delete}, {"keep", sum.Names.Keep}} {
		if sum.DryRun && len(x.names) > 0 {
			p.Line("  %-6s %s", x.what, someNames(x.names, 20))
		}
	}
}
