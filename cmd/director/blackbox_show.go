package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"unicode"

	"github.com/gopacket/gopacket/pcapgo"
	"github.com/urfave/cli/v2"

	"tunneldirector/cmd/console"
)

func blackBoxShowCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "show", Usage: "show the packets of a recording, and what became of each", ArgsUsage: "ID|FILE",
		Description: console.Describe(`
Shows a recording of the director that is asked, by its id, or a pcapng file by its path (- is standard
input): why and when it was made, then a line for each packet with its time (UTC), interface, ends, protocol,
length, and what became of it and why; at the end the packets by reason, and the ten sources with most of
them. A few packets of each reason are taken a second, so these are not the numbers of what was dropped.

Of a file that a crash has torn it shows what there is. With --json a packet a line, head in base64. It
takes an operator: a recording has the first 128 bytes of packets.`,
			"director blackbox show 20260102T030405Z-loop", "director blackbox show 20260102T030405Z-loop --reason unknown-endpoint --limit 0", "director blackbox show ./loop.pcapng --json"),
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "reason", Usage: "only packets that were not forwarded for `REASON`, as loop or unknown-endpoint"},
			&cli.IntFlag{Name: "limit", Aliases: []string{"n"}, Value: 50, Usage: "the last `N` packets; 0: all"},
		},
		Action: func(c *cli.Context) error {
			if err := (console.Count{Min: 1, Max: 1}).Check(c); err != nil {
				return err
			}
			if c.Int("limit") < 0 {
				return console.Usage("--limit %d: is negative; 0 shows all", c.Int("limit"))
			}
			v := &recordingView{name: c.Args().First(), reason: c.String("reason"), limit: c.Int("limit")}
			if recordingID.MatchString(v.name) {
				return streams(env, console.Count{Max: -1}, func(ctx context.Context, t *talk) error { return showRecording(ctx, t, v) })(c)
			}
			return showFile(env, v)
		},
	}
}

// showRecording shows one that a director has.
func showRecording(ctx context.Context, t *talk, v *recordingView) error {
	if err := t.reach(ctx); err != nil {
		return err
	}
	r, err := t.client.Recording(ctx, v.name)
	if err != nil {
		return withoutBlackBox(err)
	}
	defer r.Close()
	return v.show(t.Env, r)
}

// showFile shows one that is a file here.
func showFile(env *console.Env, v *recordingView) error {
	if v.name == "-" {
		return v.show(env, env.Stdin)
	}
	f, err := os.Open(v.name)
	if err != nil {
		return console.Coded(console.ExitFailed, fmt.Errorf("%w; what is no id of a recording (director blackbox list) is the path of a file", err))
	}
	defer f.Close()
	return v.show(env, f)
}

// A recordingView is what is shown of a recording.
type recordingView struct {
	name, reason string
	limit        int

	last []*recordedPacket // fewer than twice limit, while they are read
	recordingSums
}

// show prints a recording. It reads all of it first, since what stands above the packets sums them up.
func (v *recordingView) show(env *console.Env, r io.Reader) error {
	v.recordingSums = newRecordingSums()
	ng, torn := readRecording(r, v.add)
	if ng == nil {
		return console.Coded(console.ExitFailed, fmt.Errorf("show %s: %w", v.name, torn))
	}
	if v.limit > 0 && len(v.last) > v.limit {
		v.last = v.last[len(v.last)-v.limit:]
	}
	if env.JSON {
		for _, p := range v.last {
			if err := env.JSONLine(p); err != nil {
				return err
			}
		}
	} else {
		page := &console.Page{W: env.Stdout}
		v.page(page, ng)
		if page.Err != nil {
			return page.Err
		}
	}
	if v.shown == 0 && v.n > 0 {
		fmt.Fprintf(noteTo(env), "no packet is of reason %s; there are %s\n", v.reason, v.words())
	}
	if torn == nil {
		return nil
	}
	text := fmt.Sprintf("%s is not whole after packet %d: %v; what is above is what there is", filepath.Base(v.name), v.n, torn)
	if errors.Is(torn, io.ErrUnexpectedEOF) {
		text = fmt.Sprintf("%s ends in the middle, after packet %d: a crash tore it, or it is being written; what is above is what there is", filepath.Base(v.name), v.n)
		env.Tell("director", console.ErrorLine{Error: text}, text)
		return nil
	}
	return console.Coded(console.ExitFailed, errors.New(text))
}

// noteTo is where people are told something beside the answer.
func noteTo(env *console.Env) io.Writer {
	if env.JSON {
		return io.Discard
	}
	return env.Stderr
}

func (v *recordingView) add(p *recordedPacket) {
	if !v.count(p, v.reason) {
		return
	}
	if v.last = append(v.last, p); v.limit > 0 && len(v.last) >= 2*v.limit {
		v.last = append(v.last[:0], v.last[len(v.last)-v.limit:]...)
	}
}

// page prints what the file says of itself, the packets, and their sums.
func (v *recordingView) page(p *console.Page, ng *pcapgo.NgReader) {
	info := ng.SectionInfo()
	facts := [][2]string{{"recording", filepath.Base(v.name)}, {"why", harmless(info.Comment)}, {"written by", harmless(info.Application)}, {"packets", v.span()}}
	for i := range ng.NInterfaces() {
		if dev, err := ng.Interface(i); err == nil && dev.Comment != "" {
			of := "about" // the first one is what triggered
			if i > 0 {
				of = "interface " + harmless(dev.Name)
			}
			facts = append(facts, [2]string{of, harmless(dev.Comment)})
		}
	}
	p.Facts(facts)
	if v.shown > 0 {
		p.Line("")
	}
	if left := v.shown - len(v.last); left > 0 {
		p.Line("... %s before these; --limit 0 shows all", console.Some(left, "packet"))
	}
	for _, x := range v.last {
		p.Line("%s", harmless(packetLine(x.At, x.Interface, x.packetEnds, x.Length)+after("  ", x.briefly())))
		for _, note := range x.Notes {
			p.Line("    %s", harmless(note))
		}
	}
	v.tables(p)
}

// harmless is what a file says as one line that a terminal takes for no commands.
func harmless(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || !unicode.IsGraphic(r) {
			return '?'
		}
		return r
	}, strings.ReplaceAll(s, "\n", "; "))
}
