package replica

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"tunneldirector/affinity"
)

// TestRandom changes three tables at random while connections break, and wants them equal in the end.
func TestRandom(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint("seed-", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := rand.New(rand.NewPCG(seed, 1))
				w := newWorld(t)
				nodes := []*node{w.start(newDesk("d1"), 1), w.start(newDesk("d2"), 1), w.start(newDesk("d3"), 1)}
				for range 300 {
					n := nodes[r.IntN(3)]
					switch r.IntN(12) {
					case 0:
						n.breakAll(errors.New("cut by the test"))
					case 1:
						a, b := nodes[r.IntN(3)], nodes[r.IntN(3)]
						w.mu.Lock()
						w.cut[[2]string{a.name, b.name}] = !w.cut[[2]string{a.name, b.name}]
						w.mu.Unlock()
						a.breakAll(errors.New("cut by the test"))
					case 2, 3:
						time.Sleep(time.Duration(r.IntN(2000)) * time.Millisecond)
					default:
						n.change(func() ([]affinity.Change, uint64) { return n.scramble(r) })
					}
				}
				w.mu.Lock()
				clear(w.cut)
				w.mu.Unlock()
				w.await("equal tables", 3*time.Minute, w.equal)
				want := records(nodes[0].Table())
				for _, n := range nodes[1:] {
					if got := records(n.Table()); !maps.Equal(got, want) {
						t.Errorf("%s has %d records, %s %d, and they differ", n.name, len(got), nodes[0].name, len(want))
					}
				}
				if len(want) < 20 {
					t.Errorf("%d records only", len(want))
				}
			})
		})
	}
}

// bytesOf are the bytes of records.
func bytesOf(log []affinity.Change) (n int) {
	for i := range log {
		n += 1 + len(log[i].Key) + len(log[i].Value)
	}
	return n
}

// moved are the bytes that went over a node's connections.
func moved(n *node) (total int64, by map[string]int64) {
	by = map[string]int64{}
	for _, s := range n.replica.Status() {
		for k, v := range s.Sent {
			by["> "+k] += v
			total += v
		}
		for k, v := range s.Received {
			by["< "+k] += v
			total += v
		}
	}
	return total, by
}

// TestHealed counts what moves when each of two tables of 100,000 records has changed 0.5 % by itself.
func TestHealed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 100_000
		a, b := newDesk("d1"), newDesk("d2")
		log, _ := a.put(0, n)
		if err := b.Merge(t.Context(), "d1", log); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		differing := 0
		for odd, d := range []*desk{a, b} {
			log, _ := d.write(func(tab *affinity.Table, h func() affinity.Header) {
				for i := 100 * odd; i < n; i += 200 {
					tab.PutTunnel(tunnelOf(h(), i))
				}
			})
			differing += bytesOf(log)
		}
		w := newWorld(t)
		one := w.start(a, 1)
		w.start(b, 1)
		took := w.await("equal tables", time.Minute, w.equal)
		total, by := moved(one)
		ratio := float64(total) / float64(differing)
		t.Logf("%d bytes differ, %d moved: ratio %.2f, in %v; %v", differing, total, ratio, took, by)
		if ratio > 2.5 {
			t.Errorf("moved %.2f times the bytes that differ", ratio)
		}
	})
}

// TestEmpty: a new director gets all, whichever of the two has the lower name, and says when it has it.
func TestEmpty(t *testing.T) {
	for _, full := range []string{"d1", "d2"} {
		t.Run(full, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				d := newDesk(full)
				log, _ := d.put(0, 20_000)
				d.write(func(tab *affinity.Table, h func() affinity.Header) {
					tab.PutService(&affinity.Service{Header: h(), Name: "ipsec", Num: 1})
				})
				size := bytesOf(log)
				first := w.start(d, 1)
				if _, all := first.replica.Synced(); all {
					t.Error("in step with all live directors, and there is none")
				}
				other := w.start(newDesk(map[string]string{"d1": "d2", "d2": "d1"}[full]), 1)
				if ready, all := other.replica.Synced(); ready || all {
					t.Errorf("an empty director says that it has all: of ready ones %t, of all %t", ready, all)
				}
				w.await("equal tables", 10*time.Second, w.equal)
				w.await("to be synced", time.Second, func() bool {
					ready, all := other.replica.Synced()
					return ready && all
				})
				total, by := moved(first)
				if ratio := float64(total) / float64(size); ratio > 1.1 {
					t.Errorf("moved %d bytes for a table of %d: %v", total, size, by)
				}
				if len(other.Table().Services()) != 1 || other.Table().Len() != 20_000 {
					t.Errorf("got %d services and %d tunnels", len(other.Table().Services()), other.Table().Len())
				}
			})
		})
	}
}

// TestAcked: peers that have it are named, and no other.
func TestAcked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, b, c := w.start(newDesk("d1"), 1), w.start(newDesk("d2"), 1), w.start(newDesk("d3"), 1)
		w.await("synced", 10*time.Second, func() bool { return len(a.acked(0)) == 2 })

		c.mu.Lock()
		c.full = errors.New("no room")
		c.mu.Unlock()
		revision := a.change(func() ([]affinity.Change, uint64) { return a.put(0, 10) })
		begun := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		if got := a.replica.Await(ctx, revision, 1); !slices.Equal(got, []string{"d2"}) || time.Since(begun) > 100*time.Millisecond {
			t.Errorf("one peer has it: %v after %v", got, time.Since(begun))
		}
		if got := a.replica.Await(ctx, revision, -1); !slices.Equal(got, []string{"d2"}) || time.Since(begun) < 500*time.Millisecond {
			t.Errorf("all peers: %v after %v", got, time.Since(begun))
		}
		time.Sleep(time.Minute)
		s := a.replica.Status()[1]
		if s.Lag != 10 || s.LagFor < time.Minute || !s.Dialled.Connected {
			t.Errorf("a peer with a full disk: %+v", s)
		}
		if got := c.replica.Problems(); len(got) == 0 || !strings.Contains(got[0], "no room") {
			t.Errorf("the one with the full disk says %q", got)
		}
		c.mu.Lock()
		c.full = nil
		c.mu.Unlock()
		w.await("equal tables", 20*time.Second, w.equal)
		if got := a.replica.Await(t.Context(), revision, -1); len(got) != 2 {
			t.Errorf("in the end %v have it", got)
		}
		w.await("no complaint", 20*time.Second, func() bool { return len(c.replica.Problems()) == 0 })
		// What came of others has a revision of its own.
		b.change(func() ([]affinity.Change, uint64) { return b.put(10, 20) })
		w.await("equal tables", time.Second, w.equal)
		if got := a.acked(a.Table().Revision()); len(got) != 2 {
			t.Errorf("of a revision that is another's write: %v", got)
		}
	})
}

// TestOverflow: what a queue cannot hold is found by a round, at once.
func TestOverflow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, b := w.start(newDesk("d2"), 1), w.start(newDesk("d1"), 1)
		w.await("synced", 10*time.Second, func() bool { return len(a.acked(0)) == 1 })
		b.mu.Lock()
		b.full = errors.New("no room")
		b.mu.Unlock()
		last := uint64(0)
		flood := func(from, to int) {
			log, revision := a.put(from, to)
			for last = revision; ; last++ {
				a.replica.Wrote(log, last)
				if s := a.replica.Status()[0]; s.Lag < maxQueued/2 && last > revision+maxQueued/1000 {
					break // dropped just now
				}
				if last > revision+2*maxQueued/uint64(len(log)) {
					t.Fatalf("too many records wait: %+v", a.replica.Status()[0])
				}
			}
			if got := a.acked(last); len(got) != 0 {
				t.Errorf("%v have what was dropped", got)
			}
		}
		flood(0, 1000)
		time.Sleep(2 * time.Second)
		if s := a.replica.Status()[0]; !s.Syncing {
			t.Errorf("no round has begun: %+v", s)
		}
		flood(1000, 1500) // too late for that round
		b.mu.Lock()
		b.full = nil
		b.mu.Unlock()
		w.await("synced", 20*time.Second, func() bool { s := a.replica.Status()[0]; return s.Synced && s.Lag == 0 })
		if !w.equal() || len(a.acked(last)) != 1 {
			t.Errorf("said to be synced: %s", w.describe())
		}
	})
}

// TestUnacknowledged: before a peer has taken in what it lacked at connecting, it has nothing of ours.
func TestUnacknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		d, e := newDesk("d1"), newDesk("d2")
		d.put(0, 10)
		e.full = errors.New("no room")
		a := w.start(d, 1)
		w.start(e, 1)
		time.Sleep(10 * time.Second)
		if got := a.acked(0); len(got) != 0 {
			t.Errorf("%v have all of ours", got)
		}
		if _, all := a.replica.Synced(); all {
			t.Error("the round is said to be complete")
		}
	})
}

// TestSynced: all that others had is here after a round, when roots were equal at connecting, or by the beats.
func TestSynced(t *testing.T) {
	for _, tt := range []struct {
		name             string
		blind, cut, full bool
	}{
		{"after a round", true, false, true},
		{"equal at connecting", true, false, false},
		{"equal by the beats", false, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.blind = tt.blind
				w.cut[[2]string{"d1", "d2"}], w.cut[[2]string{"d2", "d1"}] = tt.cut, tt.cut
				d := newDesk("d1")
				if tt.full {
					d.put(0, 10)
				}
				w.start(d, 1)
				b := w.start(newDesk("d2"), 1)
				w.await("synced", 2*time.Second, func() bool { ready, all := b.replica.Synced(); return ready && all })
			})
		})
	}
}

// TestDense: one round brings two tables together whose records share leaves.
func TestDense(t *testing.T) {
	var ids []int
	for n := 0; len(ids) < 120; n++ {
		if affinity.LeafOf(affinity.KeyHash(affinity.KindTunnel, tunnelOf(affinity.Header{}, n).ID))%affinity.Leaves < 64 {
			ids = append(ids, n)
		}
	}
	for _, first := range []string{"d1", "d2"} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			a, b := newDesk(first), newDesk(map[string]string{"d1": "d2", "d2": "d1"}[first])
			w.cut[[2]string{b.name, a.name}] = true
			put := func(d *desk, ids []int) {
				for _, n := range ids {
					d.put(n, n+1)
				}
				time.Sleep(time.Second)
			}
			put(a, ids[:80]) // the last 40 are there only
			put(b, ids[20:])
			put(a, ids[50:60]) // later than there
			one := w.start(a, 1)
			w.start(b, 1)
			w.await("equal tables", 5*time.Second, w.equal)
			if a.table.Len() != 120 || one.replica.Status()[0].Rounds != 1 {
				t.Errorf("%d tunnels after %d rounds", a.table.Len(), one.replica.Status()[0].Rounds)
			}
		})
	}
}

// TestRefusedRecords: a record that a peer cannot take holds nothing else up, and is not sent for ever.
func TestRefusedRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		d := newDesk("d2")
		d.refuse = func(c affinity.Change) error {
			if c.Key == "site-0000007" {
				return affinity.ErrNewerFormat
			}
			return nil
		}
		d.put(7, 8) // its own version stays
		a, b := w.start(newDesk("d1"), 1), w.start(d, 1)
		time.Sleep(time.Second)
		revision := a.change(func() ([]affinity.Change, uint64) { return a.put(0, 100) })
		w.await("acknowledged", time.Second, func() bool { return len(a.acked(revision)) == 1 })
		if b.Table().Len() != 100 {
			t.Errorf("%d tunnels", b.Table().Len())
		}
		s := b.replica.Status()[0]
		want := []Refusal{{affinity.KindTunnel, "site-0000007", affinity.ErrNewerFormat.Error()}}
		if !cmp.Equal(s.Refusals, want) || s.Refused != 1 || s.Problem != `1 of its records were refused, the last one tunnel "site-0000007": `+affinity.ErrNewerFormat.Error() {
			t.Errorf("refused %+v (%d), problem %q", s.Refusals, s.Refused, s.Problem)
		}
		time.Sleep(8 * time.Minute)
		s = b.replica.Status()[0]
		if s.Refused > 1 || s.Equal {
			t.Errorf("after 8 minutes it was sent %d times, equal %t", s.Refused, s.Equal)
		}
		if n := a.replica.Status()[0].Rounds; n < 3 || n > 10 {
			t.Errorf("%d rounds in 8 minutes of differing", n)
		}
		d.mu.Lock()
		d.refuse = nil
		d.mu.Unlock()
		time.Sleep(12 * time.Minute)
		if s := b.replica.Status()[0]; !s.Equal || s.Problem != "" || s.Refused != 1 || len(b.replica.Problems()) != 0 {
			t.Errorf("when it is taken: equal %t, refused %d, problem %q", s.Equal, s.Refused, s.Problem)
		}
	})
}

// TestMissed: what neither queue nor connecting brought over is found by the roots.
func TestMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, b := w.start(newDesk("d1"), 1), w.start(newDesk("d2"), 1)
		w.await("synced", 10*time.Second, func() bool { return len(a.acked(0)) == 1 && len(b.acked(0)) == 1 })
		b.put(0, 5) // not handed on
		took := w.await("equal tables", 20*time.Second, w.equal)
		if took < 9*time.Second || took > 12*time.Second {
			t.Errorf("found after %v", took)
		}
	})
}

// TestOldCopy: of a store that is older than what its peers remember nothing is taken.
func TestOldCopy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.start(newDesk("d1"), 5)
		b := w.start(newDesk("d2"), 1)
		w.await("synced", 10*time.Second, func() bool { return len(b.acked(0)) == 1 })
		a.halt()
		old := newDesk("d1")
		old.put(0, 10)
		c := w.start(old, 4)
		select {
		case peer := <-c.olds:
			if peer != "d2" {
				t.Errorf("%s remembers", peer)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("it does not hear of it")
		}
		time.Sleep(time.Minute)
		if len(c.olds) > 0 {
			t.Error("told twice")
		}
		if b.Table().Len() != 0 {
			t.Errorf("%d tunnels of an old copy were taken", b.Table().Len())
		}
		if p := c.replica.Problems(); len(p) != 1 {
			t.Errorf("it says %q", p)
		}
		// Refilled under a new store id, it is welcome.
		c.halt()
		fresh := newDesk("d1")
		fresh.table = affinity.NewTable("another", 0)
		f := w.start(fresh, 1)
		w.await("synced", 10*time.Second, func() bool { return len(f.acked(0)) == 1 })
	})
}

// TestAsk: questions go either way, and end.
func TestAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.cut[[2]string{"d2", "d1"}] = true
		a, b := w.start(newDesk("d1"), 1), w.start(newDesk("d2"), 1)
		w.await("connected", 10*time.Second, func() bool { return len(a.acked(0)) == 1 })
		for _, n := range []*node{a, b} {
			other := map[string]string{"d1": "d2", "d2": "d1"}[n.name]
			got, err := n.replica.Ask(t.Context(), other, []byte("how"))
			if want := fmt.Sprintf("%s asks %s: how", n.name, other); err != nil || string(got) != want {
				t.Errorf("%s: %q, %v; want %q", n.name, got, err, want)
			}
			if _, err := n.replica.Ask(t.Context(), other, []byte("fail")); err == nil || !strings.Contains(err.Error(), "it may not be") {
				t.Errorf("%s: %v", n.name, err)
			}
		}
		if _, err := a.replica.Ask(t.Context(), "d9", nil); !errors.Is(err, errNotConnected) {
			t.Errorf("of nobody: %v", err)
		}
		for range 200 {
			if _, err := a.replica.Ask(t.Context(), "d2", []byte("how")); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestFilledOnce: a new director to which two offer the same table gets it once.
func TestFilledOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, b := newDesk("d1"), newDesk("d2")
		log, _ := a.put(0, 20_000)
		if err := b.Merge(t.Context(), "d1", log); err != nil {
			t.Fatal(err)
		}
		w.start(a, 1)
		w.start(b, 1)
		w.await("two equal tables", 10*time.Second, w.equal)
		third := w.start(newDesk("d3"), 1)
		w.await("three equal tables", 20*time.Second, w.equal)
		total, by := moved(third)
		if ratio := float64(total) / float64(bytesOf(log)); ratio > 1.3 {
			t.Errorf("moved %.2f times the table: %v", ratio, by)
		}
	})
}

// TestHealedByTwo: what two directors have and the third lacks comes to it once, whoever of them makes connections, and though it
// takes a while to be taken in.
func TestHealedByTwo(t *testing.T) {
	for _, tt := range []struct {
		name string
		away string      // which director was parted from the others
		cut  [][2]string // who cannot dial whom
	}{
		{"the first comes back", "d1", nil},
		{"the second comes back", "d2", nil},
		{"the third comes back", "d3", nil},
		{"one cannot dial the third", "d3", [][2]string{{"d1", "d3"}}},
		{"neither can dial the third", "d3", [][2]string{{"d1", "d3"}, {"d2", "d3"}}},
		{"neither can dial the first", "d1", [][2]string{{"d2", "d1"}, {"d3", "d1"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const n = 50_000
				w := newWorld(t)
				w.local = func(d *desk) Local { return slow{d, 3 * time.Second} }
				others := slices.DeleteFunc([]string{"d1", "d2", "d3"}, func(name string) bool { return name == tt.away })
				a, b, c := newDesk(others[0]), newDesk(others[1]), newDesk(tt.away)
				log, _ := a.put(0, n)
				for _, d := range []*desk{b, c} {
					if err := d.Merge(t.Context(), a.name, log); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(time.Minute)
				log, _ = a.write(func(tab *affinity.Table, h func() affinity.Header) {
					for i := 0; i < n; i += 5 {
						tab.PutTunnel(tunnelOf(h(), i))
					}
				})
				if err := b.Merge(t.Context(), a.name, log); err != nil {
					t.Fatal(err)
				}
				w.start(a, 1)
				w.start(b, 1)
				time.Sleep(20 * time.Second)
				w.mu.Lock()
				for _, c := range tt.cut {
					w.cut[c] = true
				}
				w.mu.Unlock()
				back := w.start(c, 1)
				took := w.await("equal tables", 2*time.Minute, w.equal)
				time.Sleep(20 * time.Second)
				total, by := moved(back)
				ratio := float64(total) / float64(bytesOf(log))
				t.Logf("%d bytes differ, %d moved: ratio %.2f, in %v; %v", bytesOf(log), total, ratio, took, by)
				if ratio > 2 {
					t.Errorf("moved %.2f times the bytes that differ", ratio)
				}
			})
		})
	}
}

// TestBack: a director that comes back to life is connected with soon, though the first attempts fail: who it is is not known yet.
func TestBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.cutAll("d1", "d2", true)
		w.muted("d2", true)
		a := w.start(newDesk("d1"), 1)
		w.start(newDesk("d2"), 1)
		for i := range 20 {
			time.Sleep(time.Minute + time.Duration(i)*time.Second/7)
			w.muted("d2", false)
			time.Sleep(500 * time.Millisecond)
			w.cutAll("d1", "d2", false)
			if took := w.await("connected", 10*time.Second, func() bool { return a.replica.Status()[0].Dialled.Connected }); took > time.Second {
				t.Errorf("connected after %v", took)
			}
			w.cutAll("d1", "d2", true)
			w.muted("d2", true)
			a.breakAll(errors.New("a test says so"))
		}
	})
}
