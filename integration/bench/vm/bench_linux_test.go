package vm

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"tunneldirector/affinity"
)

// pinned is how many pins the planes hold.
const pinned = 100_000

// TestBench measures all and prints the table.
func TestBench(t *testing.T) {
	if os.Getenv("BENCH") == "" {
		t.Skip("a benchmark: BENCH=1 asks for it, in the virtual machine")
	}
	// The kernel's default of 4096 buckets is for nobody with 100,000 pins, and is fixed once the module is there.
	if out, err := exec.Command("modprobe", "ip_vs", "conn_tab_bits=18").CombinedOutput(); err != nil {
		t.Fatalf("load IPVS: %v: %s", err, out)
	}
	var rows table
	t.Run("forwarding", func(t *testing.T) { forwarding(t, &rows) })
	t.Run("pins", func(t *testing.T) { injecting(t, &rows) })
	t.Run("death", func(t *testing.T) { dying(t, &rows) })
	must(t, "print", rows.print(t.Output()))
	if dir := os.Getenv("OUT"); dir != "" {
		f, err := os.Create(filepath.Join(dir, "bench.txt"))
		must(t, "write the table", err)
		must(t, "write the table", errors.Join(rows.print(f), f.Close()))
	}
}

// The ways in their order of turns.
const (
	byRoute = "plain routing"
	byPins  = "ipvs with pins"
	byStock = "stock ipvs, persistent"
	byXDP   = "xdp with pins"
)

// forwarding lets the ways take turns, over few and all of the sources.
func forwarding(t *testing.T, rows *table) {
	const burst, turns, few = 20_000, 9, 1000
	ways := []*way{newWay(t, byRoute, few, pinned).wake(t), newWay(t, byPins, few, pinned).wake(t), newWay(t, byStock, few, pinned).wake(t), newWay(t, byXDP, few, pinned)}
	ways[0].routed()
	fill(t, ways[1].ipvs(t), affinity.DR, pinned, inTurns)
	ways[2].stock()
	fill(t, ways[3].xdp(t), affinity.DR, pinned, inTurns)
	for _, w := range ways {
		w.ready(t, few)
	}
	learned := 0 // stock IPVS learns: most of the sources have to have been there
	for learned < 4*pinned {
		n, _ := ways[2].send(t, pinned, burst)
		learned += int(n)
	}
	for _, n := range []int{few, pinned} {
		cost := map[string]samples{}
		for range turns {
			for _, w := range ways {
				cost[w.name] = append(cost[w.name], float64(w.each(t, n, burst).Nanoseconds()))
			}
		}
		const reading = "what the kernel does for any packet that it routes, the generator included"
		for _, name := range []string{byPins, byStock, byXDP} {
			rows.add(row{fmt.Sprintf("forward/%s/%d sources", name, n), cost[name], "ns/packet", byRoute, cost[byRoute], reading})
		}
		rows.add(row{fmt.Sprintf("forward/%s/%d sources", byPins, n), cost[byPins], "ns/packet", byStock, cost[byStock], "the same lookup of an entry that IPVS made itself"})
	}
}

// each is how long a packet takes. A burst that overran a queue, as happens when the kernel puts the receiving side off, says
// nothing, and is sent again.
func (w *way) each(t *testing.T, n, burst int) time.Duration {
	t.Helper()
	for range 10 {
		if got, each := w.send(t, n, burst); got >= uint64(burst)*99/100 {
			return each
		}
	}
	t.Fatalf("%s loses packets, again and again", w.name)
	return 0
}

// ready waits until a way forwards.
func (w *way) ready(t *testing.T, n int) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; {
		if got, _ := w.send(t, n, 64); got >= 64 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s forwards nothing", w.name)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
