package replica

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

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
