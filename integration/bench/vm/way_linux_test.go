package vm

import (
	"net/netip"
	"testing"
	"time"

	"github.com/cilium/ebpf"
)

// A way is a generator, a director of its own, and real servers that count:
//
//	generator g ──▶ in director out ──▶ s sink
type way struct {
	name      string
	generator *machine
	director  *machine
	feeds     map[int]*ebpf.Program // by how many sources
	count     *ebpf.Map
}

// What each director has.
var (
	inside  = netip.MustParsePrefix("10.200.0.2/24")
	outside = netip.MustParsePrefix("198.51.100.2/24")
	servers = []netip.Addr{netip.MustParseAddr("198.51.100.11"), netip.MustParseAddr("198.51.100.12")}
)

func newWay(t *testing.T, name string, sources ...int) *way {
	t.Helper()
	w := &way{name: name, generator: newMachine(t), director: newMachine(t), feeds: map[int]*ebpf.Program{}}
	sink := newMachine(t)
	cable(w.generator, "g", w.director, "in")
	cable(w.director, "out", sink, "s")
	w.director.address("in", inside)
	w.director.address("out", outside)
	var err error
	w.count, err = ebpf.NewMap(&ebpf.MapSpec{Name: "count", Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	must(t, "make the counter", err)
	t.Cleanup(func() { w.count.Close() })
	sink.attach("s", taking(t, w.count))
	_, mac := sink.link("s")
	for _, a := range servers {
		w.director.neighbour("out", a, mac)
	}
	index, src := w.generator.link("g")
	_, dst := w.director.link("in")
	for _, n := range sources {
		w.feeds[n] = feeding(t, index, n, dst, src)
	}
	return w
}

// wake lets the director's kernel take redirected frames; a plane that attaches a program of its own does the same.
func (w *way) wake(t *testing.T) *way {
	w.director.attach("in", passing(t))
	return w
}

func (w *way) received(t *testing.T) (n uint64) {
	t.Helper()
	must(t, "read the counter", w.count.Lookup(uint32(0), &n))
	return n
}

// send sends at least count packets of n sources and returns how many arrived, and how long each took.
func (w *way) send(t *testing.T, n, count int) (arrived uint64, each time.Duration) {
	t.Helper()
	before := w.received(t)
	began := time.Now()
	w.generator.do("send", func() error { return run(w.feeds[n], count) })
	took := time.Since(began)
	if arrived = w.received(t) - before; arrived > 0 {
		each = took / time.Duration(arrived)
	}
	return arrived, each
}
