package plane

import (
	"fmt"
	"testing"
)

func TestReasons(t *testing.T) {
	seen := map[string]Reason{}
	known := 0
	for i := range 256 {
		r := Reason(i)
		w := r.String()
		if other, twice := seen[w]; twice {
			t.Errorf("%d and %d are both %q", other, r, w)
		}
		if seen[w] = r; w != fmt.Sprintf("reason-%d", i) {
			known++
		}
	}
	if known != len(reasonWords) {
		t.Errorf("%d reasons have words of %d", known, len(reasonWords))
	}
	for _, row := range []struct {
		r     Reason
		drops bool
	}{{None, false}, {DropNoService, true}, {DropRole, true}, {31, true}, {PassNotIP, false}, {PassControl, false}} {
		if row.r.Drops() != row.drops {
			t.Errorf("%v drops: %t", row.r, row.r.Drops())
		}
	}
}

// The numbers are on disk, in pinned maps: they stay.
func TestReasonNumbers(t *testing.T) {
	words := []string{"forwarded", "no-service", "unknown-endpoint", "no-port", "unplaced", "contested", "both-dead",
		"no-tunnel-in-cover", "loop", "hop-limit", "bad-source", "too-big", "no-neighbour", "malformed", "ambiguous-fragment", "icmp", "no-role"}
	for i, w := range words {
		if Reason(i).String() != w {
			t.Errorf("reason %d is %v, want %s", i, Reason(i), w)
		}
	}
	for i, w := range []string{"not-ip", "other-mac", "local", "control"} {
		if r := Reason(32 + i); r.String() != w {
			t.Errorf("reason %d is %v, want %s", r, r, w)
		}
	}
}
