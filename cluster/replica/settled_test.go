package replica

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"tunneldirector/affinity"
	"tunneldirector/cluster"
)

// slow is a Local whose Merge takes a while.
type slow struct {
	*desk
	takes time.Duration
}

func (s slow) Merge(ctx context.Context, from string, records []affinity.Change) error {
	time.Sleep(s.takes)
	return s.desk.Merge(ctx, from, records)
}

// TestSettled: at a first connection, and at each one since, until the tables were compared or are found equal.
func TestSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, b := newDesk("d1"), newDesk("d2")
		if r := New(Options{Self: "d1", Local: a}); !r.Settled() {
			t.Error("one that is alone waits for somebody")
		}
		b.put(0, 500)
		w.local = func(d *desk) Local { return slow{d, 300 * time.Millisecond} }
		d1 := w.start(a, 1)
		w.start(b, 1)
		w.await("unsettled", time.Second, func() bool { return !d1.replica.Settled() })
		w.await("settled", 10*time.Second, func() bool {
			settled := d1.replica.Settled()
			if settled && d1.Table().Len() != 500 {
				t.Fatalf("settled with %d of 500 tunnels", d1.Table().Len())
			}
			return settled
		})
		time.Sleep(5 * time.Second)
		// The connections break, and nothing changes meanwhile: both say the same when they connect again.
		w.cutAll("d1", "d2", true)
		d1.breakAll(errors.New("a test says so"))
		synctest.Wait()
		if d1.replica.Settled() {
			t.Error("settled without a connection")
		}
		w.cutAll("d1", "d2", false)
		if took := w.await("settled again", 5*time.Second, d1.replica.Settled); took > time.Second {
			t.Errorf("equal tables were settled after %v", took)
		}
		if s := d1.replica.Status()[0]; s.Rounds > 1 {
			t.Errorf("%d rounds", s.Rounds)
		}
		// Something is written while they are apart, however short.
		w.cutAll("d1", "d2", true)
		d1.breakAll(errors.New("a test says so"))
		synctest.Wait()
		b.put(500, 600)
		time.Sleep(time.Second)
		w.cutAll("d1", "d2", false)
		w.await("settled with what was missed", 15*time.Second, func() bool {
			settled := d1.replica.Settled()
			if settled && d1.Table().Len() != 600 {
				t.Fatalf("settled with %d of 600 tunnels", d1.Table().Len())
			}
			return settled
		})
	})
}

// TestSettledAfterSilence: the connections may outlive a silence of the beats, and what was written meanwhile is looked for soon.
func TestSettledAfterSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		b := newDesk("d2")
		b.put(0, 100)
		w.local = func(d *desk) Local { return slow{d, 300 * time.Millisecond} }
		d1 := w.start(newDesk("d1"), 1)
		w.start(b, 1)
		w.await("settled", 10*time.Second, func() bool { return w.equal() && d1.replica.Settled() })
		w.muted("d2", true)
		time.Sleep(time.Second)
		if !d1.replica.Settled() {
			t.Error("it waits for one that is dead")
		}
		b.put(100, 110) // and for some reason is not sent
		w.muted("d2", false)
		w.await("unsettled", 500*time.Millisecond, func() bool { return !d1.replica.Settled() })
		if took := w.await("settled again", 20*time.Second, d1.replica.Settled); took > 3*time.Second || d1.Table().Len() != 110 {
			t.Errorf("settled after %v with %d tunnels", took, d1.Table().Len())
		}
	})
}

// TestSettledWithoutStreams: a peer that cannot be compared with does not hold placement up for ever, and counts again when it can.
func TestSettledWithoutStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.cutAll("d1", "d2", true)
		b := newDesk("d2")
		b.put(0, 500)
		w.local = func(d *desk) Local { return slow{d, 300 * time.Millisecond} }
		d1 := w.start(newDesk("d1"), 1)
		w.start(b, 1)
		w.await("unsettled", time.Second, func() bool { return !d1.replica.Settled() })
		time.Sleep(9 * time.Second)
		if d1.replica.Settled() {
			t.Error("settled at once")
		}
		time.Sleep(1500 * time.Millisecond)
		if !d1.replica.Settled() {
			t.Error("it waits for ever")
		}
		time.Sleep(time.Minute)
		if !d1.replica.Settled() {
			t.Error("it waits anew")
		}
		w.cutAll("d1", "d2", false)
		w.await("connected", 10*time.Second, func() bool {
			s := d1.replica.Status()[0]
			return s.Dialled.Connected || s.Accepted.Connected
		})
		if d1.replica.Settled() {
			t.Error("settled before the tables were compared")
		}
		w.await("settled", 10*time.Second, func() bool { return d1.replica.Settled() && d1.Table().Len() == 500 })
		// One that is made again and again, and never gets anywhere, does not count each time.
		d1.mu.Lock()
		d1.full = errors.New("no room")
		d1.mu.Unlock()
		b.put(500, 501)
		settled := 0
		for range 1200 {
			d1.breakAll(errors.New("a test says so"))
			time.Sleep(100 * time.Millisecond)
			if d1.replica.Settled() {
				settled++
			}
		}
		if settled < 500 {
			t.Errorf("of 1200 looks, which were all while connections broke, %d found it settled", settled)
		}
	})
}

// TestFirstBeat: a beat that says nothing is not one of an empty table if the director has said that its table is not.
func TestFirstBeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, tt := range []struct {
			name  string
			hello hello
			had   bool
		}{{"with records", hello{Name: "d2", Records: 9}, false}, {"empty", hello{Name: "d2"}, true}} {
			r := New(Options{Self: "d1", Local: newDesk("d1")})
			r.peer("d2").hello = tt.hello
			say := func(b cluster.Beat) {
				r.SetView(cluster.View{Self: cluster.Member{Name: "d1"}, Peers: []cluster.Peer{{Member: cluster.Member{Name: "d2", Rank: 2}, Alive: true, Beat: b}}})
				time.Sleep(time.Second)
			}
			say(cluster.Beat{From: "d2", Start: 1, Seq: 1})
			say(cluster.Beat{From: "d2", Start: 1, Seq: 11, Root: 4711, Revision: 1_000_000})
			if _, all := r.Synced(); all != tt.had {
				t.Errorf("%s: all of it is here: %t", tt.name, all)
			}
		}
	})
}
