package load

import (
	"fmt"
	"time"

	"tunneldirector/director/agent"
)

// hostAt is what all cores stood at.
type hostAt struct {
	at    time.Time
	cores map[int]times
}

func (m *Meter) addHost(r reading) {
	if len(r.cores) == 0 {
		return
	}
	if n := len(m.host); n > 0 && !r.at.After(m.host[n-1].at) {
		m.host = m.host[:0]
	}
	m.host = trim(append(m.host, hostAt{r.at, r.cores}), r.at, func(h hostAt) time.Time { return h.at })
}

// cores is how many cores the host has.
func (m *Meter) cores() int {
	if len(m.host) == 0 {
		return 0
	}
	return len(m.host[len(m.host)-1].cores)
}

// did is what each core did over the span, before the first sample nothing; a core that came meanwhile is not there.
func (m *Meter) did() map[int]times {
	if len(m.host) < 2 {
		return nil
	}
	first, last := m.host[0], m.host[len(m.host)-1]
	before := uint64(max(0, span-last.at.Sub(first.at)).Seconds() * ticks)
	out := make(map[int]times, len(last.cores))
	for core, t := range last.cores {
		if was, ok := first.cores[core]; ok {
			t = t.since(was)
			t.idle, t.total = t.idle+before, t.total+before
			out[core] = t
		}
	}
	return out
}

// lately is what a core did since the sample before.
func (m *Meter) lately(core int) (times, time.Duration) {
	n := len(m.host)
	if n < 2 {
		return times{}, 0
	}
	was, ok := m.host[n-2].cores[core]
	if !ok {
		return times{}, 0
	}
	return m.host[n-1].cores[core].since(was), m.host[n-1].at.Sub(m.host[n-2].at)
}

// softirq is the core that spends most on interrupts. Which cores a terminator's packets come in at is the NIC's affair.
func (m *Meter) softirq() agent.Part {
	busiest, share := 0, -1.0
	for core, t := range m.did() {
		if s := t.of(t.interrupts); s > share || s == share && core < busiest {
			busiest, share = core, s
		}
	}
	share = max(0, share)
	return agent.Part{Name: "softirq", Permille: permille(share, m.o.CPUCeiling),
		Says: fmt.Sprintf("core %d spends %.0f %% on interrupts, ceiling %.0f %%", busiest, 100*share, 100*m.o.CPUCeiling)}
}

// allCores is how busy the host is.
func (m *Meter) allCores() agent.Part {
	var all times
	for _, t := range m.did() {
		all.total += t.total
		all.idle += t.idle
	}
	return agent.Part{Name: "cores", Permille: permille(all.busy(), m.o.CPUCeiling),
		Says: fmt.Sprintf("%d cores are busy for %.0f %%, ceiling %.0f %%", m.cores(), 100*all.busy(), 100*m.o.CPUCeiling)}
}

// steal is what the hypervisor takes; no part where it takes nothing.
func (m *Meter) steal() []agent.Part {
	var all times
	for _, t := range m.did() {
		all.total += t.total
		all.stolen += t.stolen
	}
	if all.stolen == 0 {
		return nil
	}
	share, limit := all.of(all.stolen), max(0.01, 1-m.o.CPUCeiling)
	return []agent.Part{{Name: "steal", Permille: permille(share, limit),
		Says: fmt.Sprintf("the hypervisor takes %.1f %% of the cores, limit %.0f %%", 100*share, 100*limit)}}
}

// count is the tunnels against the capacity.
func (m *Meter) count(tunnels uint32) []agent.Part {
	if m.o.Capacity == 0 {
		return nil
	}
	return []agent.Part{{Name: "tunnels", Permille: permille(float64(tunnels), float64(m.o.Capacity)),
		Says: fmt.Sprintf("%d established of %d", tunnels, m.o.Capacity)}}
}
