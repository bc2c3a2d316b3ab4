package main

import (
	"context"
	"testing"

	"tunneldirector/cmd/console"
	"tunneldirector/director/plane"
	"tunneldirector/director/plane/mem"
)

// compared is a plane that can be compared with a kernel that is as a test says.
type compared struct {
	*mem.Plane
	differences []plane.Difference
}

func (c *compared) Audit(_ context.Context, f func(plane.Difference) bool) (plane.Audited, error) {
	sum := plane.Audited{Equal: 1200}
	for _, d := range c.differences {
		if d.Have == "nothing" {
			sum.Missing++
		} else {
			sum.Other++
		}
		if !f(d) {
			break
		}
	}
	return sum, nil
}

func (c *compared) Pairs() []plane.Pair {
	return []plane.Pair{{Addr4: "240.0.0.7", Addr6: "fd00::7", Primary: "rs1", Backup: "rs3", Now: "rs1"}}
}

func TestAudit(t *testing.T) {
	p := &compared{Plane: newMem()}
	w := newWorldOver(t, p)
	w.run("audit").Exits(console.ExitOK, "no differences: all 1,200 keys are as wanted")
	p.differences = []plane.Difference{{Key: "endpoint 203.0.113.5 at 192.0.2.10", Want: "rs1", Have: "nothing"}, {Key: "subnet 100.64.1.0/24", Want: "rs1", Have: "rs2"}}
	w.run("audit").Exits(console.ExitFailed, "endpoint 203.0.113.5 at 192.0.2.10: want rs1, have nothing", "subnet 100.64.1.0/24: want rs1, have rs2",
		"2 differences: 1 missing, 1 different, 0 not wanted; 1,200 keys as wanted")
	w.run("audit", "--json").Exits(console.ExitFailed, `{"difference":{"key":"endpoint 203.0.113.5 at 192.0.2.10","want":"rs1","have":"nothing"}}`, `{"summary":{"equal":1200,"missing":1,"other":1,`, `"complete":true`)
	w.run("realserver", "list", "--pairs").Exits(console.ExitOK, "240.0.0.7", "fd00::7", "rs1", "rs3")
	w.run("realserver", "list", "--pairs", "--json").Exits(console.ExitOK, `{"pairs":[{"address4":"240.0.0.7"`)
}
