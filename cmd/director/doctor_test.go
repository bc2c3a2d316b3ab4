package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tunneldirector/cmd/console"
)

func TestDoctor(t *testing.T) {
	w := furnished(t)
	w.run("doctor").Exits(console.ExitOK, "director d1: nothing is wrong", "not checked: kernel against table: plane mem cannot be compared", "not checked: data path: this director probes nobody")
	w.verdict("rs2", false)
	w.run("doctor", "--all").Exits(console.ExitNotWell, "breaks: real servers: real server rs2 is dead: said so", "causes: its tunnels (0) are at their backups", "mend:   director realserver show rs2")
	w.run("doctor", "--json").Exits(console.ExitNotWell, `"reports":[{"director":"d1"`, `"severity":"breaks"`, `"unchecked":[{`, `"silent":[]`)
	w.run("doctor", "now").Exits(console.ExitUsage)
}

func TestTraceOfCapturedPackets(t *testing.T) {
	w := furnished(t)
	w.run("tunnel", "add", "site-1", "--service", "ipsec", "--endpoint", "203.0.113.5", "--subnet", "100.64.1.0/28").Exits(console.ExitOK)
	path := filepath.Join(t.TempDir(), "site.pcap")
	if err := os.WriteFile(path, file(t, false), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, s := range []struct {
		args string
		code int
		out  []string
		errs []string
	}{
		{args: "--pcap " + path + " --packet 5", out: []string{"ipip packet from 203.0.113.5 to 192.0.2.10"}},
		{args: "--pcap " + path + " --packet 3", out: []string{"1. udp packet from 203.0.113.5 to 192.0.2.10", "forwarded to real server rs"}},
		{args: "--pcap " + path + " --packet 6", code: console.ExitFailed, errs: []string{"packet 6 of " + path, "left to the director's own stack"}},
		{args: "--pcap " + path + " --packet 0", code: console.ExitUsage, errs: []string{"at least 1"}},
		{args: "--pcap " + path + " --from 192.0.2.1", code: console.ExitUsage, errs: []string{"the file says that"}},
		{args: "--pcap /nowhere", code: console.ExitFailed, errs: []string{"/nowhere"}},
		{args: "--packet 2 --from 203.0.113.5 --to 192.0.2.10", code: console.ExitUsage, errs: []string{"no --pcap FILE"}},
		{args: "--from 203.0.113.5 --to 192.0.2.10 --proto esp --all", out: []string{"director d1:", "forwarded to real server rs", "no agent sees tunnel site-1 established"}},
		{args: "--from 203.0.113.5 --to 192.0.2.10 --proto esp --all --json", out: []string{`"agree":true`, `"silent":[]`, `"next_hops":[{"real_server":"rs`}},
		{args: "--from 203.0.113.5 --to 192.0.2.10 --proto esp --came-from nobody", code: console.ExitRefused, errs: []string{"field    src_mac", "value    nobody"}},
		{args: "--from 203.0.113.5 --to 192.0.2.10 --proto esp --came-from rs1", out: []string{"it comes from real server rs1"}},
	} {
		w.run(append([]string{"trace"}, strings.Fields(s.args)...)...).Exits(s.code, s.out...).Tells(s.errs...)
	}
}
