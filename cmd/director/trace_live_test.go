package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"tunneldirector/cmd/console"
	"tunneldirector/cmd/console/consoletest"
	"tunneldirector/director/api"
)

// cameIn are packets of frames as a director shows them: udp, then ARP.
func cameIn(t *testing.T) []api.SeenPacket {
	t.Helper()
	list := frames(t)
	return []api.SeenPacket{
		{At: atFive, Interface: "eth0", Action: "drop", Reason: "unknown-endpoint", Side: "tunnel", Service: "ipsec", Length: 1500, Head: list[0]},
		{At: atFive, Interface: "eth0", Action: "drop", Reason: "unknown-endpoint", Side: "tunnel", Service: "ipsec", Length: 90, Head: list[2]},
		{At: atFive, Interface: "eth1", Action: "pass", Reason: "not-ip", Length: 60, Head: list[5]},
	}
}

func TestTraceLive(t *testing.T) {
	b := &box{shown: cameIn(t)}
	w := boxed(t, b)
	w.run("tunnel", "add", "site-1", "--service", "ipsec", "--endpoint", "203.0.113.5", "--subnet", "100.64.1.0/28").Exits(console.ExitOK)
	for _, s := range []struct {
		args      string
		code      int
		out, errs []string
	}{
		{args: "", out: []string{"2026-01-02 03:04:05.000000  eth0  203.0.113.5:41641 > 192.0.2.10:51820  udp  1500 bytes", "it was dropped: unknown-endpoint (no tunnel has this endpoint",
			" 1. udp packet from 203.0.113.5:41641 to 192.0.2.10:51820", "What was done with it is not what the lookup says now: it was dropped: unknown-endpoint, and now it would be dropped: no-service."},
			errs: []string{"waiting for packets from anybody to anybody, up to 30s; Ctrl-C ends"}},
		{args: "--from 203.0.113.0/24 --to 192.0.2.10:51820 --proto udp --from-port 41641 --for 2m --count 2",
			out:  []string{"192.0.2.10  udp, later fragment  90 bytes", "now it would be forwarded to real server rs"},
			errs: []string{"waiting for udp packets from 203.0.113.0/24 (port 41641) to 192.0.2.10:51820, up to 2m; Ctrl-C ends"}},
		{args: "--for 500ms --count 5", out: []string{"02:00:00:00:00:0b > 02:00:00:00:00:01  arp  60 bytes", "it was left to the director's own stack: not-ip", "There is no more to look up: it is neither IPv4 nor IPv6"},
			errs: []string{"3 packets came within 500ms, not 5"}},
		{args: "--all", out: []string{"director d1:\n", "udp packet from 203.0.113.5:41641", "What was done with it is not what the lookup says now"}},
		{args: "--json", out: []string{`{"packet":{"at":"2026-01-02T03:04:05Z","interface":"eth0","action":"drop"`, `"explanation":{"side":`, `"differs":"What was done`}},
		{args: "--json --all", out: []string{`"explanations":{"explanations":[{"director":"d1"`, `"differs":"What was done`}},
		{args: "--from here", code: console.ExitRefused, errs: []string{"field    from", "value    here", "remedy   like 203.0.113.5"}},
		{args: "--proto esp --to-port 500", code: console.ExitRefused, errs: []string{"field    to_port", "esp has none"}},
		{args: "--from 192.0.2.1:5 --from-port 6", code: console.ExitUsage, errs: []string{"say one port"}},
		{args: "--count 0", code: console.ExitUsage, errs: []string{"--count 0: is not between 1 and 10,000"}},
		{args: "--count 10001", code: console.ExitUsage, errs: []string{"--count 10001"}},
		{args: "--for 0s", code: console.ExitUsage, errs: []string{"--for 0s: is not between 1ms and 10m"}},
		{args: "--for 11m", code: console.ExitUsage, errs: []string{"--for 11m"}},
		{args: "--pcap x", code: console.ExitUsage, errs: []string{"--live and --pcap: the packets that come say that"}},
		{args: "--packet 2", code: console.ExitUsage, errs: []string{"--live and --packet"}},
		{args: "--came-from rs1", code: console.ExitUsage, errs: []string{"--live and --came-from"}},
		{args: "--fragment first", code: console.ExitUsage, errs: []string{"--live and --fragment"}},
		{args: "--tenant default", code: console.ExitUsage, errs: []string{"--live and --tenant"}},
	} {
		w.run(append([]string{"trace", "--live"}, strings.Fields(s.args)...)...).Exits(s.code, s.out...).Tells(s.errs...)
	}
	w.run("trace", "--count", "2", "--from", "203.0.113.5", "--to", "192.0.2.10").Exits(console.ExitUsage).Tells("--count: there is no --live")
	furnished(t).run("trace", "--live").Exits(console.ExitRefused).Tells("this director has no black box")
}

// What is asked for reaches the director.
func TestTraceLiveFilter(t *testing.T) {
	b := &box{shown: cameIn(t)}
	w := boxed(t, b)
	w.run("trace", "--live", "--from", "203.0.113.0/24", "--to", "192.0.2.10:4500", "--proto", "udp", "--from-port", "500", "--json").Exits(console.ExitOK)
	want := api.PacketFilter{Src: netip.MustParsePrefix("203.0.113.0/24"), Dst: netip.MustParsePrefix("192.0.2.10/32"), Proto: 17, SrcPort: 500, DstPort: 4500}
	b.mu.Lock()
	defer b.mu.Unlock()
	if d := cmp.Diff(want, b.watched, cmpopts.EquateComparable(netip.Prefix{})); d != "" {
		t.Error(d)
	}
}

// Where nothing comes it is said where to look, and where somebody watches already who does.
func TestTraceLiveOfNothing(t *testing.T) {
	b := &box{}
	w := boxed(t, b)
	w.run("trace", "--live", "--for", "10ms", "--to", "192.0.2.10").Exits(console.ExitFailed).Tells(
		"no packets from anybody to 192.0.2.10 came in at director d1 within 10ms", "director cluster status tells who holds the address", "Its data plane is mem")
	b.busy = api.Conflict("ann watches packets since 03:04:05")
	w.run("trace", "--live").Exits(console.ExitRefused).Tells("ann watches packets since 03:04:05")
}

// Ctrl-C ends it: well after a packet came, and as an interrupted command before.
func TestTraceLiveInterrupted(t *testing.T) {
	for _, shown := range [][]api.SeenPacket{cameIn(t)[:1], nil} {
		w := boxed(t, &box{shown: shown})
		ctx, cancel := context.WithCancel(t.Context())
		signal := &writes{on: func() { cancel() }}
		env := &console.Env{Stdin: strings.NewReader(""), Getenv: func(string) string { return "" }, IsTerminal: func(io.Writer) bool { return false }, Now: time.Now, Stdout: io.Discard, Stderr: signal}
		want := console.ExitInterrupted
		if len(shown) > 0 {
			env.Stdout, env.Stderr, want = signal, io.Discard, console.ExitOK
		}
		err := director(ctx, env, []string{"--socket", w.socket, "trace", "--live", "--count", "2", "--for", "10m"})
		if code := exitCode(err); code != want {
			t.Errorf("after %d packets: exit code %d, want %d: %v", len(shown), code, want, err)
		}
		cancel()
	}
}

// A writes does something at each writing.
type writes struct{ on func() }

func (w *writes) Write(p []byte) (int, error) {
	w.on()
	return len(p), nil
}

func TestDiffers(t *testing.T) {
	for _, tt := range []struct {
		name string
		seen api.SeenPacket
		now  api.Explanation
		want string // empty: it does not
	}{
		{"forwarded to the same", api.SeenPacket{Action: "forward", RealServer: "rs1"}, api.Explanation{Action: "forward", RealServer: "rs1", Reason: "forwarded"}, ""},
		{"forwarded to another", api.SeenPacket{Action: "forward", RealServer: "rs1"}, api.Explanation{Action: "forward", RealServer: "rs2", Reason: "forwarded"},
			"it was forwarded to real server rs1, and now it would be forwarded to real server rs2"},
		{"dropped for the same", api.SeenPacket{Action: "drop", Reason: "loop", RealServer: "rs1"}, api.Explanation{Action: "drop", Reason: "loop"}, ""},
		{"dropped for another reason", api.SeenPacket{Action: "drop", Reason: "hop-limit"}, api.Explanation{Action: "drop", Reason: "loop"}, "it was dropped: hop-limit, and now it would be dropped: loop"},
		{"foretold", api.SeenPacket{Action: "forward", RealServer: "rs1", Foretold: true}, api.Explanation{Action: "forward", RealServer: "rs2", Reason: "forwarded"},
			"it said forwarded to real server rs1, and now it would be forwarded to real server rs2"},
		{"left to the stack", api.SeenPacket{Action: "pass", Reason: "control"}, api.Explanation{Action: "drop", Reason: "icmp"}, "it was left to the director's own stack: control, and"},
	} {
		got := differs(&tt.seen, &tt.now)
		if !strings.Contains(got, tt.want) || (got == "") != (tt.want == "") {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestGoldenTraceLive(t *testing.T) {
	p := api.SeenPacket{At: atFive.Add(123456 * time.Microsecond), Interface: "eth0", Action: "forward", RealServer: "rs1", Side: "tunnel", Service: "ipsec", Length: 1500, Head: frames(t)[0]}
	e := api.Explanation{Side: "tunnel", Action: "forward", Reason: "forwarded", Service: "ipsec", Tunnel: "site-0042", Matched: "endpoint 203.0.113.5 at 192.0.2.10", RealServer: "rs2", Primary: "rs2",
		Agrees: true, Words: []string{"udp packet from 203.0.113.5:41641 to 192.0.2.10:51820", "the packet goes to real server rs2 (incarnation 1)"}}
	var b bytes.Buffer
	livePage(&console.Page{W: &b}, &livePacket{Packet: &p, Explanation: &e, Differs: differs(&p, &e)})
	consoletest.Golden(t, "trace-live", b.Bytes())
}

// A packet is looked up in its tenant.
func TestTraceLiveOfATenant(t *testing.T) {
	shown := cameIn(t)[:1]
	shown[0].Tenant = "customer-z"
	w := boxed(t, &box{shown: shown})
	w.run("trace", "--live").Exits(console.ExitOK, "There is no more to look up: ", `tenant "customer-z": is not a tenant`)
}

// A plane that does not know what it did with a packet is not said to have done it; and no name is a command to a terminal.
func TestForetold(t *testing.T) {
	p := cameIn(t)[0]
	p.Foretold, p.Interface = true, "eth\x1b[2J"
	var b bytes.Buffer
	livePage(&console.Page{W: &b}, &livePacket{Packet: &p, Unexplained: "x"})
	if got := b.String(); !strings.Contains(got, "by its table: dropped: unknown-endpoint (") || strings.Contains(got, "it was") || !strings.Contains(got, "  eth?[2J  ") {
		t.Errorf("%s", got)
	}
}

// The lines of --json are one object a packet, with the packet as the director shows it.
func TestLiveLines(t *testing.T) {
	shown := cameIn(t)
	w := boxed(t, &box{shown: shown})
	r := w.run("trace", "--live", "--count", "3", "--json").Exits(console.ExitOK)
	var got []api.SeenPacket
	for line := range strings.Lines(r.Out) {
		var x livePacket
		if err := json.Unmarshal([]byte(line), &x); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		if (x.Explanation == nil) != (x.Unexplained != "") {
			t.Errorf("neither or both: %s", line)
		}
		got = append(got, *x.Packet)
	}
	if d := cmp.Diff(shown, got); d != "" || r.ErrOut != "" {
		t.Errorf("%s\n%s", d, r.ErrOut)
	}
}
