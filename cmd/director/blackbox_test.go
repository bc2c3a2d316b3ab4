package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"tunneldirector/cmd/console"
	"tunneldirector/cmd/console/consoletest"
	"tunneldirector/director/api"
	"tunneldirector/director/config"
	"tunneldirector/director/plane"
)

// A box is an api.BlackBox in memory.
type box struct {
	list  api.RecordingList
	files map[string][]byte
	shown []api.SeenPacket // that come in for each who watches
	busy  error            // why nobody may watch

	mu      sync.Mutex // guards what follows
	asked   []string
	watched api.PacketFilter
}

func (b *box) Recordings() (api.RecordingList, error) { return b.list, nil }

func (b *box) Record(_ context.Context, by, why string) (api.Recording, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked = append(b.asked, by+": "+why)
	return api.Recording{ID: operatorsID, Trigger: "operator", Object: by, Why: why, Open: true}, nil
}

func (b *box) Recording(id string) (io.ReadCloser, error) {
	if f, ok := b.files[id]; ok {
		return io.NopCloser(bytes.NewReader(f)), nil
	}
	return nil, fmt.Errorf("open recording %s: %w", id, fs.ErrNotExist)
}

func (b *box) Packets(ctx context.Context, _ string, w api.PacketFilter, f func(api.SeenPacket) error) error {
	b.mu.Lock()
	b.watched = w
	b.mu.Unlock()
	if b.busy != nil {
		return b.busy
	}
	for _, p := range b.shown {
		if err := f(p); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return nil
}

const (
	loopID      = "20260102T030405Z-loop"
	tornID      = "20260102T030406Z-drops-2"
	operatorsID = "20260102T030407Z-operator"
)

// boxed is a furnished world whose director has a black box.
func boxed(t *testing.T, b *box) *world {
	t.Helper()
	w := furnished(t)
	w.hangUp()
	exam := newExaminer(config.Config{Name: "d1"}, w.d, &kernel{}, agents{book: w.agents}, nil, nil, nil)
	w.server = api.New(w.d, api.Options{Name: "d1", Examiner: exam, BlackBox: b})
	w.listen()
	return w
}

// atFive is when recordings of tests are made.
var atFive = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// recordingOf is a pcapng file with n packets, a tenth of a second apart, of two reasons.
func recordingOf(t testing.TB, n int) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := pcapgo.NewNgWriterInterface(&b, pcapgo.NgInterface{Name: "director", Description: "what triggered this recording", Comment: "rs1\nand rs2", LinkType: layers.LinkTypeEthernet},
		pcapgo.NgWriterOptions{SectionInfo: pcapgo.NgSectionInfo{Application: "tunneldirector 1.2.3 (director d1)", Comment: "a packet came back from rs1"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"eth0", "eth1"} {
		if _, err := w.AddInterface(pcapgo.NgInterface{Name: name, LinkType: layers.LinkTypeEthernet, SnapLength: plane.SampleBytes}); err != nil {
			t.Fatal(err)
		}
	}
	seen := []api.SeenPacket{
		{Action: "drop", Reason: "unknown-endpoint", Side: "tunnel", Service: "ipsec"},
		{Action: "drop", Reason: "loop", Side: "tunnel", Service: "ipsec", RealServer: "rs1"},
	}
	list := frames(t)
	for i := range n {
		f := list[i%len(list)]
		o := pcapgo.NgPacketOptions{Comments: []string{becameWords(&seen[i%2])}}
		if i == 3 {
			o.Comments = append([]string{"drops of loop jumped from 2 to 840 packets/s"}, o.Comments...)
		}
		ci := gopacket.CaptureInfo{Timestamp: atFive.Add(time.Duration(i) * 100 * time.Millisecond), CaptureLength: len(f), Length: len(f) + 1000, InterfaceIndex: 1 + i%2}
		if err := w.WritePacketWithOptions(ci, f, o); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func someRecordings() api.RecordingList {
	return api.RecordingList{Director: "d1", MaxBytes: 64 << 20, Error: "no space left on device",
		Recordings: []api.Recording{{ID: loopID, At: atFive, Trigger: "loop", Object: "rs1", Why: "a packet came back from rs1", Bytes: 123456},
			{ID: operatorsID, At: atFive.Add(2 * time.Second), Trigger: "operator", Object: "alice", Why: "site-0042 cannot dial", Bytes: 4096, Open: true}},
		Kept: []api.KeptDrops{{Reason: "loop", Samples: 256, Last: atFive}, {Reason: "unknown-endpoint", Samples: 3, Last: atFive.Add(time.Second)}}}
}

func TestGoldenBlackBox(t *testing.T) {
	now := atFive.Add(90 * time.Second)
	list := someRecordings()
	show := func(n, limit int, reason string) func(p *console.Page) {
		return func(p *console.Page) {
			v := &recordingView{name: loopID, limit: limit, reason: reason}
			if err := v.show(&console.Env{Stdout: p.W, Stderr: p.W}, bytes.NewReader(recordingOf(t, n))); err != nil {
				t.Error(err)
			}
		}
	}
	for name, print := range map[string]func(p *console.Page){
		"blackbox-list":        func(p *console.Page) { recordingsPage(p, now, &list) },
		"blackbox-none":        func(p *console.Page) { recordingsPage(p, now, &api.RecordingList{Director: "d1"}) },
		"blackbox-show":        show(12, 50, ""),
		"blackbox-show-some":   show(60, 4, "unknown-endpoint"),
		"blackbox-show-nobody": show(0, 50, ""),
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			print(&console.Page{W: &b})
			consoletest.Golden(t, name, b.Bytes())
		})
	}
}

func TestBlackBox(t *testing.T) {
	whole := recordingOf(t, 60)
	b := &box{list: someRecordings(), files: map[string][]byte{loopID: whole, tornID: whole[:len(whole)-70]}}
	w := boxed(t, b)
	file := filepath.Join(t.TempDir(), "mine.pcapng")
	if err := os.WriteFile(file, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, s := range []struct {
		args, stdin string
		code        int
		out, errs   []string
	}{
		{args: "list", out: []string{loopID, "loop rs1", "a packet came back from rs1", "2 recordings of director d1", "being written", "ERROR  no space left"}},
		{args: "ls --json", out: []string{`"recordings":[{"id":"` + loopID + `"`, `"kept":[{"reason":"loop","samples":256`}},
		{args: "show " + loopID, out: []string{"a packet came back from rs1", "tunneldirector 1.2.3 (director d1)", "60, from 2026-01-02 03:04:05Z to 2026-01-02 03:04:10Z", "... 10 packets before these; --limit 0 shows all"}},
		{args: "show " + loopID + " --reason loop --limit 0", out: []string{"dropped: loop, real server rs1, tunnel side, service ipsec\n"}},
		{args: "show " + loopID + " --reason lop", out: []string{"a packet came back"}, errs: []string{"no packet is of reason lop; there are loop 30, unknown-endpoint 30"}},
		{args: "show " + loopID + " --limit -1", code: console.ExitUsage, errs: []string{"is negative"}},
		{args: "show", code: console.ExitUsage, errs: []string{"ID|FILE"}},
		{args: "show " + file + " -n 1", out: []string{"mine.pcapng", "... 59 packets before these"}},
		{args: "show -", stdin: string(whole), out: []string{"60, from"}},
		{args: "show -", stdin: "this is no recording at all, and long enough", code: console.ExitFailed, errs: []string{"it is no pcapng"}},
		{args: "show - --json", stdin: "", code: console.ExitFailed, errs: []string{`it is no pcapng: unexpected EOF`}},
		{args: "show " + tornID, out: []string{"59, from"}, errs: []string{tornID + " ends in the middle, after packet 59: a crash tore it, or it is being written"}},
		{args: "show " + tornID + " --json", out: []string{`"reason":"loop"`}, errs: []string{`{"error":"` + tornID + ` ends in the middle`}},
		{args: "show 20260102T030405Z-drops", code: console.ExitRefused, errs: []string{`no recording "20260102T030405Z-drops"`, "remedy   GET /v1/blackbox lists them"}},
		{args: "show nothing.pcapng", code: console.ExitFailed, errs: []string{"nothing.pcapng", "what is no id of a recording (director blackbox list) is the path of a file"}},
		{args: "record --why because", out: []string{"recording " + operatorsID}, errs: []string{"director blackbox show " + operatorsID}},
		{args: "record --json", out: []string{`"id":"` + operatorsID + `"`}},
		{args: "record --why " + strings.Repeat("x", 301), code: console.ExitRefused, errs: []string{"field    why", "at most 300"}},
		{args: "export " + loopID + " --out -", out: []string{"\x0a\x0d\x0d\x0a"}},
		{args: "export mine.pcapng", code: console.ExitUsage, errs: []string{"is no id of a recording"}},
		{args: "export ../" + loopID, code: console.ExitUsage, errs: []string{"is no id of a recording"}},
		{args: "export 20260102T030405Z-drops --out " + file + "2", code: console.ExitRefused, errs: []string{"no recording"}},
		{args: "export " + loopID + " --out " + file, code: console.ExitFailed, errs: []string{file + " is there already: say --force"}},
		{args: "export " + loopID + " --out " + file + " --force", errs: []string{file + ", "}},
		{args: "export " + loopID + " --out " + filepath.Join(filepath.Dir(file), "nowhere", "x"), code: console.ExitFailed, errs: []string{"export to", "no such file or directory"}},
	} {
		w.feed(s.stdin, append([]string{"blackbox"}, strings.Fields(s.args)...)...).Exits(s.code, s.out...).Tells(s.errs...)
	}
	if want := []string{"local: because", "local: "}; !cmp.Equal(b.asked, want) {
		t.Errorf("asked for recordings: %q", b.asked)
	}
	left, err := os.ReadDir(filepath.Dir(file))
	if err != nil || len(left) != 1 {
		t.Errorf("beside the file are left %v, %v", left, err)
	}
	furnished(t).run("blackbox", "list").Exits(console.ExitRefused).Tells("no such path: /v1/blackbox", "this director has no black box")
	for words, want := range map[string]string{"show ": loopID + " " + operatorsID, "export 20260102T030405": loopID, "show x --reason lo": "local loop", "show " + loopID + " ": ""} {
		r := w.run(append([]string{"__complete", "--", "--socket", w.socket, "blackbox"}, strings.Split(words, " ")...)...).Exits(console.ExitOK)
		var got []string
		for line := range strings.Lines(r.Out) {
			word, _, _ := strings.Cut(strings.TrimSpace(line), "\t")
			got = append(got, word)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q is completed by %q, want %q", words, got, want)
		}
	}
}

// An export is what the director has, whole, and for its owner alone; by default its name is the id.
func TestExportOfARecording(t *testing.T) {
	whole := recordingOf(t, 12)
	w := boxed(t, &box{files: map[string][]byte{loopID: whole}})
	t.Chdir(t.TempDir())
	w.run("blackbox", "export", loopID).Exits(console.ExitOK).Tells(loopID + ".pcapng, ")
	data, err := os.ReadFile(loopID + ".pcapng")
	if err != nil || !bytes.Equal(data, whole) {
		t.Errorf("%d bytes of %d, %v", len(data), len(whole), err)
	}
	st, err := os.Stat(loopID + ".pcapng")
	if err != nil {
		t.Fatal(err)
	}
	if mode := st.Mode().Perm(); mode != 0o600 {
		t.Errorf("others may use it: %v", mode)
	}
	args := []string{"--socket", w.socket, "blackbox", "export", loopID, "--out", "-"}
	env := &console.Env{Getenv: func(string) string { return "" }, IsTerminal: func(io.Writer) bool { return true }, Now: time.Now}
	consoletest.Run(t, env, args, func() int { return report(env, director(t.Context(), env, args)) }).Exits(console.ExitUsage).Tells("this is a terminal")
}

// With --json a packet a line, as it stands in the file.
func TestRecordedPackets(t *testing.T) {
	var b bytes.Buffer
	v := &recordingView{name: loopID}
	if err := v.show(&console.Env{Stdout: &b, Stderr: &b, JSON: true}, bytes.NewReader(recordingOf(t, 6))); err != nil {
		t.Fatal(err)
	}
	list := frames(t)
	at := func(n int) time.Time { return atFive.Add(time.Duration(n) * 100 * time.Millisecond) }
	const unknown = "dropped: unknown-endpoint (no tunnel has this endpoint, and the service drops unknown ones), tunnel side, service ipsec"
	const loop = "dropped: loop (it came from the real server to which it would go), real server rs1, tunnel side, service ipsec"
	want := []recordedPacket{
		{Interface: "eth0", packetEnds: packetEnds{From: "203.0.113.5", FromPort: 41641, To: "192.0.2.10", ToPort: 51820, Proto: "udp"}, Became: unknown, Reason: "unknown-endpoint"},
		{Interface: "eth1", packetEnds: packetEnds{From: "2001:db8::5", To: "2001:db8::10", Proto: "esp"}, Became: loop, Reason: "loop"},
		{Interface: "eth0", packetEnds: packetEnds{From: "203.0.113.5", To: "192.0.2.10", Proto: "udp", Fragment: "later"}, Became: unknown, Reason: "unknown-endpoint"},
		{Interface: "eth1", packetEnds: packetEnds{From: "203.0.113.5", FromPort: 41641, To: "192.0.2.10", ToPort: 51820, Proto: "udp", Fragment: "first"}, Became: loop, Reason: "loop", Notes: []string{"drops of loop jumped from 2 to 840 packets/s"}},
		{Interface: "eth0", packetEnds: packetEnds{From: "203.0.113.5", To: "192.0.2.10", Proto: "ipip"}, Became: unknown, Reason: "unknown-endpoint"},
		{Interface: "eth1", packetEnds: packetEnds{From: "02:00:00:00:00:0b", To: "02:00:00:00:00:01", Proto: "arp"}, Became: loop, Reason: "loop"},
	}
	var got []recordedPacket
	for line := range strings.Lines(b.String()) {
		var p recordedPacket
		if err := json.Unmarshal([]byte(line), &p); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		got = append(got, p)
	}
	for i := range want {
		want[i].At, want[i].Head, want[i].Length = at(i), list[i], len(list[i])+1000
	}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(recordedPacket{})); d != "" {
		t.Error(d)
	}
}

// Of whatever a crash leaves, all packets before it are shown, and it is said.
func TestTornRecordings(t *testing.T) {
	whole := recordingOf(t, 12)
	last := 0
	for cut := len(whole); cut >= 0; cut-- {
		n := 0
		ng, err := readRecording(bytes.NewReader(whole[:cut]), func(*recordedPacket) { n++ })
		switch {
		case cut == len(whole):
			if err != nil || n != 12 {
				t.Fatalf("the whole file has %d packets, %v", n, err)
			}
		case n > last, last-n > 1:
			t.Fatalf("cut at %d it has %d packets, and with a byte more %d", cut, n, last)
		case n < last && err == nil:
			t.Fatalf("cut at %d nothing is said", cut)
		case ng == nil && n > 0:
			t.Fatalf("cut at %d it is no recording, and has %d packets", cut, n)
		}
		last = n
	}
}

// A file of another program may hold packets without an Ethernet header.
func TestRecordedWithoutEthernet(t *testing.T) {
	var b bytes.Buffer
	w, err := pcapgo.NewNgWriter(&b, layers.LinkTypeRaw)
	if err != nil {
		t.Fatal(err)
	}
	ip := frames(t)[0][14:]
	if err := w.WritePacket(gopacket.CaptureInfo{Timestamp: atFive, CaptureLength: len(ip), Length: len(ip)}, ip); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if _, err := readRecording(&b, func(p *recordedPacket) {
		if got := p.words(); got != "203.0.113.5:41641 > 192.0.2.10:51820  udp" {
			t.Error(got)
		}
	}); err != nil {
		t.Error(err)
	}
}

// What a file says is no command to a terminal.
func TestHarmless(t *testing.T) {
	if got := harmless("a\x1b[2Jb\r\x9bc\u202ed\nü"); got != "a?[2Jb?\ufffdc?d; ü" {
		t.Errorf("%q", got)
	}
}

// Whatever a file holds, it is shown or refused, and moves no cursor of a terminal.
func FuzzRecording(f *testing.F) {
	f.Add(recordingOf(f, 7))
	f.Add(file(f, true))
	f.Fuzz(func(t *testing.T, data []byte) {
		var b bytes.Buffer
		v := &recordingView{name: "f", limit: 5}
		_ = v.show(&console.Env{Stdout: &b, Stderr: io.Discard}, bytes.NewReader(data))
		if i := bytes.IndexFunc(b.Bytes(), func(r rune) bool { return r < ' ' && r != '\n' || r == 0x7f || r >= 0x80 && r < 0xa0 }); i >= 0 {
			t.Errorf("byte %d is a control character: %q", i, b.Bytes())
		}
	})
}

// What became of a packet is found again in its comment, for every reason that there is.
func TestBecame(t *testing.T) {
	named := 0
	for i := range 256 {
		r := plane.Reason(i)
		if strings.HasPrefix(r.String(), "reason-") || r == plane.None {
			continue
		}
		named++
		p := api.SeenPacket{Action: "pass", Reason: r.String()}
		if r.Drops() {
			p.Action = "drop"
		}
		if reasonMeans[r] == "" {
			t.Errorf("it is not said what %s means", r)
		}
		words := becameWords(&p)
		if became, reason, notes := becameOf([]string{"a note", words, "another"}); became != words || reason != r.String() || len(notes) != 2 {
			t.Errorf("%s: %q, %q, %q", r, became, reason, notes)
		}
	}
	if names := reasonNames(); named != len(names) {
		t.Errorf("%d reasons have names, and %d are completed: %q", named, len(names), names)
	}
	for _, tt := range []struct {
		p    api.SeenPacket
		want string
	}{
		{api.SeenPacket{Action: "forward", RealServer: "rs1", Side: "subnet", Tenant: "customer-a"}, "forwarded to real server rs1, subnet side, tenant customer-a"},
		{api.SeenPacket{Action: "drop", Reason: "reason-77"}, "dropped: reason-77"},
		{api.SeenPacket{Action: "pass", Reason: "local"}, "left to the director's own stack: local (it is to no VIP, and behind no tunnel)"},
	} {
		words := becameWords(&tt.p)
		if became, reason, _ := becameOf([]string{words}); words != tt.want || became != words || reason != tt.p.Reason {
			t.Errorf("%q, read as %q for %q; want %q", words, became, reason, tt.want)
		}
	}
}

// Why somebody had something recorded is his word, and others read it.
func TestListIsHarmless(t *testing.T) {
	var b bytes.Buffer
	recordingsPage(&console.Page{W: &b}, atFive, &api.RecordingList{Recordings: []api.Recording{{ID: operatorsID, Trigger: "operator", Object: "ann\u202e", Why: "no\u202ething\x1b[2J"}}})
	if got := b.String(); !strings.Contains(got, "operator ann?") || !strings.Contains(got, "no?thing?[2J") {
		t.Errorf("%q", got)
	}
}
