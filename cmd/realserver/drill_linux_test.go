package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"tunneldirector/cmd/console"
	"tunneldirector/director/agent"
	"tunneldirector/director/drill/fault"
	"tunneldirector/realserver"
)

// drilled is the rig with a terminator that has a process, and drills allowed or not.
func drilled(t *testing.T, allow bool) (g *rig, process *exec.Cmd) {
	g = newRig(t)
	process = exec.Command("sleep", "120")
	g.check(process.Start())
	t.Cleanup(func() {
		_ = process.Process.Kill()
		_ = process.Wait()
	})
	g.write("work", fmt.Sprintf("#!/bin/sh\necho '{\"processes\":[%d]}'\n", process.Process.Pid), 0o700)
	text, err := os.ReadFile(g.file)
	g.check(err)
	text = []byte(strings.Replace(string(text), "terminator, release]}", "terminator, release], work: ["+g.dir+"/work]}", 1))
	g.write("realserver.yaml", string(text)+fmt.Sprintf("drill: {allow: %t, start: {rs1: [/usr/bin/touch, %s/started]}}\n", allow, g.dir), 0o600)
	return g, process
}

// state is how a process is: T is stopped, Z is dead.
func state(t *testing.T, p *exec.Cmd) string {
	t.Helper()
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(p.Process.Pid) + "/stat")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))[0]
}

// fault has the director order a fault, or undo it.
func (g *rig) fault(id, kind string, undo bool) agent.Step {
	g.t.Helper()
	return g.faultFor(id, kind, undo, fault.MaxFor)
}

func (g *rig) faultFor(id, kind string, undo bool, d time.Duration) agent.Step {
	g.t.Helper()
	s, err := g.book.Fault(g.t.Context(), "rs1", agent.FaultOrder{ID: id, Kind: kind, Millis: uint32(d.Milliseconds()), Undo: undo})
	g.check(err)
	return s
}

func (g *rig) done(s agent.Step) {
	g.t.Helper()
	if s.Outcome != agent.OutcomeDone {
		g.t.Errorf("it is %v: %s", s.Outcome, s.Why)
	}
}

// TestDrill: faults that a director orders are made, shown and undone, over TLS.
func TestDrill(t *testing.T) {
	g, process := drilled(t, true)
	g.run("check").Exits(console.ExitOK, "warning: drill.allow is true")
	g.run("apply").Exits(console.ExitOK)
	g.peer.Route("192.0.2.10/32", "198.51.100.11")
	stop := g.start()
	g.eventually("the director hears the agent", func() bool { a, ok := g.book.Agent("rs1"); return ok && a.Whole })
	answered := func() bool { _, err := g.probe(); return err == nil }
	g.eventually("a probe is answered", answered)

	g.done(g.fault("f1", "link-cut", false))
	if answered() {
		t.Error("the link is cut, and a probe is answered")
	}
	g.eventually("the director knows what is in place", func() bool {
		a, _ := g.book.Agent("rs1")
		return a.Connected && slices.ContainsFunc(a.Status.Found, func(f agent.Finding) bool { return strings.Contains(f.What, "link-cut, by director 127.0.0.1:") })
	})
	socket := g.dir + "/agent.sock"
	runIn(t.Context(), t, "status", "--socket", socket).Exits(console.ExitOK, "TROUBLE  a drill's fault is in place until ", ": link-cut of rs1")
	runIn(t.Context(), t, "status", "--json", "--socket", socket).Exits(console.ExitOK, `"faults_in_place":[{"id":"f1","kind":"link-cut","real_server":"rs1"`)
	g.done(g.fault("f1", "link-cut", true))
	g.eventually("a probe is answered again", answered)

	g.done(g.fault("f2", "terminator-hang", false))
	g.eventually("the terminator is stopped", func() bool { return state(t, process) == "T" })
	g.run("undo-faults").Exits(console.ExitOK, "undone      terminator-hang of rs1, made at ")
	g.run("undo-faults").Exits(console.ExitOK, "no faults are in place")
	g.eventually("the terminator goes on", func() bool { return state(t, process) != "T" })

	g.done(g.fault("f3", "terminator-crash", false))
	g.eventually("the terminator is dead", func() bool { return state(t, process) == "Z" })
	started := func() bool { _, err := os.Stat(g.dir + "/started"); return err == nil }
	if started() {
		t.Error("it is started before the fault is undone")
	}
	stop() // which undoes
	if !started() {
		t.Error("the agent stopped and left a terminator dead")
	}
	g.run("undo-faults").Exits(console.ExitOK, "no faults are in place")
}

// TestDrillRefused: what may not be made says why.
func TestDrillRefused(t *testing.T) {
	g, process := drilled(t, false)
	g.start()
	g.eventually("the director hears the agent", func() bool { a, ok := g.book.Agent("rs1"); return ok && a.Whole })
	if s := g.fault("f1", "terminator-hang", false); s.Outcome != agent.OutcomeFailed || !strings.Contains(s.Why, "drill: {allow: true}") {
		t.Errorf("%v: %s", s.Outcome, s.Why)
	}
	if is := state(t, process); is == "T" {
		t.Error("the terminator is stopped")
	}
	g.done(g.fault("f1", "terminator-hang", true)) // of what was never made
}

// TestUndoFaultsOfTheDead: what a killed agent left is undone by hand, and by the next agent, whatever its file allows.
func TestUndoFaultsOfTheDead(t *testing.T) {
	g, process := drilled(t, false)
	leave := func() {
		t.Helper()
		list, err := fault.Find(process.Process.Pid)
		g.check(err)
		dir := t.TempDir() // a ledger whose owner never lets go would keep others out: its record is copied
		l, err := fault.Open(t.Context(), dir, fault.Known(), slog.New(slog.DiscardHandler))
		g.check(err)
		ctx, cancel := context.WithCancel(context.Background())
		over := make(chan error, 1)
		go func() { over <- l.Run(ctx) }()
		g.check(l.Inject(t.Context(), fault.Fault{ID: "left", Kind: "terminator-hang", Target: "rs1", By: "director d9", For: time.Minute, Effect: &fault.Stopped{Processes: list}}))
		record, err := os.ReadFile(filepath.Join(dir, "left.json"))
		g.check(err)
		cancel()
		g.check(errors.Join(<-over, l.Close(), os.MkdirAll(g.dir+"/state/faults", 0o700), os.WriteFile(g.dir+"/state/faults/left.json", record, 0o600)))
		g.check((&fault.Stopped{Processes: list}).Do(t.Context(), "left", time.Minute))
		g.eventually("the terminator is stopped", func() bool { return state(t, process) == "T" })
	}
	leave()
	g.run("doctor", "--json").Exits(console.ExitNotWell, `"id":"fault-in-place"`, "terminator-hang of rs1, by director d9", "realserver undo-faults")
	g.run("undo-faults", "--json").Exits(console.ExitOK, `"id":"left"`, `"by":"director d9"`, `"undone":true`)
	g.eventually("the terminator goes on", func() bool { return state(t, process) != "T" })
	leave()
	good, err := os.ReadFile(g.file)
	g.check(err)
	g.write("realserver.yaml", strings.Replace(string(good), "kind: exec", "kind: none", 1)+"odd: [1]\n", 0o600)
	g.run("check").Exits(console.ExitFailed)
	g.run("undo-faults").Exits(console.ExitOK, "undone      terminator-hang of rs1")
	g.eventually("the terminator goes on, where no agent could start", func() bool { return state(t, process) != "T" })
	g.write("realserver.yaml", string(good), 0o600)
	leave()
	g.start()
	g.eventually("the agent has undone it", func() bool { return state(t, process) != "T" })
}

// TestUndoFaultsNot: what cannot be undone is said, and is a failure.
func TestUndoFaultsNot(t *testing.T) {
	g, _ := drilled(t, true)
	g.check(os.MkdirAll(g.dir+"/state/faults", 0o700))
	g.check(os.WriteFile(g.dir+"/state/faults/odd.json", nil, 0o600))
	g.run("undo-faults").Exits(console.ExitFailed, "NOT undone  unreadable", g.dir+"/state/faults/odd.json").Tells("1 fault could not be undone")
	g.start()
	until(t, console.ExitNotWell, "cannot be undone", "status", "--check", "--socket", g.dir+"/agent.sock")
	g.run("undo-faults").Exits(console.ExitFailed, "NOT undone  unreadable").Tells("1 fault could not be undone")
}

// TestLedgerHeld: an agent that begins while undo-faults has the ledger waits for it, and not for ever.
func TestLedgerHeld(t *testing.T) {
	for name, tt := range map[string]struct{ held, waits time.Duration }{
		"free": {}, "as long as undoing takes": {fault.UndoLimit, fault.UndoLimit}, "for ever": {time.Hour, ledgerHeld + ledgerAgain},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &drills{cfg: Config{StateDir: t.TempDir()}, log: slog.New(slog.DiscardHandler)}
				if tt.held > 0 {
					l, err := fault.Open(t.Context(), ledgerOf(d.cfg), fault.Known(), d.log)
					if err != nil {
						t.Fatal(err)
					}
					time.AfterFunc(tt.held, func() { _ = l.Close() })
				}
				from := time.Now()
				defer d.open(t.Context())()
				if waited, opened := time.Since(from), d.ledger != nil; waited < tt.waits || waited > tt.waits+ledgerAgain || opened != (tt.waits == tt.held) {
					t.Errorf("opened %t after %v: %v", opened, waited, d.broken)
				}
				time.Sleep(tt.held)
			})
		})
	}
}

// TestEffects: each kind befalls what it says, and what cannot be made is refused.
func TestEffects(t *testing.T) {
	cfg := Config{Host: "node-a", RealServers: []RealServer{
		{Name: "rs1", VIPs: []netip.Addr{addr("192.0.2.10")}, Namespace: "blue"}, {Name: "rs2", VIPs: []netip.Addr{addr("192.0.2.10")}, Namespace: "red"},
		{Name: "rs3", VIPs: []netip.Addr{addr("192.0.2.11"), addr("192.0.2.10")}, Namespace: "red"}, {Name: "rs4", VIPs: []netip.Addr{addr("2001:db8::1")}},
	}, Drill: Drill{Allow: true, Start: map[string][]string{"rs1": {"/s"}}}}
	child := exec.Command("sleep", "120")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = child.Process.Kill()
		_ = child.Wait()
	})
	pid := child.Process.Pid
	found, err := fault.Find(pid)
	if err != nil {
		t.Fatal(err)
	}
	d := &drills{cfg: cfg}
	for _, tt := range []struct {
		kind string
		of   int
		pids []int
		want fault.Effect
		err  string
	}{
		{"host-loss", 0, nil, &fault.Cut{Spaces: []string{"", "blue", "red"}, All: true}, ""},
		{"link-cut", 0, nil, &fault.Cut{Spaces: []string{"blue"}, To: []netip.Prefix{netip.MustParsePrefix("192.0.2.10/32")}}, ""},
		{"link-cut", 1, nil, nil, "real server rs3 has VIP 192.0.2.10 in the same network namespace"},
		{"link-cut", 3, nil, &fault.Cut{Spaces: []string{""}, To: []netip.Prefix{netip.MustParsePrefix("2001:db8::1/128")}}, ""},
		{"terminator-crash", 0, []int{pid}, &fault.Killed{Processes: found, Start: []string{"/s"}, Space: "blue"}, ""},
		{"terminator-crash", 1, []int{pid}, nil, "drill.start.rs2 is not in the file of host node-a"},
		{"terminator-hang", 1, []int{pid, 1 << 30}, &fault.Stopped{Processes: found}, ""},
		{"terminator-hang", 1, []int{1 << 30}, nil, "the terminator of rs2 does not run"},
		{"terminator-hang", 1, []int{os.Getpid()}, nil, "this agent's own process"},
		{"terminator-hang", 1, []int{1}, nil, "process 1 is not one to stop"},
		{"terminator-hang", 1, nil, nil, "it is the kernel's"},
		{"director-crash", 1, nil, nil, "an agent makes faults"},
	} {
		w := realserver.FaultWish{FaultOrder: agent.FaultOrder{ID: "f", Kind: tt.kind}, RealServer: cfg.RealServers[tt.of].Name, Processes: func(context.Context) ([]int, error) {
			if tt.pids == nil {
				return nil, errors.New("it is the kernel's")
			}
			return tt.pids, nil
		}}
		got, err := d.effect(t.Context(), w, &cfg.RealServers[tt.of])
		if tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) || tt.err == "" && err != nil {
			t.Errorf("%s of %s: %v, want %q", tt.kind, cfg.RealServers[tt.of].Name, err, tt.err)
		}
		if tt.err == "" {
			if d := cmp.Diff(tt.want, got, addrs); d != "" {
				t.Errorf("%s of %s: %s", tt.kind, cfg.RealServers[tt.of].Name, d)
			}
		}
	}
}
