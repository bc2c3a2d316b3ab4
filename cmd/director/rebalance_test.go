package main

import (
	"strings"
	"testing"

	"tunneldirector/cmd/console"
)

// What is not up moves to a real server that was added later; a dry run says so and moves nothing.
func TestRebalance(t *testing.T) {
	w := furnished(t)
	w.run("realserver", "drain", "rs2", "rs3").Exits(console.ExitOK)
	w.feed(sites(30), "tunnel", "import", "-").Exits(console.ExitOK)
	w.run("realserver", "undrain", "rs2", "rs3").Exits(console.ExitOK)
	dry := w.run("rebalance", "--dry-run", "--service", "ipsec").Exits(console.ExitOK, "dry run, nothing was moved: ", "site-00", ": rs1 -> rs")
	w.run("tunnel", "list", "--realserver", "rs1", "--limit", "0", "--json").Exits(console.ExitOK, "site-00000", "site-00029")
	w.run("rebalance", "--limit", "3", "--rate", "10000/s").Exits(console.ExitOK, "3 groups moved, 0 stayed, of 3 planned")
	w.run("rebalance", "--rate", "10000/s", "--json").Exits(console.ExitOK, `"from":"rs1","to":"rs`, `"summary":{"planned":`, `"complete":true`)
	w.run("rebalance").Exits(console.ExitOK, "nothing to move")
	if n := strings.Count(dry.Out, "->"); n < 10 {
		t.Errorf("a dry run of 30 tunnels on one of three real servers names %d moves", n)
	}
	w.run("rebalance", "--limit", "-1").Exits(console.ExitUsage)
}
