package sim

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

// TestSimulation lives through as many histories as SIM_SEEDS says, from SIM_FIRST on, or through the one of SIM_SEED.
func TestSimulation(t *testing.T) {
	first, count := number("SIM_FIRST", 1), number("SIM_SEEDS", 300)
	if seed := number("SIM_SEED", 0); seed != 0 {
		first, count = seed, 1
	}
	for seed := first; seed < first+count; seed++ {
		t.Run(fmt.Sprintf("seed-%d", seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { live(t, seed) })
		})
	}
}

// number is what an environment variable says, else n.
func number(name string, n uint64) uint64 {
	if x, err := strconv.ParseUint(os.Getenv(name), 10, 64); err == nil {
		return x
	}
	return n
}

// live is one history: everything begins, goes wrong for a while, and heals.
func live(t *testing.T, seed uint64) {
	w := newWorld(t, seed)
	defer w.end()
	h := &history{w: w}
	h.begin()
	h.trouble()
	h.heal()
	if t.Failed() {
		return
	}
	h.settle()
	w.check()
	if !t.Failed() {
		w.checkKept()
	}
	if testing.Verbose() {
		w.report()
	}
}

// report says what there was.
func (w *world) report() {
	x, o := w.witness, w.oracle
	x.mu.Lock()
	defer x.mu.Unlock()
	var apart, inside time.Duration
	for _, d := range o.apart {
		apart = max(apart, d)
	}
	for _, d := range o.inside {
		inside = max(inside, d)
	}
	w.t.Logf("%s s, %d directors, %d things happened, %d pushes acknowledged, moved while up: %v, packets asked about %d, a tunnel's two directions apart: %v at most at a stretch, %v in all, %v inside partitions",
		w.elapsed(), len(w.nodes), len(w.told), len(x.acks), x.causes, o.asked, o.worst, apart, inside)
}
