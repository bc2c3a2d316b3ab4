package load

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"tunneldirector/director/agent"
	"tunneldirector/realserver/terminator"
)

// A world is a host whose counters a test turns.
type world struct {
	t    *testing.T
	m    *Meter
	r    reading
	work terminator.Work
	up   uint32 // tunnels
}

func newWorld(t *testing.T, o Options, cores int) *world {
	w := &world{t: t, m: New(o), r: reading{at: time.Unix(1000, 0), cores: map[int]times{}, processes: map[taskID]task{}, threads: map[taskID]threadNow{}}}
	for i := range cores {
		w.r.cores[i] = times{}
	}
	return w
}

// process adds one with so many threads, which start on core 0.
func (w *world) process(pid, threads int) {
	w.work.Processes = append(w.work.Processes, pid)
	w.r.processes[taskID{pid: pid}] = task{}
	for i := range threads {
		w.r.threads[taskID{pid: pid, tid: pid + i}] = threadNow{task: task{name: "fastd"}}
	}
}

// run lets a thread run, and wait, for shares of a core, and its core do so.
func (w *world) run(pid, tid int, d time.Duration, own, wait float64) {
	id := taskID{pid: pid, tid: tid}
	t, p, c := w.r.threads[id], w.r.processes[taskID{pid: pid}], w.r.cores[w.r.threads[id].core]
	n := uint64(own*d.Seconds()*ticks + 0.5)
	t.ticks, p.ticks, t.wait, c.total = t.ticks+n, p.ticks+n, t.wait+uint64(wait*float64(d)), c.total+n
	w.r.threads[id], w.r.processes[taskID{pid: pid}], w.r.cores[t.core] = t, p, c
}

// core lets a core serve interrupts, and the hypervisor take it.
func (w *world) core(core int, d time.Duration, interrupts, stolen float64) {
	c := w.r.cores[core]
	i, s := uint64(interrupts*d.Seconds()*ticks+0.5), uint64(stolen*d.Seconds()*ticks+0.5)
	c.interrupts, c.stolen, c.total = c.interrupts+i, c.stolen+s, c.total+i+s
	w.r.cores[core] = c
}

// sample lets time go by, in which the cores idle as far as they did nothing else.
func (w *world) sample(d time.Duration) agent.Load {
	w.r.at = w.r.at.Add(d)
	for i, c := range w.r.cores {
		was := times{}
		if n := len(w.m.host); n > 0 {
			was = w.m.host[n-1].cores[i]
		}
		idle := uint64(d.Seconds()*ticks) - min(uint64(d.Seconds()*ticks), c.total-was.total)
		c.idle, c.total = c.idle+idle, c.total+idle
		w.r.cores[i] = c
	}
	r := w.r
	r.cores, r.processes, r.threads = maps.Clone(r.cores), maps.Clone(r.processes), maps.Clone(r.threads)
	return w.m.fold(r, w.work, w.up)
}

// seconds samples each second, after work is done for it.
func (w *world) seconds(n int, work func()) (l agent.Load) {
	for range n {
		if work != nil {
			work()
		}
		l = w.sample(time.Second)
	}
	return l
}

func part(t *testing.T, l agent.Load, name string) agent.Part {
	t.Helper()
	for _, p := range l.Parts {
		if p.Name == name {
			return p
		}
	}
	t.Fatalf("no part %q in %+v", name, l.Parts)
	return agent.Part{}
}

func (w *world) want(l agent.Load, name string, permille uint32, full bool, says string) {
	w.t.Helper()
	p := part(w.t, l, name)
	if d := int(p.Permille) - int(permille); d < -5 || d > 5 || l.Full != full || !strings.Contains(p.Says, says) {
		w.t.Errorf("%s at %d ‰, full %t: %s; want %d ‰, full %t, %q", name, p.Permille, l.Full, p.Says, permille, full, says)
	}
	if l.Permille < p.Permille {
		w.t.Errorf("the figure %d ‰ is below its part %s, %d ‰", l.Permille, name, p.Permille)
	}
}

func TestOneThread(t *testing.T) {
	for _, tt := range []struct {
		name                   string
		own, wait, irq, stolen float64
		permille               uint32
		full                   bool
		says                   string
	}{
		{"idle", 0, 0, 0, 0, 0, false, "0 % of a core"},
		{"half", 0.4, 0, 0, 0, 500, false, "40 % of a core, and kept from it for 0 %, ceiling 80 %"},
		{"at its ceiling, before its core's end", 0.82, 0, 0, 0, 1025, true, "82 % of a core"},
		{"another thread has its core for the other half", 0.5, 0.5, 0, 0, 1250, true, "50 % of a core, and kept from it for 50 %"},
		{"interrupts have it", 0.4, 0, 0.45, 0, 1062, true, "40 % of a core, and kept from it for 45 %"},
		{"the hypervisor has it", 0.4, 0, 0, 0.45, 1062, true, "kept from it for 45 %"},
		{"waiting behind interrupts counts once", 0.3, 0.4, 0.4, 0, 875, false, "30 % of a core, and kept from it for 40 %"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, Options{}, 4)
			w.process(812, 1)
			l := w.seconds(6, func() {
				w.run(812, 812, time.Second, tt.own, tt.wait)
				w.core(0, time.Second, tt.irq, tt.stolen)
			})
			w.want(l, "cpu", tt.permille, tt.full || tt.stolen > 0, tt.says)
		})
	}
}

// Without a ceiling nobody is full by what goes on on the cores.
func TestWithoutCeiling(t *testing.T) {
	w := newWorld(t, Options{CPUCeiling: -1, Capacity: 100}, 1)
	w.process(812, 1)
	l := w.seconds(6, func() {
		w.run(812, 812, time.Second, 0.5, 0.5)
		w.core(0, time.Second, 0.4, 0.5)
	})
	if l.Full || slices.ContainsFunc(l.Parts, func(p agent.Part) bool { return p.Name != "tunnels" }) {
		t.Errorf("%+v, want the tunnels alone, and not full", l)
	}
}

// Some kernels charge interrupts to the thread that they interrupt, and count them as interrupts too.
func TestInterruptsCountOnce(t *testing.T) {
	w := newWorld(t, Options{}, 1)
	w.process(812, 1)
	l := w.seconds(6, func() {
		w.run(812, 812, time.Second, 0.6, 0)
		c := w.r.cores[0]
		c.interrupts += 30
		w.r.cores[0] = c
	})
	w.want(l, "cpu", 750, false, "60 % of a core, and kept from it for 0 %")
}

// A thread that sleeps is kept from nothing by what the core does where it last ran.
func TestSleepingThread(t *testing.T) {
	w := newWorld(t, Options{}, 2)
	w.process(812, 1)
	w.want(w.seconds(6, func() { w.core(0, time.Second, 0.6, 0) }), "cpu", 0, false, "0 % of a core, and kept from it for 0 %")
}

func TestManyThreads(t *testing.T) {
	for _, tt := range []struct {
		name     string
		threads  int // as the terminator says
		allowed  int
		run      []float64
		wait     float64
		permille uint32
		says     string
	}{
		{"all cores", 0, 0, []float64{0.4, 0.4, 0.4, 0.4}, 0, 500, "4 threads: 1.60 cores, and waited for 0.00, of 4"},
		{"it can use two", 2, 0, []float64{0.4, 0.4, 0.4, 0.4}, 0, 1000, "of 2"},
		{"it may use two", 0, 2, []float64{0.4, 0.4, 0.4, 0.4}, 0, 1000, "of 2"},
		{"fewer threads than cores", 0, 0, []float64{0.4, 0.4}, 0, 500, "of 2"},
		{"waiting is wanting", 0, 0, []float64{0.5, 0.5}, 0.5, 1250, "waited for 1.00, of 2"},
		{"one does all", 0, 0, []float64{0.85, 0.01, 0.01}, 0, 1062, "thread 100 (fastd): 85 %"},
		{"it says that it has one thread", 1, 0, []float64{0.6, 0.5}, 0, 750, "thread 100 (fastd): 60 %"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, Options{}, 4)
			w.process(100, len(tt.run))
			w.work.Threads, w.r.allowed = tt.threads, tt.allowed
			l := w.seconds(6, func() {
				for i, own := range tt.run {
					w.run(100, 100+i, time.Second, own, tt.wait)
				}
			})
			w.want(l, "cpu", tt.permille, tt.permille >= 1000, tt.says)
		})
	}
}

func TestProcessRestarted(t *testing.T) {
	w := newWorld(t, Options{}, 1)
	w.process(812, 1)
	w.seconds(6, func() { w.run(812, 812, time.Second, 0.5, 0) })
	delete(w.r.threads, taskID{pid: 812, tid: 812})
	delete(w.r.processes, taskID{pid: 812})
	w.want(w.sample(time.Second), "cpu", 0, false, "no process")
	// The same pid, which in its first second used more than the one before in its life.
	w.r.processes[taskID{pid: 812, start: 99}] = task{ticks: 5000}
	w.r.threads[taskID{pid: 812, tid: 812, start: 99}] = threadNow{task: task{name: "fastd", ticks: 5000}}
	w.want(w.sample(time.Second), "cpu", 0, false, "0 % of a core")
	if len(w.m.threads) != 1 || len(w.m.processes) != 1 {
		t.Errorf("%d threads and %d processes are remembered, one is there", len(w.m.threads), len(w.m.processes))
	}
}

func TestKernelTerminator(t *testing.T) {
	w := newWorld(t, Options{CPUCeiling: 0.5}, 4)
	l := w.seconds(6, func() { w.core(2, time.Second, 0.4, 0) })
	w.want(l, "softirq", 800, false, "core 2 spends 40 % on interrupts, ceiling 50 %")
	w.want(l, "cores", 200, false, "4 cores are busy for 10 %")
	for _, p := range l.Parts {
		if p.Name == "cpu" || p.Name == "steal" || p.Name == "tunnels" || strings.HasPrefix(p.Name, "receive") || p.Name == "tun drops" {
			t.Errorf("part %+v of a terminator that has nothing of the kind", p)
		}
	}
	l = w.seconds(6, func() { w.core(2, time.Second, 0.55, 0) })
	w.want(l, "softirq", 1100, true, "core 2")
}

// One second is not five.
func TestFirstSeconds(t *testing.T) {
	w := newWorld(t, Options{}, 2)
	w.process(812, 1)
	w.r.threads[taskID{pid: 812, tid: 812}] = threadNow{task: task{core: 1}}
	busy := func() { w.core(0, time.Second, 1, 0); w.run(812, 812, time.Second, 1, 0) }
	w.sample(time.Second)
	l := w.seconds(1, busy)
	w.want(l, "softirq", 250, false, "core 0 spends 20 % on interrupts")
	w.want(l, "cpu", 250, false, "20 % of a core")
	l = w.seconds(4, busy)
	w.want(l, "softirq", 1250, true, "100 %")
	w.want(l, "cpu", 1250, true, "100 %")
}

func TestSteal(t *testing.T) {
	w := newWorld(t, Options{}, 2)
	l := w.seconds(6, func() { w.core(0, time.Second, 0, 0.2) })
	w.want(l, "steal", 500, false, "takes 10.0 % of the cores, limit 20 %")
}

func TestCoresComeAndGo(t *testing.T) {
	w := newWorld(t, Options{}, 2)
	w.seconds(6, nil)
	w.r.cores[5] = times{total: 1000, interrupts: 1000}
	w.want(w.sample(time.Second), "softirq", 0, false, "core 0")
	delete(w.r.cores, 0)
	l := w.seconds(6, func() { w.core(5, time.Second, 0.4, 0) })
	w.want(l, "softirq", 500, false, "core 5")
}

func TestReceiveDrops(t *testing.T) {
	vip := netip.MustParseAddrPort("192.0.2.1:4500")
	w := newWorld(t, Options{}, 1)
	w.work.Sockets = []netip.AddrPort{vip, vip}
	w.want(w.sample(time.Second), "receive drops", 0, false, "no socket")
	w.r.sockets = []socket{{cookie: 1, local: vip, buffer: 1000, drops: 4_000_000_000}, {cookie: 2, local: netip.MustParseAddrPort("192.0.2.9:4500"), buffer: 1000}}
	w.want(w.sample(time.Second), "receive drops", 0, false, "socket 192.0.2.1:4500 dropped 0.0 datagrams/s, limit 5/s")
	drop := func(n uint32) func() {
		return func() { w.r.sockets[0].drops += n; w.r.sockets[1].drops += 1000 } // the other socket is not its own
	}
	w.want(w.seconds(6, drop(2)), "receive drops", 400, false, "2.0 datagrams/s")
	w.want(w.seconds(6, drop(6)), "receive drops", 1200, true, "6.0 datagrams/s")
	w.r.sockets[0] = socket{cookie: 3, local: vip, buffer: 1000} // made anew
	w.want(w.sample(time.Second), "receive drops", 0, true, "0.0 datagrams/s")
	if len(w.m.sockets) != 1 {
		t.Errorf("%d sockets are remembered, one is its own", len(w.m.sockets))
	}
}

func TestReceiveQueue(t *testing.T) {
	vip := netip.MustParseAddrPort("192.0.2.1:4500")
	w := newWorld(t, Options{}, 1)
	w.work.Sockets = []netip.AddrPort{vip}
	w.r.sockets = []socket{{cookie: 1, local: vip, buffer: 1000, queue: 1000}}
	w.want(w.sample(time.Second), "receive queue", 0, false, "0 % of 1000 bytes")
	w.want(w.sample(time.Second), "receive queue", 400, false, "20 % of 1000 bytes on average, limit 50 %")
	w.want(w.seconds(2, nil), "receive queue", 1200, true, "60 %")
	w.r.sockets[0].queue = 250 // the kernel's delay
	w.want(w.seconds(6, nil), "receive queue", 500, true, "25 %")
	w.r.sockets[0].queue = 0
	w.want(w.seconds(6, nil), "receive queue", 0, true, "0 %")
}

func TestTunDrops(t *testing.T) {
	w := newWorld(t, Options{}, 1)
	w.work.Devices = []string{"tun0", "wg0", "tun1"}
	w.r.devices = []device{{name: "tun0", index: 2, tun: true}, {name: "wg0", index: 3}}
	l := w.seconds(6, func() { w.r.devices[0].drops += 6; w.r.devices[1].drops += 100 })
	w.want(l, "tun drops", 1200, true, "device tun0 dropped 6.0 packets/s that were not read in time, limit 5/s")
	w.r.devices[0] = device{name: "tun0", index: 9, tun: true, drops: 1000} // made anew
	w.want(w.sample(time.Second), "tun drops", 0, true, "0.0 packets/s")
	w.work.Devices, w.r.devices = []string{"wg0"}, w.r.devices[1:]
	for _, p := range w.sample(time.Second).Parts {
		if p.Name == "tun drops" {
			t.Errorf("%+v, where there is no TUN device", p)
		}
	}
	if len(w.m.devices) != 1 {
		t.Errorf("%d devices are remembered, one is its own", len(w.m.devices))
	}
}

func TestHysteresis(t *testing.T) {
	w := newWorld(t, Options{Capacity: 100}, 1)
	for i, s := range []struct {
		up      uint32
		seconds int
		full    bool
	}{
		{99, 1, false}, {100, 1, true}, {99, 100, true}, {86, 100, true}, // not enough
		{85, 29, true}, {86, 1, true}, {85, 29, true}, {85, 3, false}, // for half a minute
		{99, 100, false}, {120, 1, true}, {0, 29, true}, {0, 2, false},
	} {
		w.up = s.up
		l := w.seconds(s.seconds, nil)
		if l.Full != s.full || l.Permille != s.up*10 {
			t.Errorf("step %d, %d tunnels for %d s: full %t at %d ‰, want %t at %d", i, s.up, s.seconds, l.Full, l.Permille, s.full, s.up*10)
		}
	}
	w.want(w.sample(time.Second), "tunnels", 0, false, "0 established of 100")
}

func TestClockJumps(t *testing.T) {
	w := newWorld(t, Options{Capacity: 100}, 1)
	w.process(812, 1)
	w.up = 100
	half := func() { w.run(812, 812, time.Second, 0.4, 0) }
	w.seconds(6, half)
	w.up = 0
	w.r.at = w.r.at.Add(-24 * time.Hour)
	half()
	w.want(w.sample(time.Second), "cpu", 0, true, "0 % of a core")
	w.want(w.seconds(1, half), "cpu", 100, true, "8 % of a core")
	w.want(w.seconds(5, half), "cpu", 500, true, "40 % of a core")
	w.want(w.seconds(30, half), "cpu", 500, false, "40 % of a core") // a day is not waited for
	w.r.at = w.r.at.Add(24 * time.Hour)
	half()
	w.sample(time.Second)
	w.want(w.seconds(6, half), "cpu", 500, false, "40 % of a core")
}

func TestDevicesInTurn(t *testing.T) {
	var work terminator.Work
	for i := range 150 {
		work.Devices = append(work.Devices, fmt.Sprintf("tun%d", i))
	}
	m := New(Options{})
	seen := map[string]int{}
	for range 75 { // 64 of 150 each: all are read 32 times
		p := m.part(work)
		if len(p.Devices) != atOnce {
			t.Fatalf("%d devices at once", len(p.Devices))
		}
		for _, name := range p.Devices {
			seen[name]++
		}
	}
	for _, name := range work.Devices {
		if seen[name] != 32 {
			t.Errorf("device %s was read %d times, want 32", name, seen[name])
		}
	}
	work.Devices = work.Devices[:3]
	if p := m.part(work); len(p.Devices) != 3 {
		t.Errorf("%d devices of 3", len(p.Devices))
	}
}

func TestPermille(t *testing.T) {
	for _, tt := range []struct {
		share, limit float64
		want         uint32
	}{{0.4, 0.8, 500}, {-1, 1, 0}, {1, 0, most}, {1e9, 1, most}} {
		if got := permille(tt.share, tt.limit); got != tt.want {
			t.Errorf("%v of %v: %d ‰, want %d", tt.share, tt.limit, got, tt.want)
		}
	}
}
