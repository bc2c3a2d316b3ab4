package main

import "testing"

// An alarm about a fault of gossip says when that was last seen, and has the same words however often that was.
func TestUncounted(t *testing.T) {
	for _, c := range []struct{ name, problem, want string }{
		{"once", "d9 has another key (last seen at 2026-01-02T03:04:05Z)", "d9 has another key (last seen at 2026-01-02T03:04:05Z)"},
		{"often", "d9, of 192.0.2.9, has another key (last seen at 2026-01-02T03:04:05Z, 12 times since 2026-01-02T03:00:00Z)",
			"d9, of 192.0.2.9, has another key (last seen at 2026-01-02T03:04:05Z)"},
		{"another problem", "director d2 is dead: start it, or, if it is scrapped, director cluster forget d2", "director d2 is dead: start it, or, if it is scrapped, director cluster forget d2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := uncounted(c.problem); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}
