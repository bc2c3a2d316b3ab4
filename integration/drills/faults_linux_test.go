package drills

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"tunneldirector/director/api"
	"tunneldirector/director/drill"
	"tunneldirector/integration/daemon"
)

// endless is longer than a fault is in place here.
const endless = 10 * time.Minute

// TestFaults: each fault does what it says while it is in place, State answers all along, and undone it is gone.
func TestFaults(t *testing.T) {
	t.Parallel()
	w := open(t, Options{Directors: 3, Sites: 4, RealServers: 2})
	carrier := "" // of the first site's tunnel, when a fault is made
	realServer := func(is func(drill.RealServer) bool) func(drill.State) bool {
		return func(st drill.State) bool {
			return slices.ContainsFunc(st.RealServers, func(r drill.RealServer) bool { return r.Name == carrier && is(r) })
		}
	}
	director := func(name string, ready bool) func(drill.State) bool {
		return func(st drill.State) bool {
			return slices.ContainsFunc(st.Directors, func(d drill.Director) bool { return d.Name == name && d.Ready == ready })
		}
	}
	dead := realServer(func(r drill.RealServer) bool { return !r.Alive })
	for _, f := range []struct {
		kind   drill.Kind
		target string // "": carrier
		does   func(drill.State) bool
	}{
		{drill.TerminatorCrash, "", dead},
		{drill.HostLoss, "", dead},
		{drill.LinkCut, "", dead},
		{drill.TerminatorHang, "", func(st drill.State) bool { return strings.Contains(st.Unsettled, "headless") }},
		{drill.Drain, "", realServer(func(r drill.RealServer) bool { return r.Tunnels == 0 })},
		{drill.DirectorCrash, "d1", director("d1", false)},
		{drill.DirectorHang, "d1", director("d1", false)},
		{drill.VIPMove, "d2", director("d2", false)},
		{drill.Partition, "d1", func(drill.State) bool {
			views, _ := w.look(t.Context(), patiently)
			return misses(views[0], "d2") && misses(views[0], "d3") && misses(views[1], "d1") && misses(views[2], "d1")
		}},
		{drill.DiskFull, "d3", func(drill.State) bool {
			var p *api.Problem
			return errors.As(pushes(t, w), &p) && (p.Status == http.StatusServiceUnavailable || p.Status == http.StatusInsufficientStorage)
		}},
		{drill.NMSOutage, "d3", func(drill.State) bool { return errors.Is(pushes(t, w), fs.ErrNotExist) }},
	} {
		t.Run(string(f.kind), func(t *testing.T) {
			carrier = state(t, w).Tunnels[0].RealServer
			made(t, w, drill.Fault{ID: "x", Kind: f.kind, Target: cmp.Or(f.target, carrier), For: endless}, f.does)
		})
	}
	t.Run("refused", func(t *testing.T) { refused(t, w) })
	t.Run("ends", func(t *testing.T) { ends(t, w) })
}

// made makes a fault, looks for what it does, and undoes it.
func made(t *testing.T, w *World, f drill.Fault, does func(drill.State) bool) {
	t.Helper()
	undo, err := w.Inject(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	until(t, w, "see the fault", does)
	if err := undo(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := undo(t.Context()); err != nil {
		t.Errorf("undo it again: %v", err)
	}
	until(t, w, "settle", settled)
	if err := daemon.HeldBy(w.lab, daemon.Owned(w.lab)); err != nil {
		t.Errorf("settled: %v", err)
	}
	if err := pushes(t, w); err != nil {
		t.Errorf("push when it is undone: %v", err)
	}
}

// misses tells whether a director answers, and says that it does not hear another one.
func misses(v view, name string) bool {
	return v.err == nil && slices.ContainsFunc(v.cluster.Members, func(m api.MemberStatus) bool { return m.Name == name && m.State == api.MemberDead })
}

// pushes pushes a tunnel to the third director, as an NMS that has no connection yet.
func pushes(t *testing.T, w *World) error {
	t.Helper()
	c, err := api.NewClient(api.ClientOptions{Socket: w.directors[2].Socket()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	tunnel := daemon.Filler(0)
	tunnel.Labels = map[string]string{"pushed": fmt.Sprint(time.Now().UnixNano())} // one that changes nothing takes no disk
	_, err = c.PutTunnel(ctx, tunnel)
	return err
}

// refused: an empty table is refused, and so is what cannot be a fault.
func refused(t *testing.T, w *World) {
	if _, err := w.Inject(t.Context(), drill.Fault{Kind: drill.NMSEmpty, For: endless}); !errors.Is(err, drill.ErrRefused) {
		t.Errorf("an empty table: %v, want ErrRefused", err)
	}
	for _, f := range []drill.Fault{
		{Kind: drill.HostLoss, Target: "rs1"}, {Kind: drill.HostLoss, Target: "d1", For: endless}, {Kind: drill.DirectorCrash, Target: "rs1", For: endless},
		{Kind: "rain", Target: "rs1", For: endless},
	} {
		if undo, err := w.Inject(t.Context(), f); err == nil {
			t.Errorf("%+v: made", f)
			_ = undo(t.Context())
		}
	}
	if _, err := w.Probe(t.Context(), "nobody", time.Second); err == nil {
		t.Error("probed a tunnel that there is not")
	}
}

// ends: a fault ends when its time is over, and with the World, though nobody undoes it.
func ends(t *testing.T, w *World) {
	p, err := w.Probe(t.Context(), w.lab.Sites[0].Name, 20*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	at := state(t, w).Tunnels[0].RealServer
	began := time.Now()
	if _, err := w.Inject(t.Context(), drill.Fault{Kind: drill.TerminatorHang, Target: at, For: time.Second}); err != nil {
		t.Fatal(err)
	}
	until(t, w, "hear nothing", func(drill.State) bool { return p.Silent() > 500*time.Millisecond })
	until(t, w, "hear it again", func(drill.State) bool { return p.Silent() < 300*time.Millisecond })
	if took := time.Since(began); took < time.Second {
		t.Errorf("it went on after %v", took)
	}
	packets, err := p.Stop()
	if err != nil || len(packets) < 10 {
		t.Errorf("%d packets, %v", len(packets), err)
	}
	if _, err := w.Inject(t.Context(), drill.Fault{Kind: drill.DirectorCrash, Target: "d1", For: 3 * time.Second}); err != nil {
		t.Fatal(err)
	}
	until(t, w, "see d1 dead", func(st drill.State) bool { return !st.Directors[0].Ready })
	undo, err := w.Inject(t.Context(), drill.Fault{Kind: drill.DirectorCrash, Target: "d1", For: endless})
	if err == nil || undo == nil {
		t.Fatalf("killed what is dead: %v; what may be there in part is to be undone: %t", err, undo != nil)
	}
	if err := undo(t.Context()); err != nil {
		t.Errorf("undo what failed: %v", err)
	}
	until(t, w, "settle", settled)
	events, err := w.Events(t.Context(), began)
	if err != nil || !slices.IsSortedFunc(events, func(a, b drill.Event) int { return a.Time.Compare(b.Time) }) {
		t.Errorf("events: %v, %+v", err, events)
	}
	if !slices.ContainsFunc(events, func(e drill.Event) bool { return e.By == "d2" && e.Kind == "assigner" && e.From == "d1" }) {
		t.Errorf("d2 does not tell that d1 did not assign any more: %+v", events)
	}
	if _, err := w.Inject(t.Context(), drill.Fault{Kind: drill.DirectorHang, Target: "d1", For: endless}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	for _, f := range w.faults {
		if f.undo != nil {
			t.Errorf("%s of %s is in place though the lab is closed", f.Kind, f.Target)
		}
	}
	if _, err := w.Inject(t.Context(), drill.Fault{Kind: drill.DirectorHang, Target: "d1", For: endless}); err == nil {
		t.Error("made a fault when the lab was closed")
	}
}
