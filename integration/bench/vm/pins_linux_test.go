package vm

import (
	"fmt"
	"os"
	"testing"
	"time"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
)

// injecting measures how fast pins get into the kernel, and what they take there.
func injecting(t *testing.T, rows *table) {
	p, peer := newWay(t, "pins").ipvs(t), newWay(t, "peer").xdp(t)
	fill(t, p, affinity.DR, 0, inTurns)
	fill(t, peer, affinity.DR, 0, inTurns)
	before, size := connSlab(t)
	rate := map[string]samples{}
	for _, step := range []struct {
		name    string
		primary func(int) affinity.Index
	}{{"new", inTurns}, {"again", inTurns}, {"elsewhere", atOther}, {"again", atOther}, {"elsewhere", inTurns}} {
		for name, p := range map[string]plane.Plane{"ipvs ": p, "xdp ": peer} {
			took := timed(func() { apply(t, p, pinned, step.primary) })
			rate[name+step.name] = append(rate[name+step.name], pinned/took.Seconds())
		}
		if step.name == "new" {
			after, _ := connSlab(t)
			rows.add(row{"memory of a pin", samples{(after - before) / pinned}, "bytes", "struct ip_vs_conn", samples{size},
				"the entry itself; the hash's buckets are 8 bytes more at one entry a bucket (conn_tab_bits)"})
		}
	}
	const floor = "the kernel reads the message and finds the entry; what is above it makes or unmakes one"
	for _, name := range []string{"new", "elsewhere"} {
		rows.add(row{"pins/" + name, rate["ipvs "+name], "pins/s", "the same pins again", rate["ipvs again"], floor})
		rows.add(row{"pins/" + name, rate["ipvs "+name], "pins/s", "plane xdp", rate["xdp "+name], "no kernel in between: a write into shared memory"})
	}
}

// connSlab is how much memory IPVS's entries take, and what one takes. Other objects of the size may be among them
// (mm/slub.c merges caches), but nothing else makes 100,000 at the time.
func connSlab(t *testing.T) (total, each float64) {
	t.Helper()
	read := func(file string) (n float64) {
		b, err := os.ReadFile("/sys/kernel/slab/ip_vs_conn/" + file)
		must(t, "read the kernel's memory", err)
		_, err = fmt.Sscan(string(b), &n)
		must(t, "read the kernel's memory", err)
		return n
	}
	return read("slabs") * float64(os.Getpagesize()<<int(read("order"))), read("object_size")
}

// dying measures how long a plane takes to lead all that was at a real server to its backup.
func dying(t *testing.T, rows *table) {
	const many, few, times = 10_000, 100, 5
	took := map[string]samples{}
	for _, c := range []struct {
		name   string
		method affinity.Method
		pins   int
	}{{"dr few", affinity.DR, few}, {"dr many", affinity.DR, many}, {"tunnel few", affinity.IPIP, few}, {"tunnel many", affinity.IPIP, many}} {
		p := newWay(t, c.name).ipvs(t)
		fill(t, p, c.method, c.pins, atFirst)
		for range times {
			for _, alive := range []bool{false, true} {
				d := timed(func() { must(t, "say who is alive", p.SetAlive(1, alive)) })
				if !alive {
					took[c.name] = append(took[c.name], float64(d.Microseconds())/1000)
				}
			}
		}
		if c.name == "tunnel many" {
			again := timed(func() { apply(t, p, many, atFirst) })
			took["again"] = append(took["again"], float64(again.Microseconds())/1000)
		}
	}
	rows.add(row{fmt.Sprintf("death/dr/%d pins", many), took["dr many"], "ms", fmt.Sprintf("%d pins", few), took["dr few"], "one nexthop is replaced, however many pins lead over it"})
	rows.add(row{fmt.Sprintf("death/tunnel/%d pins", many), took["tunnel many"], "ms", "the same pins again", took["again"], "every pin is sent again: the kernel cannot be faster than its messages"})
	rows.add(row{fmt.Sprintf("death/tunnel/%d pins", many), took["tunnel many"], "ms", "method dr", took["dr many"], "what pair addresses save"})
}

func timed(f func()) time.Duration {
	began := time.Now()
	f()
	return time.Since(began)
}
