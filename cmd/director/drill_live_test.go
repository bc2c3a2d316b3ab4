package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tunneldirector/cmd/console"
	"tunneldirector/director/api"
	"tunneldirector/director/drill"
)

// liveAt is a world whose director answers so.
func liveAt(t *testing.T, answer http.HandlerFunc) *liveWorld {
	t.Helper()
	srv := httptest.NewServer(answer)
	t.Cleanup(srv.Close)
	c, err := api.NewClient(api.ClientOptions{URL: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	return &liveWorld{client: c, own: map[string]string{}}
}

// What may have been made is undone, also when whoever asked for it has given up; what was refused is not.
func TestInjectedOrNot(t *testing.T) {
	problem := func(status int, field string) *api.Problem {
		return &api.Problem{Type: "urn:tunneldirector:problem:x", Title: "x", Status: status, Errors: []api.FieldError{{Field: field, Problem: "y"}}}
	}
	for _, tt := range []struct {
		name   string
		kind   drill.Kind
		answer *api.Problem // nil: none before the drill is given up
		undone bool
	}{
		{"given up meanwhile", drill.HostLoss, nil, true},
		{"unavailable", drill.HostLoss, problem(503, ""), true},
		{"a director that is unavailable", drill.Partition, problem(503, ""), true},
		{"refused by the director", drill.HostLoss, problem(403, "drill.allow"), false},
		{"failed at the agent", drill.HostLoss, problem(403, "fault"), true},
		{"in the way of another", drill.Partition, problem(409, "kind"), false},
		{"an empty table", drill.NMSEmpty, problem(503, ""), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, giveUp := context.WithCancel(t.Context())
			var undone atomic.Bool
			w := liveAt(t, func(rw http.ResponseWriter, r *http.Request) {
				switch {
				case r.Method == http.MethodDelete:
					undone.Store(true)
					rw.Header().Set("Content-Type", "application/json")
					_, _ = rw.Write([]byte(`{"done":true}`))
				case tt.answer == nil:
					giveUp()
					<-t.Context().Done()
				default:
					rw.Header().Set("Content-Type", "application/problem+json")
					rw.WriteHeader(tt.answer.Status)
					_ = json.NewEncoder(rw).Encode(tt.answer)
				}
			})
			undo, err := w.Inject(ctx, drill.Fault{ID: "x", Kind: tt.kind, Target: "a", For: time.Minute})
			giveUp()
			if err == nil || (undo != nil) != tt.undone {
				t.Fatalf("%v; it can be undone: %v, want %v", err, undo != nil, tt.undone)
			}
			if undo != nil {
				if err := undo(t.Context()); err != nil || !undone.Load() {
					t.Errorf("undone: %v, %v", undone.Load(), err)
				}
			}
		})
	}
}

// A director that does not answer may be the drill's doing; if it is not, the state is not known.
func TestStateUnheard(t *testing.T) {
	w := liveAt(t, func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusServiceUnavailable) })
	known := &drill.State{Directors: []drill.Director{{Name: "d1", Ready: true}, {Name: "d2", Ready: true}}}
	for _, tt := range []struct {
		name  string
		own   map[string]string
		heard time.Duration // ago
		known bool
	}{
		{"a moment ago", nil, 0, true},
		{"long ago", nil, time.Minute, false},
		{"another was struck", map[string]string{"x": "d2"}, time.Minute, false},
		{"it was struck", map[string]string{"x": "d1"}, time.Minute, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w.own, w.last, w.self, w.heard = tt.own, known, "d1", time.Now().Add(-tt.heard)
			s, err := w.State(t.Context())
			if (err == nil) != tt.known {
				t.Fatalf("%+v, %v", s, err)
			}
			if tt.known && (s.Unsettled == "" || s.Directors[0].Ready || !s.Directors[1].Ready) {
				t.Errorf("%+v", s)
			}
		})
	}
}

// Faults that are not the drill's own, or that stay, are no peace.
func TestStrangeFaults(t *testing.T) {
	w := &liveWorld{own: map[string]string{"mine": "rs1", "stays": "d1"}}
	until := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	got := w.strange([]api.FaultInPlace{{ID: "mine", Kind: "drain", Target: "rs1", By: "ann", Until: until},
		{ID: "stays", Kind: "partition", Target: "d1", By: "ann", Until: until, Error: "no nftables"}, {ID: "other", Kind: "drain", Target: "rs2", By: "bob", Until: until}})
	want := []string{"ann has made partition of d1 until 03:04:05, NOT undone: no nftables", "bob has made drain of rs2 until 03:04:05"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// still is a world in which nothing happens.
type still struct {
	drill.World
	state drill.State
}

func (w still) State(context.Context) (drill.State, error) { return w.state, nil }

// Who was told is struck, also if another is the busiest when the drill begins.
func TestAnnouncedIsStruck(t *testing.T) {
	for _, given := range []map[string]string{nil, {"": "rs1"}} {
		s := drill.State{RealServers: []drill.RealServer{{Name: "rs1", Alive: true, Tunnels: 2}, {Name: "rs2", Alive: true}},
			Tunnels: []drill.Tunnel{{ID: "a", RealServer: "rs1", Up: true}, {ID: "b", RealServer: "rs1", Up: true}, {ID: "c", RealServer: "rs2", Up: true}}}
		r := &rehearsal{Env: &console.Env{Stderr: io.Discard}, world: still{state: s}, o: drill.Options{Targets: given},
			d: &drill.Drill{Name: "x", What: "x", Sample: drill.Sample{Tunnels: 1, Every: time.Second}, Steps: []drill.Step{{Fault: drill.HostLoss, Target: drill.Busiest, For: time.Second}}}}
		if err := r.announce(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.Tunnels[1].RealServer = "rs2"
		p, err := drill.NewPlan(s, r.d, r.o)
		if err != nil || p.Targets[drill.Busiest] != "rs1" {
			t.Errorf("%+v, %v", p, err)
		}
	}
}
