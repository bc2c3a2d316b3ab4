package main

import (
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"tunneldirector/cmd/console"
	"tunneldirector/cmd/console/consoletest"
	"tunneldirector/director/api"
	"tunneldirector/director/config"
	"tunneldirector/director/drill"
)

// run runs a command line that asks the daemon.
func (p *program) run(args ...string) consoletest.Ran {
	p.t.Helper()
	return runIn(p.t.Context(), p.t, strings.NewReader(""), nil, append([]string{"--socket", p.socket}, args...)...)
}

// furnish gives it a service and three real servers, which count as alive.
func (p *program) furnish() {
	p.t.Helper()
	p.run("apply", write(p.t, "records.yaml", furniture)).Exits(console.ExitOK)
	p.within(10*time.Second, "has real servers that are alive", func() bool {
		s, err := p.client.Status(p.t.Context())
		alive := 0
		for _, r := range s.RealServers {
			if r.State == "alive" {
				alive++
			}
		}
		return err == nil && alive == 3
	})
}

func (p *program) inject(id, kind, target string, lasts time.Duration) error {
	_, err := p.client.MakeFault(p.t.Context(), api.FaultRequest{ID: id, Kind: kind, Target: target, ForMS: lasts.Milliseconds()})
	return err
}

// The API's kinds are the drills'.
func TestKindsOfFaults(t *testing.T) {
	for _, k := range api.FaultKinds() {
		if drill.Kind(k).Befalls() == "" {
			t.Errorf("%s is no kind of a drill", k)
		}
	}
	for _, d := range drill.Builtin() {
		for _, s := range d.Steps {
			if ok := s.Fault == "" || strings.Contains(strings.Join(api.FaultKinds(), " "), string(s.Fault)); !ok {
				t.Errorf("%s: %s is no kind of the API", d.Name, s.Fault)
			}
		}
	}
}

// What cannot be made, or taken back, is refused with field and remedy, and nothing is in place.
func TestFaultsRefused(t *testing.T) {
	p := started(t, "drill: {allow: true}\n")
	p.furnish()
	for _, tt := range []struct{ kind, target, says string }{
		{"host-loss", "rs9", `target "rs9": is no real server that is known here; one of rs1, rs2, rs3`},
		{"director-hang", "d2", `target "d2": is no director that is known here; one of d1`},
		{"director-crash", "d1", "nobody is known to start the daemon again; have systemd run it, or set drill.restarted"},
		{"partition", "d1", "it is alone"},
		{"vip-move", "d1", "it is alone"},
		{"terminator-crash", "rs1", "agents.listen"},
	} {
		err := p.inject("x", tt.kind, tt.target, 5*time.Second)
		if err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s of %s: %v, want %s", tt.kind, tt.target, err, tt.says)
		}
	}
	if err := p.inject("x", "disk-full", "d1", 5*time.Second); err == nil {
		t.Error("a file system that is not the table's own was filled")
	}
	p.within(5*time.Second, "has nothing in place", func() bool {
		l, err := p.client.Faults(t.Context())
		return err == nil && len(l.Faults) == 0
	})
}

func TestFaultsAreOff(t *testing.T) {
	p := started(t, "")
	p.furnish()
	for kind, target := range map[string]string{"drain": "rs1", "nms-outage": "d1", "director-restart": "d1", "nms-empty": ""} {
		err := p.inject("x", kind, target, 5*time.Second)
		if err == nil || !strings.Contains(err.Error(), "drill.allow: is not set in its node's file; drill: {allow: true}, and restart it") {
			t.Errorf("%s: %v", kind, err)
		}
	}
	if rs, err := p.client.RealServer(t.Context(), "rs1"); err != nil || rs.Admin != "active" {
		t.Errorf("rs1 is %s, %v", rs.Admin, err)
	}
}

// What is in place is shown everywhere, ends when it is asked to, and by itself.
func TestFaultsInPlace(t *testing.T) {
	p := started(t, "drill: {allow: true}\n")
	p.furnish()
	admin := func() string {
		rs, err := p.client.RealServer(t.Context(), "rs1")
		if err != nil {
			t.Fatal(err)
		}
		return rs.Admin
	}
	push := func() error {
		_, err := p.client.PutTunnel(t.Context(), api.Tunnel{ID: "site-1", Service: "ipsec", Endpoints: []string{"203.0.113.5"}})
		return err
	}
	p.run("drill", "faults").Exits(console.ExitOK, "nothing is made to fail now")
	p.run("drill", "undo").Exits(console.ExitOK, "nothing is made to fail now")
	for _, f := range []struct{ id, kind, target string }{{"a-1", "drain", "rs1"}, {"a-2", "nms-outage", "d1"}, {"a-1", "drain", "rs1"}} {
		if err := p.inject(f.id, f.kind, f.target, time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	if got := admin(); got != "drained" {
		t.Errorf("rs1 is %s", got)
	}
	if err := push(); err == nil || !strings.Contains(err.Error(), "no pushes are taken: drill a-2 rehearses an outage") {
		t.Errorf("a push: %v", err)
	}
	if err := p.inject("a-3", "drain", "rs1", time.Minute); err == nil || !strings.Contains(err.Error(), "it is drained already") {
		t.Errorf("drained again: %v", err)
	}
	p.run("drill", "faults").Exits(console.ExitOK, "a-1", "drain", "rs1", "local", "a-2", "nms-outage")
	p.run("drill", "faults", "--json").Exits(console.ExitOK, `"id":"a-1","kind":"drain","target":"rs1","director":"d1","by":"local"`, `"silent":[]`)
	p.run("status").Exits(console.ExitOK, "faults in place", "drain of rs1 until", "by local")
	p.run("doctor").Exits(console.ExitOK, "notes: drills: local made drain at rs1 on purpose", "director drill undo")
	p.run("drill", "undo", "a-1", "a-9").Exits(console.ExitOK, "drain of rs1 (a-1) undone", "fault a-9 was not in place")
	if got := admin(); got != "active" {
		t.Errorf("undone, rs1 is %s", got)
	}
	p.run("drill", "undo", "--json").Exits(console.ExitOK, `{"id":"a-2","already":false}`)
	if err := push(); err != nil {
		t.Errorf("a push, afterwards: %v", err)
	}
	if err := p.inject("b-1", "drain", "rs1", time.Second); err != nil {
		t.Fatal(err)
	}
	p.within(10*time.Second, "takes tunnels again at rs1", func() bool { return admin() == "active" })
	if err := p.inject("b-2", "drain", "rs2", time.Minute); err != nil {
		t.Fatal(err)
	}
	if _, err := p.client.Drain(t.Context(), "rs2", api.DrainRequest{}); err != nil { // for a repair
		t.Fatal(err)
	}
	p.run("drill", "undo", "b-2").Exits(console.ExitOK, "drain of rs2 (b-2) undone")
	if rs, err := p.client.RealServer(t.Context(), "rs2"); err != nil || rs.Admin != "drained" {
		t.Errorf("rs2, which is drained for a repair, is %s, %v", rs.Admin, err)
	}
	want := []string{"rs1 ->drain local", "d1 ->nms-outage local", "rs1 ->drain local", "rs1 drain-> local", "d1 nms-outage-> local", "rs1 ->drain local", "rs1 drain->", "rs2 ->drain local", "rs2 drain-> local"}
	p.within(5*time.Second, "tells all in its journal: "+strings.Join(want, ", "), func() bool { return strings.Join(p.faults(), ", ") == strings.Join(want, ", ") })
	all, err := p.client.AllEvents(t.Context(), time.Now().Add(-time.Minute))
	n := 0
	for _, e := range all.Events {
		if e.Director == "d1" && e.Event.Kind == "fault" {
			n++
		}
	}
	if err != nil || n != len(want) {
		t.Errorf("of all directors' events %d are of faults, want %d (%v)", n, len(want), err)
	}
	p.run("events", "--kind", "fault").Exits(console.ExitOK, "not made (a-3)", "undone (a-1)", "undone by itself (b-1)")
	if err := p.inject("a-9", "drain", "rs1", time.Minute); err == nil || !strings.Contains(err.Error(), "undone before it was made") {
		t.Errorf("made after it was undone: %v", err)
	}
}

// Of two that saw the cluster in peace, one makes it fail.
func TestFaultsOfTwo(t *testing.T) {
	own, err := openFaults(t.Context(), config.Config{Name: "d1", DataDir: t.TempDir()}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = own.ledger.Close() }()
	f := &faults{name: "d1", own: own, ordered: []api.FaultInPlace{{ID: "a-1", Kind: "drain", Target: "rs1", By: "ann"}}}
	if p := f.meets(t.Context(), "ann", "a-2"); p != nil {
		t.Error(p)
	}
	for _, tt := range []struct{ who, by, id string }{{"somebody else", "bob", "a-2"}, {"another drill", "ann", "b-1"}} {
		if p := f.meets(t.Context(), tt.by, tt.id); p == nil || p.Status != http.StatusConflict || !strings.Contains(p.Error(), "is in place at rs1, made by ann for another drill") {
			t.Errorf("%s: %v", tt.who, p)
		}
	}
}

// noted is a journal.
type noted []api.Event

func (n *noted) Record(list []api.Event) { *n = append(*n, list...) }

// Whoever may ask does not fill the journal where nothing is made.
func TestWhatIsOffIsNotInTheJournal(t *testing.T) {
	var n noted
	f := &faults{name: "d1", journal: &n}
	_, err := f.here(t.Context(), "bob", api.FaultRequest{ID: "x", Kind: "drain", Target: "rs1", ForMS: 1000})
	if p := api.AsProblem(err); p.Status != http.StatusForbidden || len(n) > 0 {
		t.Errorf("%v, and the journal has %+v", err, n)
	}
}
