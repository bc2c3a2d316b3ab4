package load

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"tunneldirector/director/agent"
)

const (
	dropLimit = 5.0 // packets a second
	// fillLimit is how full a receive buffer may be on average. A socket that is read in time is all but empty at most samples; the
	// kernel gives room back late, up to a quarter of the buffer (net/ipv4/udp.c, udp_rmem_release), which is not to count.
	fillLimit = 0.5
)

// A device is a network device's counter.
type device struct {
	name  string
	index int
	tun   bool
	drops uint64
}

type socketLoad struct {
	drops counter
	fill  average
}

type deviceLoad struct {
	index int
	tun   bool
	drops counter
}

// receive is the worst of a terminator's sockets: what it drops, and how full its buffer is.
func (m *Meter) receive(r reading, at []netip.AddrPort) []agent.Part {
	if len(at) == 0 {
		return nil
	}
	drops := agent.Part{Name: "receive drops", Says: "no socket"}
	queue := agent.Part{Name: "receive queue", Says: "no socket"}
	worst, fullest := -1.0, -1.0
	seen := map[uint64]bool{}
	for _, address := range at {
		for _, s := range receivers(r.sockets, address) {
			if seen[s.cookie] {
				continue
			}
			seen[s.cookie] = true
			l := m.addSocket(r, s)
			if rate := l.drops.rate(); rate > worst {
				worst = rate
				drops.Permille = permille(rate, dropLimit)
				drops.Says = fmt.Sprintf("socket %s dropped %.1f datagrams/s, limit %.0f/s", s.local, rate, dropLimit)
			}
			if fill := l.fill.mean(); fill > fullest {
				fullest = fill
				queue.Permille = permille(fill, fillLimit)
				queue.Says = fmt.Sprintf("socket %s: %.0f %% of %d bytes on average, limit %.0f %%", s.local, 100*fill, s.buffer, 100*fillLimit)
			}
		}
	}
	for cookie := range m.sockets {
		if !seen[cookie] {
			delete(m.sockets, cookie)
		}
	}
	return []agent.Part{drops, queue}
}

func (m *Meter) addSocket(r reading, s socket) *socketLoad {
	l := m.sockets[s.cookie]
	if l == nil {
		l = new(socketLoad)
		m.sockets[s.cookie] = l
	}
	l.drops.add(r.at, uint64(s.drops))
	l.fill.add(r.at, float64(s.queue)/float64(s.buffer))
	return l
}

// queues is the worst of a terminator's TUN devices.
func (m *Meter) queues(r reading, names []string) []agent.Part {
	for _, d := range r.devices {
		l := m.devices[d.name]
		if l == nil || l.index != d.index {
			l = &deviceLoad{index: d.index, tun: d.tun}
			m.devices[d.name] = l
		}
		l.drops.add(r.at, d.drops)
	}
	if len(m.devices) > len(names) {
		maps.DeleteFunc(m.devices, func(name string, _ *deviceLoad) bool { return !slices.Contains(names, name) })
	}
	p, worst := agent.Part{Name: "tun drops"}, -1.0
	for _, name := range names {
		l := m.devices[name]
		if l == nil || !l.tun {
			continue
		}
		if rate := l.drops.rate(); rate > worst {
			worst = rate
			p.Permille = permille(rate, dropLimit)
			p.Says = fmt.Sprintf("device %s dropped %.1f packets/s that were not read in time, limit %.0f/s", name, rate, dropLimit)
		}
	}
	if worst < 0 {
		return nil
	}
	return []agent.Part{p}
}
