package main

import (
	"testing"
	"time"

	"tunneldirector/director/probe"
)

func TestLinksUp(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	up := func(name string) probe.Link { return probe.Link{Interface: name, Up: true, At: now.Add(-time.Hour)} }
	down := func(name string, ago time.Duration) probe.Link { return probe.Link{Interface: name, At: now.Add(-ago)} }
	for _, c := range []struct {
		name  string
		links []probe.Link
		want  bool
	}{
		{"not told yet", nil, true},
		{"both up", []probe.Link{up("rs0"), up("rs1")}, true},
		{"one fell just now", []probe.Link{up("rs0"), down("rs1", time.Second)}, false},
		{"one is down for good", []probe.Link{up("rs0"), down("rs1", time.Minute)}, true},
		{"both are down for good", []probe.Link{down("rs0", time.Hour), down("rs1", time.Minute)}, false},
		{"one of another role", []probe.Link{up("rs0"), up("rs1"), down("sites", time.Second)}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &prober{toRS: map[string]bool{"rs0": true, "rs1": true}, links: map[string]probe.Link{}}
			for _, l := range c.links {
				p.links[l.Interface] = l
			}
			if got := p.linksUp(now); got != c.want {
				t.Errorf("links up: %v, want %v", got, c.want)
			}
		})
	}
}
