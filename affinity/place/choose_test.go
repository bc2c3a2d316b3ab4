package place

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tunneldirector/affinity"
)

func TestChoose(t *testing.T) {
	one := Demand{Load: tunnels(1, 2e6)}
	load := func(n uint32, bits uint64) func(*Server) {
		return func(s *Server) { s.Load = affinity.Load{Tunnels: n, Bandwidth: bits} }
	}
	tests := []struct {
		name   string
		world  *world
		change map[affinity.Index]func(*Server)
		pairs  map[[2]affinity.Index]uint32
		demand Demand
		want   Choice
		err    string
	}{
		{name: "nobody", world: newWorld(), demand: one, err: "no real server serves it"},
		{name: "one alone", world: newWorld(Server{}), demand: one,
			want: Choice{Primary: 1, Notes: []string{"no backup: there is no other real server"}}},
		{name: "equal ones by name", world: newWorld(Server{}, Server{}, Server{}), demand: one, want: Choice{Primary: 1, Backup: 2}},
		{name: "least bandwidth over weight", world: newWorld(Server{Weight: 100}, Server{Weight: 200}, Server{Weight: 100}),
			change: map[affinity.Index]func(*Server){1: load(10, 10e6), 2: load(10, 16e6), 3: load(10, 12e6)},
			demand: one, want: Choice{Primary: 2, Backup: 1}},
		{name: "tie by number of tunnels", world: newWorld(Server{}, Server{}, Server{}),
			change: map[affinity.Index]func(*Server){1: load(10, 10e6), 2: load(8, 10e6), 3: load(9, 10e6)},
			demand: one, want: Choice{Primary: 2, Backup: 3}},
		{name: "tunnels without expectation count as the mean", world: newWorld(Server{}, Server{}),
			change: map[affinity.Index]func(*Server){1: func(s *Server) { s.Load = tunnels(3, 0) }, 2: load(9, 2e6)},
			demand: one, want: Choice{Primary: 2, Backup: 1}},
		{name: "capacity is hard", world: newWorld(Server{Capacity: 10}, Server{}),
			change: map[affinity.Index]func(*Server){1: load(10, 1), 2: load(1, 100e6)}, demand: one,
			want: Choice{Primary: 2, Notes: []string{"no backup: rs001 would hold 11/10 tunnels if rs002 dies"}}},
		{name: "a group as a whole", world: newWorld(Server{Capacity: 10}, Server{Capacity: 20}, Server{}),
			change: map[affinity.Index]func(*Server){1: load(8, 1), 2: load(2, 9e6), 3: load(2, 90e6)},
			demand: Demand{Load: tunnels(3, 3e6)}, want: Choice{Primary: 2, Backup: 3}},
		{name: "nobody can", world: newWorld(Server{Capacity: 100}, Server{}, Server{}, Server{}, Server{}),
			change: map[affinity.Index]func(*Server){1: load(100, 1), 2: func(s *Server) { s.Open = false },
				3: func(s *Server) { s.Open, s.Alive = false, false }, 5: func(s *Server) { s.Open, s.Weight = false, 0 }},
			demand: Demand{Load: tunnels(1, 1), Exclude: []affinity.Index{4}},
			err: "no real server has room: rs001 is full (100/100 tunnels, 1 wanted), rs002 is drained, rs003 is dead, " +
				"rs004 is excluded (a tunnel of another tenant there has an overlapping subnet), and 1 more"},
		{name: "a dead incarnation of one that lives is not named", world: newWorld(Server{Name: "a"}, Server{Name: "a", Capacity: 5}),
			change: map[affinity.Index]func(*Server){1: func(s *Server) { s.Open, s.Alive = false, false }, 2: load(5, 1)},
			demand: one, err: "no real server has room: a is full (5/5 tunnels, 1 wanted)"},
		{name: "keeps room for what it inherits", world: newWorld(Server{Capacity: 20}, Server{Capacity: 100}, Server{Capacity: 100}),
			change: map[affinity.Index]func(*Server){1: load(10, 10), 2: load(20, 90e6), 3: load(20, 91e6)},
			pairs:  map[[2]affinity.Index]uint32{{2, 1}: 10, {3, 1}: 10, {2, 3}: 10, {3, 2}: 10},
			demand: one, want: Choice{Primary: 2, Backup: 3}},
		{name: "the roomiest where all that the policy prefers would break N+1",
			world:  newWorld(Server{Capacity: 20}, Server{Capacity: 20}, Server{Capacity: 20}, Server{Capacity: 20}, Server{Capacity: 20}, Server{}),
			change: map[affinity.Index]func(*Server){1: load(10, 1), 2: load(10, 2), 3: load(10, 3), 4: load(10, 4), 5: load(10, 5), 6: load(50, 90e6)},
			pairs:  map[[2]affinity.Index]uint32{{6, 1}: 10, {6, 2}: 10, {6, 3}: 10, {6, 4}: 10, {6, 5}: 10},
			demand: one, want: Choice{Primary: 6, Notes: []string{"no backup: rs001 would hold 21/20 tunnels if rs006 dies, " +
				"rs002 would hold 21/20 tunnels if rs006 dies, rs003 would hold 21/20 tunnels if rs006 dies, " +
				"rs004 would hold 21/20 tunnels if rs006 dies, and 1 more"}}},
		{name: "another zone", world: newWorld(Server{Zone: "a", Host: "h1"}, Server{Zone: "a", Host: "h2"}, Server{Zone: "b", Host: "h3"}),
			change: map[affinity.Index]func(*Server){3: load(5, 90e6)}, demand: one, want: Choice{Primary: 1, Backup: 3}},
		{name: "no room in another zone", world: newWorld(Server{Zone: "a"}, Server{Zone: "a"}, Server{Zone: "b", Capacity: 5}),
			change: map[affinity.Index]func(*Server){1: load(1, 1e6), 2: load(1, 2e6), 3: load(5, 90e6)}, demand: one,
			want: Choice{Primary: 1, Backup: 2, Notes: []string{"backup rs002 is in the same zone a: none in another zone has room"}}},
		{name: "too small for a zone", world: newWorld(Server{Zone: "a"}, Server{Zone: "a"}, Server{Zone: "b", Capacity: 20}),
			change: map[affinity.Index]func(*Server){1: load(10, 1e6), 2: load(10, 2e6), 3: load(5, 90e6)}, demand: one,
			pairs: map[[2]affinity.Index]uint32{{1, 3}: 5, {2, 3}: 10},
			want:  Choice{Primary: 1, Backup: 3, Notes: []string{"backup rs003 has no room for all that it inherits if zone a dies"}}},
		{name: "all on one host", world: newWorld(Server{Host: "h"}, Server{Host: "h"}), demand: one,
			want: Choice{Primary: 1, Backup: 2, Notes: []string{"backup rs002 is on the same host h: no other host is alive"}}},
		{name: "the other host is full", world: newWorld(Server{Host: "h"}, Server{Host: "h"}, Server{Host: "i", Capacity: 1}),
			change: map[affinity.Index]func(*Server){3: load(1, 1)}, demand: one,
			want: Choice{Primary: 1, Notes: []string{"no backup: rs002 is on the same host, rs003 would hold 2/1 tunnels if h dies"}}},
		{name: "a drained one as backup of last resort", world: newWorld(Server{}, Server{}), demand: one,
			change: map[affinity.Index]func(*Server){2: func(s *Server) { s.Open = false }},
			want:   Choice{Primary: 1, Backup: 2, Notes: []string{"backup rs002 is drained: no other has room"}}},
		{name: "excluded is no backup", world: newWorld(Server{}, Server{}, Server{}),
			demand: Demand{Load: tunnels(1, 1), Exclude: []affinity.Index{2}}, want: Choice{Primary: 1, Backup: 3}},
		{name: "what a dead one left is counted", world: newWorld(Server{Capacity: 10}, Server{}, Server{}),
			change: map[affinity.Index]func(*Server){1: load(5, 1), 2: load(5, 90e6), 3: func(s *Server) { load(5, 5)(s); s.Open, s.Alive = false, false }},
			pairs:  map[[2]affinity.Index]uint32{{3, 1}: 5}, demand: one,
			want: Choice{Primary: 2, Notes: []string{"no backup: rs001 would hold 11/10 tunnels if rs002 dies, rs003 is dead"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := tt.world
			for i, f := range tt.change {
				f(w.server(i))
			}
			for k, n := range tt.pairs {
				w.pairs[k] = tunnels(n, uint64(n)*1e6)
			}
			got, err := Choose(w.view(), tt.demand)
			var full *Full
			if tt.err != "" && (!errors.As(err, &full) || err.Error() != tt.err) {
				t.Fatalf("error %v\n want %s", err, tt.err)
			}
			if tt.err == "" && err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestApart(t *testing.T) {
	small := func(s Server) Server { s.Capacity = 1; return s }
	tests := []struct {
		name    string
		servers []Server
		full    []affinity.Index
		apart   []affinity.Index
		aside   []affinity.Index
		want    Choice
	}{
		{name: "zone before host", servers: []Server{{Host: "h1", Zone: "a"}, {Host: "h2", Zone: "a"}, {Host: "h3", Zone: "b"}},
			apart: []affinity.Index{1}, want: Choice{Primary: 3, Backup: 2}},
		{name: "another host", servers: []Server{{Host: "h1"}, {Host: "h1"}, {Host: "h2"}},
			apart: []affinity.Index{1}, want: Choice{Primary: 3, Backup: 2}},
		{name: "another real server", servers: []Server{{Host: "h1"}, {Host: "h1"}, small(Server{Host: "h2"})},
			apart: []affinity.Index{1}, full: []affinity.Index{3},
			want: Choice{Primary: 2, Notes: []string{
				"not apart from groups on rs001 (the same host): none farther away has room",
				"no backup: rs001 is on the same host, rs003 would hold 2/1 tunnels if h1 dies"}}},
		{name: "anyway", servers: []Server{{}}, apart: []affinity.Index{1},
			want: Choice{Primary: 1, Notes: []string{
				"not apart from groups on rs001 (the same real server): none farther away has room",
				"no backup: there is no other real server"}}},
		{name: "backups of the others are avoided too", servers: []Server{{}, {}, {}, {}},
			apart: []affinity.Index{1}, aside: []affinity.Index{2}, want: Choice{Primary: 3, Backup: 4}},
		{name: "rather on their backup than on their primary", servers: []Server{{}, {}},
			apart: []affinity.Index{1}, aside: []affinity.Index{2}, want: Choice{Primary: 2, Backup: 1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(tt.servers...)
			for _, i := range tt.full {
				w.server(i).Load = tunnels(w.server(i).Capacity, 1)
			}
			got := mustChoose(t, w, Demand{Load: tunnels(1, 1e6), Apart: tt.apart, Aside: tt.aside})
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestRoundRobin(t *testing.T) {
	w := newWorld(Server{}, Server{Capacity: 2}, Server{}, Server{})
	w.policy = affinity.RoundRobin
	w.server(3).Weight, w.server(3).Open = 0, false
	var got []affinity.Index
	for range 9 {
		c := mustChoose(t, w, Demand{Load: tunnels(1, 1e9)})
		w.pin(Choice{Primary: c.Primary}, tunnels(1, 1e9))
		got = append(got, c.Primary)
	}
	// Two rounds of three; then the second is full.
	if diff := cmp.Diff([]affinity.Index{1, 2, 4, 1, 2, 4, 1, 4, 1}, got); diff != "" {
		t.Error(diff)
	}
}

func TestChooseBackup(t *testing.T) {
	w := newWorld(Server{}, Server{}, Server{}, Server{Capacity: 3})
	for range 30 {
		w.pin(Choice{Primary: 1, Backup: 2}, tunnels(1, 1e6))
	}
	if b, note := ChooseBackup(w.view(), Demand{Load: tunnels(4, 4e6)}, 1); b != 3 || note != "" {
		t.Errorf("backup %d %q, want 3: it inherits nothing of 1 yet, and 4 is too small", b, note)
	}
	if b, note := ChooseBackup(w.view(), Demand{Load: tunnels(1, 1e6)}, 99); b != 2 || note != "" {
		t.Errorf("backup of an unknown primary is %d %q, want 2", b, note)
	}
	w.server(2).Alive, w.server(2).Open = false, false
	w.server(3).Alive, w.server(3).Open = false, false
	b, note := ChooseBackup(w.view(), Demand{Load: tunnels(4, 4e6)}, 1)
	if want := "no backup: rs002 is dead, rs003 is dead, rs004 would hold 4/3 tunnels if rs001 dies"; b != 0 || note != want {
		t.Errorf("backup %d %q, want none: %s", b, note, want)
	}
}
