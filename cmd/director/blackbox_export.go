package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/urfave/cli/v2"

	"tunneldirector/cmd/console"
)

func blackBoxExportCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "export", Usage: "write a recording to a file, for Wireshark", ArgsUsage: "ID",
		Description: console.Describe(`
Writes a recording as pcapng. Wireshark shows what became of a packet, and why, as the packet's comment.
The file has the first 128 bytes of packets, so only its owner may read it, and the director gives it to
operators alone. It is put in place when it is complete.`,
			"director blackbox export 20260102T030405Z-loop", "director blackbox export 20260102T030405Z-loop --out - | tshark -r - -T fields -e frame.comment"),
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "out", Usage: "`FILE` to write, or - for standard output", DefaultText: "ID.pcapng here"},
			&cli.BoolFlag{Name: "force", Usage: "replace the file if it is there"},
		},
		Action: streams(env, console.Count{Min: 1, Max: 1}, exportRecording),
	}
}

func exportRecording(ctx context.Context, t *talk) error {
	id := t.Args().First()
	if !recordingID.MatchString(id) {
		return console.Usage("%s: is no id of a recording; see director blackbox list", clip(id))
	}
	name := orWord(t.String("out"), id+recordingSuffix)
	if name == "-" && t.IsTerminal(t.Stdout) {
		return console.Usage("--out -: this is a terminal, and a recording is no text; say --out FILE, or look at it with director blackbox show %s", id)
	}
	if name != "-" && !t.Bool("force") {
		if _, err := os.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
			return console.Coded(console.ExitFailed, fmt.Errorf("%s is there already: say --force to replace it, or --out FILE", name))
		}
	}
	if err := t.reach(ctx); err != nil {
		return err
	}
	r, err := t.client.Recording(ctx, id)
	if err != nil {
		return withoutBlackBox(err)
	}
	defer r.Close()
	var n int64
	write := func(w io.Writer) (err error) {
		n, err = io.Copy(w, r)
		return err
	}
	if name == "-" {
		err = write(t.Stdout)
	} else {
		err = exportTo(name, 0o600, write)
	}
	if err != nil {
		return fmt.Errorf("export recording %s: %w", id, err)
	}
	t.note("%s, %s", name, console.Octets(uint64(n)))
	return nil
}
