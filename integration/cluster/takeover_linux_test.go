package cluster

import (
	"fmt"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"
)

// rounds is how often each thing befalls the owner.
const rounds = 7

// target is what the median time from a death to the first packet through the new owner is to be under.
const target = 1500 * time.Millisecond

// TestTakeOver measures how long a VIP takes to move from an owner that dies, hangs or goes, and what is lost meanwhile.
func TestTakeOver(t *testing.T) {
	if os.Getenv("CLUSTER_BENCH") == "" {
		t.Skip("a measurement, not a test: CLUSTER_BENCH=1")
	}
	r := newFaults(t)
	for _, act := range []struct {
		name   string
		befall func() error
		after  func()
	}{
		{"daemon killed", r.d[0].Kill, func() { r.launch(r.d[0]) }},
		{"host lost", func() error {
			for _, p := range r.ports(r.Director) {
				if err := r.SetCable(p, false); err != nil {
					return err
				}
			}
			return r.d[0].Kill()
		}, func() {
			for _, p := range r.ports(r.Director) {
				r.must("plug a cable in", r.SetCable(p, true))
			}
			r.launch(r.d[0])
		}},
		{"daemon stopped", func() error { return r.d[0].Signal(syscall.SIGSTOP) }, func() { r.must("let go on", r.d[0].Signal(syscall.SIGCONT)) }},
		{"leaves", r.d[0].Stop, func() { r.launch(r.d[0]) }},
	} {
		var held, first []time.Duration
		var lost []int
		moved, anew := 0, 0
		for range rounds {
			r.settle()
			f := r.flow(r.Sites...)
			w := r.watch(r.VIPs[0], r.Directors[1])
			at := time.Now()
			r.must(act.name, act.befall())
			h, p := w.came(act.name, at)
			r.until(20*time.Second, "wait until all is taken over", func() error { return r.heldBy(r.without("d1"), "d1") })
			r.rest(time.Second)
			o := f.end(act.name)
			held, first, lost = append(held, h), append(first, p), append(lost, o.lost)
			moved, anew = moved+o.moved, anew+o.anew
			r.until(20*time.Second, "wait until its kernel has dropped them", func() error { return r.heldBy(r.without("d1")) })
			act.after()
		}
		t.Logf("MEASURED %s: VIP moved after %s, first packet to the new owner after %s, packets lost %s of about %d a second; %d tunnels moved, %d established anew",
			act.name, spread(held), spread(first), spread(lost), 2*len(r.Sites)*int(time.Second/pause), moved, anew)
		if slices.Sort(first); first[len(first)/2] > target {
			t.Errorf("%s: the first packet came after %v (median), want at most %v", act.name, first[len(first)/2], target)
		}
		if moved+anew > 0 {
			t.Errorf("%s: %d tunnels moved, %d established anew", act.name, moved, anew)
		}
	}
}

// spread is median and worst.
func spread[T int | time.Duration](values []T) string {
	slices.Sort(values)
	median, worst := any(values[len(values)/2]), any(values[len(values)-1])
	if d, ok := median.(time.Duration); ok {
		median, worst = d.Round(10*time.Millisecond), worst.(time.Duration).Round(10*time.Millisecond)
	}
	return fmt.Sprintf("%v (worst %v)", median, worst)
}
