package place

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"tunneldirector/affinity"
)

// drawWorld makes hosts with the same number of equal real servers on each, in zones of the same number of hosts.
func drawWorld(t *rapid.T, capacity uint32) *world {
	zones := rapid.SampledFrom([]int{1, 1, 2, 3}).Draw(t, "zones")
	hosts := rapid.IntRange(2, 4).Draw(t, "hosts in a zone")
	each := rapid.IntRange(1, 2).Draw(t, "real servers on a host")
	var servers []Server
	for z := range zones {
		for h := range hosts {
			for range each {
				s := Server{Host: fmt.Sprintf("h%d-%d", z, h), Capacity: capacity}
				if zones > 1 {
					s.Zone = fmt.Sprintf("z%d", z)
				}
				servers = append(servers, s)
			}
		}
	}
	return newWorld(servers...)
}

func drawDemand(t *rapid.T) affinity.Load {
	n := rapid.SampledFrom([]uint32{1, 1, 1, 1, 2, 4}).Draw(t, "tunnels")
	return tunnels(n, uint64(n)*rapid.SampledFrom([]uint64{0, 1e6, 2e6, 5e5}).Draw(t, "bandwidth"))
}

// Thousands of groups over equal real servers: even load, and even inheritance whoever dies.
func TestSpread(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t, 0)
		largest := 0.0
		sizes := rapid.SliceOfN(rapid.Custom(drawDemand), 16, 16).Draw(t, "demands")
		for i := range 300 * len(w.servers) {
			l := sizes[i*i%len(sizes)]
			c, err := Choose(w.view(), Demand{Load: l})
			if err != nil {
				t.Fatal(err)
			}
			if c.Backup == 0 || c.Notes != nil || sameHost(w.server(c.Primary), w.server(c.Backup)) {
				t.Fatalf("group %d: %+v", i, c)
			}
			w.pin(c, l)
			largest = max(largest, l.Bits(1e6))
		}
		if s := w.primarySpread(); s > 1.05 {
			t.Errorf("primaries' load: max/mean %.3f", s)
		}
		if s := w.inheritedApart(largest, func(dead, p *Server) bool { return dead == p }); s > 1.1 {
			t.Errorf("inherited load after one real server's death: max/mean %.3f", s)
		}
		if s := w.inheritedApart(largest, func(dead, p *Server) bool { return dead.Host == p.Host }); s > 1.1 {
			t.Errorf("inherited load after a host's death: max/mean %.3f", s)
		}
		if s := w.inheritedSpread(byZone); s > 1.2 && w.servers[0].Zone != "" {
			t.Errorf("inherited load after a zone's death: max/mean %.3f", s)
		}
	})
}

// inheritedApart is the worst spread after each death, over the real servers on other hosts and, if there are zones, in
// other zones: only there the dead ones' backups are. The most loaded may have one group more than an even share: of a real
// server's 300 groups each of many others gets few, and groups are not split.
func (w *world) inheritedApart(largest float64, together func(dead, p *Server) bool) float64 {
	worst := 0.0
	for i := range w.servers {
		dead := &w.servers[i]
		var v []float64
		for j := range w.servers {
			if s := &w.servers[j]; s.Zone != dead.Zone || s.Zone == "" && s.Host != dead.Host {
				v = append(v, w.inherited(s, func(p *Server) bool { return together(dead, p) }).Bits(1e6))
			}
		}
		mean := slices.Max(v) / spread(v)
		worst = max(worst, (slices.Max(v)-largest)/mean)
	}
	return worst
}

// Where the capacity is there, with little to spare, any host (zone) may die.
func TestCapacitySuffices(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const capacity = 200
		w := drawWorld(t, capacity)
		key := byHost
		if w.servers[0].Zone != "" {
			key = byZone
		}
		domains := len(w.keys(key))
		room := uint32(len(w.servers)) * capacity * uint32(domains-1) / uint32(domains) * 93 / 100
		for placed := uint32(0); placed < room; {
			l := drawDemand(t)
			c, err := Choose(w.view(), Demand{Load: l})
			if err != nil || c.Backup == 0 {
				t.Fatalf("at %d of %d tunnels: %+v %v", placed, room, c, err)
			}
			w.pin(c, l)
			placed += l.Tunnels
		}
		if list := w.overfull(key); list != nil {
			t.Errorf("%d tunnels: %q", room, list)
		}
		if r := NPlusOne(w.view()); !r.OK {
			t.Errorf("%+v", r)
		}
	})
}

// Real servers of all sizes, come and go, groups too: the rules without exception.
func TestAlways(t *testing.T) {
	type pinned struct {
		c Choice
		l affinity.Load
	}
	rapid.Check(t, func(t *rapid.T) {
		var servers []Server
		for range rapid.IntRange(1, 12).Draw(t, "real servers") {
			servers = append(servers, Server{
				Host:     rapid.SampledFrom([]string{"", "h1", "h2", "h3"}).Draw(t, "host"),
				Zone:     rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "zone"),
				Weight:   rapid.Uint32Range(1, 300).Draw(t, "weight"),
				Capacity: rapid.SampledFrom([]uint32{0, 5, 20, 50}).Draw(t, "capacity"),
			})
		}
		w := newWorld(servers...)
		w.policy = rapid.SampledFrom([]affinity.Policy{affinity.LeastLoad, affinity.RoundRobin}).Draw(t, "policy")
		var pins []pinned
		for range rapid.IntRange(1, 120).Draw(t, "steps") {
			if len(pins) > 0 && rapid.IntRange(0, 4).Draw(t, "delete") == 0 {
				i := rapid.IntRange(0, len(pins)-1).Draw(t, "which")
				w.unpin(pins[i].c, pins[i].l)
				pins = append(pins[:i], pins[i+1:]...)
			}
			s := w.server(affinity.Index(rapid.IntRange(1, len(servers)).Draw(t, "real server")))
			s.Open = s.Alive && rapid.IntRange(0, 3).Draw(t, "open") > 0
			if s.Load.Tunnels == 0 && rapid.IntRange(0, 3).Draw(t, "dies") == 0 {
				s.Open, s.Alive = false, false
			}
			d := Demand{Load: drawDemand(t)}
			d.Exclude = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) affinity.Index {
				return affinity.Index(rapid.IntRange(1, 12).Draw(t, "index"))
			}), 0, 2).Draw(t, "exclude")
			d.Apart = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) affinity.Index {
				return affinity.Index(rapid.IntRange(1, 12).Draw(t, "index"))
			}), 0, 2).Draw(t, "apart")
			c, err := Choose(w.view(), d)
			again, err2 := Choose(w.view(), d)
			if diff := cmp.Diff(c, again); diff != "" || (err == nil) != (err2 == nil) {
				t.Fatalf("not the same again: %s %v %v", diff, err, err2)
			}
			if err == nil {
				w.checkChoice(t, c, d)
				w.pin(c, d.Load)
				pins = append(pins, pinned{c, d.Load})
				continue
			}
			w.checkFull(t, err, d)
		}
	})
}

func (w *world) checkChoice(t *rapid.T, c Choice, d Demand) {
	v := w.view()
	sc := newScene(&v, &d, &scratch{})
	p := w.server(c.Primary)
	if !sc.takes(p) {
		t.Fatalf("%+v takes nothing: %+v", p, d)
	}
	if c.Backup == 0 {
		if len(c.Notes) == 0 {
			t.Fatalf("no backup, and no word about it: %+v", c)
		}
		return
	}
	b := w.server(c.Backup)
	if !b.Alive || b == p || sc.excludes(b.Index) {
		t.Fatalf("backup %+v of %+v", b, p)
	}
	dies := func(s *Server) bool { return s == p || s.Alive && sameHost(s, p) && s != b }
	if n := b.Load.Tunnels + w.inherited(b, dies).Tunnels + d.Load.Tunnels; b.Capacity > 0 && n > b.Capacity {
		t.Fatalf("backup %+v would hold %d", b, n)
	}
	for i := range w.servers {
		if s := &w.servers[i]; s.Alive && sameHost(p, b) && !sameHost(s, p) {
			t.Fatalf("backup on the primary's host %s, though %s is elsewhere", p.host(), s.Name)
		}
	}
}

func (w *world) checkFull(t *rapid.T, err error, d Demand) {
	var full *Full
	if !errors.As(err, &full) || len(full.Refusals)+full.More != len(w.servers) {
		t.Fatalf("%v of %d real servers", err, len(w.servers))
	}
	v := w.view()
	sc := newScene(&v, &d, &scratch{})
	for i := range w.servers {
		if sc.takes(&w.servers[i]) {
			t.Fatalf("%v, but %+v takes it", err, w.servers[i])
		}
	}
}
