package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tunneldirector/cmd/console"
	"tunneldirector/director/api"
)

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// sites are n lines of CSV.
func sites(n int) string {
	var b strings.Builder
	b.WriteString("id,service,endpoints,subnets,bandwidth_bps,labels\n")
	for i := range n {
		fmt.Fprintf(&b, "site-%05d,ipsec,203.0.%d.%d,100.%d.%d.%d/32,1M,region=r%d\n", i, 100+i>>8, i&255, 64+i>>16, i>>8&255, i&255, i%3)
	}
	return b.String()
}

func TestImportTellsLines(t *testing.T) {
	w := furnished(t)
	file := write(t, "t.csv", "id,service,endpoints,subnets,bandwidth_bps\n"+
		"a,ipsec,203.0.113.1,,\n"+ // line 2
		"b,ipsec,203.0.113.2,,quick\n"+ // a fault of the file
		"\n"+
		"c,ipsec,203.0.113.1,,\n"+ // line 5: taken
		"d,wg,203.0.113.4,,\n"+ // line 6: no such service
		"e,ipsec,203.0.113.5:4500,,\n") // line 7: warned of
	w.run("tunnel", "import", file).
		Exits(console.ExitPartly, "2 created, 0 changed, 0 deleted, 0 unchanged in", "2 tunnels refused by the director", "1 tunnel with faults in the file").
		Tells("line 3, column 22: bandwidth_bps", "line 5, tunnel c: refused: Conflict", "line 6, tunnel d: refused: ", "value    wg", "line 7, tunnel e: note: ")
	r := w.run("tunnel", "import", file, "--json").Exits(console.ExitPartly, `"fault":{"line":3,"column":22,"id":"b"`, `"line":5,"id":"c"`, `"not_sent":1`)
	for line := range strings.Lines(r.Out) {
		if !json.Valid([]byte(line)) {
			t.Errorf("not JSON: %s", line)
		}
	}
	w.feed(`{"delete":"a"}`+"\n"+`{"id":"f","service":"ipsec","subnets":["100.64.9.0/24"]}`, "tunnel", "import", "-").Exits(console.ExitOK, "1 created", "1 deleted")
	w.run("tunnel", "import", file, "--check").Exits(console.ExitFailed).Tells("line 3, column 22", "5 lines, 1 faulty")
	w.run("tunnel", "import", "--check", write(t, "x", "id,service\na,b\n")).Exits(console.ExitOK, "1 tunnel, no fault")
	w.run("tunnel", "import", file+"x").Exits(console.ExitFailed).Tells("no such file")
	w.run("tunnel", "import", file, "--dry-run").Exits(console.ExitUsage).Tells("--dry-run goes with --complete")
	w.run("tunnel", "import", file, "--format", "xml").Exits(console.ExitUsage).Tells("neither ndjson nor csv")
}

// Without real servers each tunnel has a note; the first are printed.
func TestImportOfMuchUnplaced(t *testing.T) {
	w := newWorld(t)
	nobody, _, _ := strings.Cut(furniture, "real_servers:")
	w.feed(nobody, "apply", "-").Exits(console.ExitOK)
	r := w.feed(sites(100), "tunnel", "import", "-").Exits(console.ExitOK, "100 created", "100 tunnels accepted without a real server")
	if n := strings.Count(r.ErrOut, "note: unplaced"); n != maxUnplaced {
		t.Errorf("%d notes, want %d", n, maxUnplaced)
	}
	r = w.run("tunnel", "add", "x", "--service", "ipsec", "--subnet", "100.99.0.0/24").Exits(console.ExitOK, "unplaced: ")
	if n := strings.Count(r.Out, "unplaced: "); n != 1 {
		t.Errorf("why it is unplaced is told %d times: %s", n, r.Out)
	}
	w.run("tunnel", "import", "--complete", "--owner", "nobody", "--dry-run", write(t, "one.csv", "id,service\ny,ipsec\n")).Exits(console.ExitOK, "note: owner nobody had no tunnels")
}

// A director that dies in an import leaves word of how far it came.
func TestImportIntoADyingDirector(t *testing.T) {
	for _, tt := range []struct {
		name, says, want string
		code             int
	}{
		{"at once", "", "nothing is known to have been taken in, import again to go on", console.ExitUnreachable},
		{"later", `{"progress":{"lines":37,"refused":0,"seconds":1}}` + "\n", "the director had acknowledged 37 lines of the file, import again to go on", console.ExitPartly},
	} {
		t.Run(tt.name, func(t *testing.T) {
			socket := filepath.Join(t.TempDir(), "api.sock")
			l, err := net.Listen("unix", socket)
			if err != nil {
				t.Fatal(err)
			}
			srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/readyz" {
					_, _ = io.WriteString(w, `{"ok":true}`) // the client tells
					return
				}
				_, _ = io.Copy(io.Discard, r.Body) // all of it
				_, _ = io.WriteString(w, tt.says)
				_ = http.NewResponseController(w).Flush()
				panic(http.ErrAbortHandler)
			})}
			done := make(chan error, 1)
			go func() { done <- srv.Serve(l) }()
			w := &world{t: t, socket: socket}
			w.feed(sites(100), "tunnel", "import", "-").Exits(tt.code).Tells(tt.want)
			_ = srv.Close() // the listener's file goes with the test
			<-done
		})
	}
}

func TestCompleteSets(t *testing.T) {
	w := furnished(t)
	all, fewer := write(t, "all.csv", sites(50)), write(t, "fewer.csv", sites(20))
	w.run("tunnel", "import", "--complete", all, "--dry-run").Exits(console.ExitOK, "dry run, nothing was changed: 50 created", "create site-00000 site-00001")
	w.run("tunnel", "list").Exits(console.ExitOK).Tells("no tunnels")
	w.run("tunnel", "import", "--complete", all).Exits(console.ExitOK, "50 created")
	w.feed(sites(50), "tunnel", "import", "--complete", "-").Exits(console.ExitOK, "50 unchanged")
	w.run("tunnel", "import", "--complete", fewer).Exits(console.ExitRefused).Tells("leaves out 30 of the 50 tunnels", "?force=true")
	w.run("tunnel", "import", "--complete", "--dry-run", fewer).Exits(console.ExitOK, "30 deleted", "20 unchanged")
	w.run("tunnel", "import", "--complete", fewer, "--force").Exits(console.ExitOK, "30 deleted")
	w.feed(sites(20)+"x,ipsec,,,quick,\n", "tunnel", "import", "--complete", "-", "--format", "csv").Exits(console.ExitFailed).Tells("line 22, column 11", "nothing was sent")
	w.feed(`{"delete":"site-00001"}`, "tunnel", "import", "--complete", "-").Exits(console.ExitFailed).Tells("does not belong into a complete set")
	w.feed(sites(19)+"site-00019,wg,,,,\n", "tunnel", "import", "--complete", "-").Exits(console.ExitPartly).Tells("line 21, tunnel site-00019: refused")
}

// What export writes, import takes back unchanged, in both formats, over several pages.
func TestRoundTrip(t *testing.T) {
	w := furnished(t)
	w.feed(sites(exportPage+7), "tunnel", "import", "-").Exits(console.ExitOK, "2,007 created")
	odd := api.Tunnel{ID: "odd", Service: "ipsec", Endpoints: []string{"192.0.2.98:4500", "192.0.2.99"}, Subnets: []string{"100.100.0.0/24", "100.100.1.0/24"}, Bandwidth: 1234567,
		Group: "g", State: "coming", SeparateFrom: []string{"site-00001"}, Generation: 7,
		Labels: map[string]string{"plain": "x", "spaces": `a; b="c", d`, "empty": "", "html": "<&>", "umlaut": "ö"}}
	line, err := json.Marshal(odd)
	if err != nil {
		t.Fatal(err)
	}
	w.feed(string(line), "tunnel", "import", "-").Exits(console.ExitOK, "1 created")
	for _, format := range []string{"csv", "ndjson"} {
		file := filepath.Join(t.TempDir(), "t."+format)
		w.run("tunnel", "export", file).Exits(console.ExitOK).Tells("exported 2,008 tunnels at revision store-1:")
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if r := w.run("tunnel", "export", "--format", format).Exits(console.ExitOK); r.Out != string(data) {
			t.Errorf("%s: standard output has %d bytes, the file %d", format, len(r.Out), len(data))
		}
		w.run("tunnel", "import", file).Exits(console.ExitOK, "0 created, 0 changed, 0 deleted, 2,008 unchanged")
		w.run("tunnel", "import", "--complete", file).Exits(console.ExitOK, "2,008 unchanged")
		if left, _ := filepath.Glob(filepath.Join(filepath.Dir(file), ".*")); len(left) > 0 {
			t.Errorf("left behind: %q", left)
		}
	}
	w.run("tunnel", "export", "--label", "plain", "--format", "csv").Exits(console.ExitOK,
		`odd,ipsec,192.0.2.98:4500;192.0.2.99,100.100.0.0/24;100.100.1.0/24,1234567,g,,coming,"{""empty"":""""`)
}

// A batch that is interrupted ends in good order: what was read before is pushed.
func TestInterruptedImport(t *testing.T) {
	w := furnished(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, input := io.Pipe()
	go func() {
		// The command asks for a line break when it is through with what came before; it asks ahead by two.
		for _, text := range []string{sites(10), "\n", "\n", "\n"} {
			_, _ = io.WriteString(input, text) // fails if the command is gone, which the test sees
		}
		cancel() // while the command waits for more
	}()
	runIn(ctx, t, r, nil, "--socket", w.socket, "tunnel", "import", "--format", "csv", "-").
		Exits(console.ExitInterrupted, "10 created").Tells("interrupted", "what was pushed stays")
}

// Progress goes to a terminal's standard error, and only there.
func TestProgress(t *testing.T) {
	w := furnished(t)
	var out, errOut bytes.Buffer
	env := &console.Env{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errOut, Getenv: func(string) string { return "" }, Now: time.Now,
		IsTerminal: func(io.Writer) bool { return true }}
	file := write(t, "t.csv", sites(2000))
	if err := director(t.Context(), env, []string{"tunnel", "import", file, "--socket", w.socket}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(errOut.String(), "importing") || strings.Contains(out.String(), "importing") || !strings.HasPrefix(out.String(), "2,000 created") {
		t.Errorf("stdout: %q\nstderr: %q", out.String(), errOut.String())
	}
}
