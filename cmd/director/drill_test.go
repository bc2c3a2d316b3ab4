package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tunneldirector/cmd/console"
	"tunneldirector/cmd/console/consoletest"
	"tunneldirector/director/api"
	"tunneldirector/director/drill"
)

var drillBegan = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// rehearsed is a result as Run makes them.
func rehearsed(n int) *drill.Result {
	d := *builtin("host-loss")
	at := drillBegan.Add(time.Duration(n) * time.Hour)
	r := &drill.Result{ID: d.Name + "-" + at.Format("20060102T150405Z"), Drill: d, World: "live", Began: at, Ended: at.Add(11200 * time.Millisecond), Passed: true, Failures: []drill.Failure{},
		Faults: []drill.Injected{{Fault: drill.Fault{ID: "x", Kind: drill.HostLoss, Target: "rs1", For: 8 * time.Second}, At: at.Add(time.Second), Undone: new(at.Add(5 * time.Second))}},
		Outage: drill.Outage{Median: 800 * time.Millisecond, P99: 900 * time.Millisecond, Worst: time.Duration(n) * time.Second}, Sent: 1400, Lost: 70, Moved: 2,
		Tunnels:  []drill.Outcome{{Name: "site-1", Outage: 900 * time.Millisecond, At: at.Add(time.Second), Sent: 700, Lost: 70, From: "rs1", To: "rs2", Moved: true}, {Name: "site-2", Sent: 700, From: "rs2", To: "rs2"}},
		Phases:   drill.Phases{Detected: 700 * time.Millisecond, Decided: 710 * time.Millisecond, DataPlane: 900 * time.Millisecond, Reestablished: -1},
		TimeLine: []drill.Mark{{What: "host-loss of rs1, for 8s at most"}, {After: 700 * time.Millisecond, By: "d2", What: "real-server rs1: dead"}}}
	if n > 1 {
		r.Passed, r.Wrongly = false, 1
		r.Tunnels[0].Wrong = true
		r.Failures = []drill.Failure{{What: "the worst outage is 2s, over 1s", Tunnel: "site-1", At: new(at.Add(time.Second))}}
		r.Aborted = "tunnel site-1 is silent for 10s"
	}
	return r
}

func TestGoldenDrills(t *testing.T) {
	a, b := rehearsed(1), rehearsed(2)
	diff := drill.Diff(a, b)
	faults := api.FaultList{Silent: []api.Silent{{Director: "d3", Why: "it is not alive"}}, Faults: []api.FaultInPlace{
		{ID: "ABC", Kind: "drain", Target: "rs1", Director: "d1", By: "ann", At: drillBegan, Until: drillBegan.Add(time.Minute)},
		{ID: "DEF", Kind: "partition", Target: "d2", Director: "d2", By: "local", At: drillBegan, Until: drillBegan, Error: "no nftables"}}}
	for name, print := range map[string]func(*console.Page){
		"drill-list": func(p *console.Page) {
			drillListPage(p, &drillList{drill.Builtin()[:2], []drill.Summary{b.Summary(), a.Summary()}})
		},
		"drill-none":   func(p *console.Page) { drillListPage(p, &drillList{}) },
		"drill-passed": func(p *console.Page) { resultPage(p, a) },
		"drill-failed": func(p *console.Page) { resultPage(p, b) },
		"drill-diff":   func(p *console.Page) { diffPage(p, &diff) },
		"drill-faults": func(p *console.Page) { faultsPage(p, drillBegan.Add(20*time.Second), &faults) },
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			print(&console.Page{W: &b})
			consoletest.Golden(t, name, b.Bytes())
		})
	}
}

func TestDrillsAreKept(t *testing.T) {
	dir := t.TempDir()
	vars := map[string]string{"XDG_STATE_HOME": dir}
	run := func(args ...string) consoletest.Ran {
		t.Helper()
		return runIn(t.Context(), t, strings.NewReader(""), vars, append([]string{"drill"}, args...)...)
	}
	run("list").Exits(console.ExitOK, "terminator-crash", "no results are kept yet")
	runIn(t.Context(), t, strings.NewReader(""), nil, "__complete", "--", "drill", "run", "host").Exits(console.ExitOK, "host-loss\tThe host of a real server")
	run("diff").Exits(console.ExitFailed).Tells("there is no result in " + dir + "/tunneldirector/drills")
	for i, r := range []*drill.Result{rehearsed(1), rehearsed(2)} {
		if err := (drill.Store{Dir: filepath.Join(dir, "tunneldirector", "drills")}).Save(r); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			run("diff").Exits(console.ExitFailed).Tells("there is one result of drill host-loss alone (live)")
		}
	}
	a, b := rehearsed(1).ID, rehearsed(2).ID
	run("list").Exits(console.ExitOK, a, b, "GIVEN UP")
	run("list", "--json").Exits(console.ExitOK, `"name":"host-loss"`, `"every":"50ms"`, `"results":[{"id":"`+b)
	run("list", "--keep", t.TempDir()).Exits(console.ExitOK, "no results are kept yet")
	run("show", a).Exits(console.ExitOK, "drill host-loss (live): passed", "site-1")
	run("show", b, "--json").Exits(console.ExitOK, `"aborted":"tunnel site-1`, `"median":"800ms"`)
	run("show", "drain").Exits(console.ExitOK, "name: drain\n", "fault: drain")
	run("show", "nothing").Exits(console.ExitFailed).Tells("is neither a drill that comes with the program nor a result")
	run("diff").Exits(console.ExitOK, a, b, "outage worst", "+1.000 s")
	run("diff", b, a).Exits(console.ExitOK, "-1.000 s")
	run("diff", a).Exits(console.ExitUsage).Tells("takes two ids or none")
	if err := os.WriteFile(filepath.Join(dir, "tunneldirector", "drills", rehearsed(3).ID+".json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	run("list").Exits(console.ExitOK, a, b).Tells(rehearsed(3).ID)
}

// A terminal is one that somebody answers at.
type terminal struct {
	io.Reader
	bytes.Buffer
}

func (t *terminal) Read(b []byte) (int, error) { return t.Reader.Read(b) }

const quick = `
name: quick
what: The NMS is refused for a moment.
needs: {directors: 1, tunnels: 1}
sample: {tunnels: 2, every: 50ms}
steps:
  - {wait: 200ms}
  - {fault: nms-outage, for: 5s}
  - {wait: 300ms}
  - {undo: true}
expect: {outage: {worst: 30s}, moved: none}
`

// A drill on a live director: it is asked before, it runs, it is kept and compared, and it fails where it should.
func TestDrillRun(t *testing.T) {
	p := started(t, "drill: {allow: true}\n")
	p.furnish()
	p.run("tunnel", "add", "site-1", "--service", "ipsec", "--endpoint", "203.0.113.5", "--subnet", "100.64.1.0/28", "--state", "up").Exits(console.ExitOK)
	keep := t.TempDir()
	file := write(t, "quick.yaml", quick)
	run := func(args ...string) consoletest.Ran {
		t.Helper()
		return p.run(append([]string{"drill", "run", "--keep", keep, "--probe", "site-1=127.0.0.1"}, args...)...)
	}
	run(file).Exits(console.ExitRefused).Tells("this is no terminal", "--yes", "--lab")
	run(file, "--yes").Exits(console.ExitOK, "drill quick (live): passed", "nms-outage of d1 at", "undone", "site-1", "fault d1").
		Tells("nms-outage of director d1, for 5s at most", "packets go every 50ms through 1 tunnel: site-1 (rs")
	time.Sleep(time.Second) // results are told apart by the second
	run(file, "--yes").Exits(console.ExitOK, "outage worst", "CHANGE")
	p.run("drill", "diff", "--keep", keep, "--json").Exits(console.ExitOK, `"name":"outage median"`)
	strict := write(t, "strict.yaml", strings.Replace(strings.Replace(quick, "worst: 30s", "worst: 1ns", 1), "name: quick", "name: strict", 1))
	run(strict, "--yes", "--json").Exits(console.ExitFailed, `{"result":{"id":"strict-`, `"passed":false`, `"tunnel":"site-1"`)
	run("nms-empty", "--yes").Exits(console.ExitOK, "drill nms-empty (live): passed", "nothing would be deleted")
	run("vip-move", "--yes").Exits(console.ExitRefused).Tells("and it needs 2")
	run("director-crash.yaml", "--yes").Exits(console.ExitUsage).Tells("is neither a file nor one of director-crash, ")
	run(write(t, "bad.yaml", "name: bad\nstep: []\n"), "--yes").Exits(console.ExitUsage).Tells("step: unknown key")
	run(file, "--yes", "--target", "d9").Exits(console.ExitRefused).Tells("there is no director d9 that is ready")
	run(file, "--yes", "--probe", "site-1").Exits(console.ExitUsage).Tells("--probe site-1: is not TUNNEL=ADDRESS")
	run(file, "--yes", "--probe", "site-2=127.0.0.1").Exits(console.ExitRefused).Tells("tunnel site-2, which is to be in the sample, is not up")
	p.run("drill", "run", file, "--lab", "--probe", "a=b").Exits(console.ExitUsage).Tells("a lab has its own targets")
	p.run("drill", "run", file, "--yes", "--keep", keep).Exits(console.ExitRefused).Tells("nothing behind any answers", "--probe TUNNEL=ADDRESS")
	if l, err := p.client.Faults(t.Context()); err != nil || len(l.Faults) > 0 {
		t.Errorf("in place is %+v, %v", l, err)
	}
	if _, err := p.client.Drain(t.Context(), "rs3", api.DrainRequest{}); err != nil {
		t.Fatal(err)
	}
	run(file, "--yes").Exits(console.ExitRefused).Tells("real server rs3 is drained")
	if _, err := p.client.Undrain(t.Context(), "rs3"); err != nil {
		t.Fatal(err)
	}
	p.inject("other", "nms-outage", "d1", time.Minute)
	run(file, "--yes").Exits(console.ExitRefused).Tells("local has made nms-outage of d1 until")
}

// Nothing is done unless who is asked says yes.
func TestDrillIsConfirmed(t *testing.T) {
	p := started(t, "drill: {allow: true}\n")
	p.furnish()
	p.run("tunnel", "add", "site-1", "--service", "ipsec", "--endpoint", "203.0.113.5", "--subnet", "100.64.1.0/28", "--state", "up").Exits(console.ExitOK)
	file := write(t, "quick.yaml", quick)
	for said, code := range map[string]int{"y\n": console.ExitOK, "n\n": console.ExitRefused, "\n": console.ExitRefused, "": console.ExitRefused} {
		args := []string{"--socket", p.socket, "drill", "run", file, "--probe", "site-1=127.0.0.1", "--keep", t.TempDir()}
		env := &console.Env{Stdin: &terminal{Reader: strings.NewReader(said)}, Getenv: func(string) string { return "" }, IsTerminal: func(io.Writer) bool { return true }, Now: time.Now}
		consoletest.Run(t, env, args, func() int { return report(env, director(t.Context(), env, args)) }).Exits(code).Tells("This makes things fail on the live cluster. Go on? [y/N]")
	}
	if got := strings.Join(p.faults(), ", "); got != "d1 ->nms-outage local, d1 nms-outage-> local" {
		t.Errorf("made was %s", got)
	}
}

func TestFirstHost(t *testing.T) {
	for subnet, want := range map[string]string{"100.64.1.0/28": "100.64.1.1", "100.64.1.4/31": "100.64.1.4", "100.64.1.9/32": "100.64.1.9", "2001:db8::/64": "2001:db8::1", "2001:db8::7/128": "2001:db8::7", "x": "invalid IP"} {
		if got := firstHost([]string{subnet}).String(); got != want {
			t.Errorf("of %s it is %s, want %s", subnet, got, want)
		}
	}
}
