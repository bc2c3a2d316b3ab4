package load

import (
	"fmt"
	"time"

	"tunneldirector/director/agent"
)

// serial is the share of all work from which on a thread is said to do it alone.
const serial = 0.9

// A taskID names a process (tid 0) or a thread. Ids are used again, with their start they are one of a kind.
type taskID struct {
	pid, tid int
	start    uint64
}

// threadNow is what a thread stands at.
type threadNow struct {
	task
	wait uint64 // nanoseconds that it waited for a core
}

// A thread is what is known of one over the span, all in nanoseconds.
type thread struct {
	name  string
	last  threadNow
	own   counter // on a core
	wait  counter // ready, and not on one
	taken counter // of its core, by interrupts and the hypervisor
}

// demand is what the thread wanted of a core: what it had and what it was kept from.
func (t *thread) demand() (own, kept float64) {
	own = min(1, t.own.rate()/1e9)
	return own, min(1-own, max(t.wait.rate(), t.taken.rate())/1e9) // waiting also is behind interrupts: not both
}

// addTasks notes what processes and threads stand at, and forgets those that are gone.
func (m *Meter) addTasks(r reading) {
	for id, p := range r.processes {
		c := m.processes[id]
		if c == nil {
			c = new(counter)
			m.processes[id] = c
		}
		c.add(r.at, p.ticks)
	}
	for id, now := range r.threads {
		t := m.threads[id]
		if t == nil {
			t = &thread{name: now.name, last: now}
			m.threads[id] = t
		}
		t.own.add(r.at, now.ticks*(uint64(time.Second)/ticks))
		t.wait.add(r.at, now.wait)
		t.taken.add(r.at, t.total()+m.taken(t, now))
		t.last = now
	}
	for id := range m.processes {
		if _, ok := r.processes[id]; !ok {
			delete(m.processes, id)
		}
	}
	for id := range m.threads {
		if _, ok := r.threads[id]; !ok {
			delete(m.threads, id)
		}
	}
}

// total is what was taken from the thread so far.
func (t *thread) total() uint64 {
	if len(t.taken) == 0 {
		return 0
	}
	return t.taken[len(t.taken)-1].value
}

// taken is what interrupts and the hypervisor took of the thread's core since the last sample, if it ran at all. Some kernels
// charge an interrupt to the thread that it interrupts, so it is at most what the thread leaves of the core's busy time.
func (m *Meter) taken(t *thread, now threadNow) uint64 {
	core, elapsed := m.lately(now.core)
	if core.total == 0 || now.ticks <= t.last.ticks {
		return 0
	}
	own := min(1, float64(now.ticks-t.last.ticks)/ticks/elapsed.Seconds())
	share := min(core.of(core.interrupts+core.stolen), core.busy()-own)
	return uint64(max(0, share) * float64(elapsed))
}

// cpu is how near the processes are to the ceiling of what they can use.
func (m *Meter) cpu(threads, allowed int) agent.Part {
	var total, waiting, highest, kept float64
	var busiest taskID
	var name string
	for _, c := range m.processes {
		total += c.rate() / ticks
	}
	for id, t := range m.threads {
		own, late := t.demand()
		waiting += min(1-own, t.wait.rate()/1e9)
		if own+late > highest+kept || busiest.pid == 0 {
			highest, kept, busiest, name = own, late, id, t.name
		}
	}
	p := agent.Part{Name: "cpu"}
	if busiest.pid == 0 {
		p.Says = "no process"
		return p
	}
	if threads == 1 || len(m.threads) == 1 || highest >= serial*total && highest > 0 {
		p.Permille = permille(highest+kept, m.o.CPUCeiling)
		p.Says = fmt.Sprintf("thread %d (%s): %.0f %% of a core, and kept from it for %.0f %%, ceiling %.0f %%", busiest.tid, name, 100*highest, 100*kept, 100*m.o.CPUCeiling)
		return p
	}
	cores := m.usable(threads, allowed)
	p.Permille = permille((total+waiting)/float64(cores), m.o.CPUCeiling)
	p.Says = fmt.Sprintf("%d threads: %.2f cores, and waited for %.2f, of %d, ceiling %.0f %%", len(m.threads), total, waiting, cores, 100*m.o.CPUCeiling)
	return p
}

// usable is how many cores the processes can use at once.
func (m *Meter) usable(threads, allowed int) int {
	n := len(m.threads)
	for _, limit := range []int{threads, allowed, m.cores()} {
		if limit > 0 {
			n = min(n, limit)
		}
	}
	return max(1, n)
}
