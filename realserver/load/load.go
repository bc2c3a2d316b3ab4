package load

import (
	"context"
	"time"

	"tunneldirector/director/agent"
	"tunneldirector/realserver/space"
	"tunneldirector/realserver/terminator"
)

// calm is how long all has to be below Options.OpenAt until a terminator takes new tunnels again.
const calm = 30 * time.Second

// most is the highest figure; more says no more.
const most = 10_000

// Options of a Meter. The zero value of each field but Capacity is a default.
type Options struct {
	Space      space.Space
	CPUCeiling float64 // of a core, as a share of it; 0: 0.80; negative: none, the cores' time is no part then
	Capacity   uint32  // tunnels; 0: not limited
	FullAt     uint32  // ‰; 0: 1000
	OpenAt     uint32  // ‰, at most FullAt; 0: 850
	Now        func() time.Time
}

// A Meter measures one terminator. It is used by one goroutine.
type Meter struct {
	o         Options
	host      []hostAt
	processes map[taskID]*counter // ticks
	threads   map[taskID]*thread
	sockets   map[uint64]*socketLoad // by cookie
	devices   map[string]*deviceLoad
	turn      int // of the devices, where they are too many for one sample
	full      bool
	above     time.Time // when a part was last above OpenAt
}

// New makes a Meter. Rates are complete five seconds after its first sample.
func New(o Options) *Meter {
	if o.CPUCeiling == 0 {
		o.CPUCeiling = 0.80
	}
	if o.FullAt == 0 {
		o.FullAt = 1000
	}
	if o.OpenAt == 0 {
		o.OpenAt = 850
	}
	o.OpenAt = min(o.OpenAt, o.FullAt)
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Meter{o: o, processes: map[taskID]*counter{}, threads: map[taskID]*thread{}, sockets: map[uint64]*socketLoad{}, devices: map[string]*deviceLoad{}}
}

// Sample measures what a terminator works with, and with how many established tunnels. It is called about once a second, and takes
// some microseconds for each thread and device, and some hundred for each port. What cannot be read is an error, and the Load is of
// the rest. What is gone meanwhile, or not there yet, is none: a process that died is a matter of health.
func (m *Meter) Sample(ctx context.Context, work terminator.Work, tunnels uint32) (agent.Load, error) {
	r, err := read(ctx, m.o.Space, m.part(work), m.threads)
	r.at = m.o.Now()
	return m.fold(r, work, tunnels), err
}

// atOnce is how many devices a sample reads: fastd may have one for each site.
const atOnce = 64

// part is work with the devices that have their turn.
func (m *Meter) part(work terminator.Work) terminator.Work {
	n := len(work.Devices)
	if n <= atOnce {
		return work
	}
	all := work.Devices
	work.Devices = make([]string, atOnce)
	for i := range work.Devices {
		work.Devices[i] = all[(m.turn+i)%n]
	}
	m.turn = (m.turn + atOnce) % n
	return work
}

// A reading is what the kernel tells at one moment.
type reading struct {
	at        time.Time
	cores     map[int]times
	allowed   int // cores that the processes may use; 0: not known
	processes map[taskID]task
	threads   map[taskID]threadNow
	sockets   []socket
	devices   []device
}

// fold is the arithmetic: one reading more, and what all together come to.
func (m *Meter) fold(r reading, work terminator.Work, tunnels uint32) agent.Load {
	m.addHost(r)
	m.addTasks(r)
	parts := m.time(r, work)
	parts = append(parts, m.receive(r, work.Sockets)...)
	parts = append(parts, m.queues(r, work.Devices)...)
	parts = append(parts, m.count(tunnels)...)
	return m.sum(r.at, parts)
}

// time is the parts that are about the cores' time.
func (m *Meter) time(r reading, work terminator.Work) (parts []agent.Part) {
	switch {
	case m.o.CPUCeiling < 0:
		return nil
	case len(work.Processes) > 0:
		parts = append(parts, m.cpu(work.Threads, r.allowed))
	default:
		parts = append(parts, m.allCores())
	}
	return append(append(parts, m.softirq()), m.steal()...)
}

// sum is the highest of the parts, and whether that is full.
func (m *Meter) sum(now time.Time, parts []agent.Part) agent.Load {
	l := agent.Load{Parts: parts}
	for _, p := range parts {
		l.Permille = max(l.Permille, p.Permille)
	}
	if l.Permille > m.o.OpenAt {
		m.above = now
	}
	switch since := now.Sub(m.above); {
	case l.Permille >= m.o.FullAt:
		m.full = true
	case m.full && since < 0: // the clock went back
		m.above = now
	case m.full && l.Permille <= m.o.OpenAt && since >= calm:
		m.full = false
	}
	l.Full = m.full
	return l
}

// permille is a share of a limit.
func permille(share, limit float64) uint32 {
	if limit <= 0 {
		return most
	}
	return uint32(min(most, max(0, share/limit*1000)))
}
