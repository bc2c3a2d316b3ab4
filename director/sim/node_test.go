package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"tunneldirector/affinity"
	"tunneldirector/cluster"
	"tunneldirector/cluster/beat"
	"tunneldirector/cluster/replica"
	"tunneldirector/director"
)

// A node is a director's machine: what is there whether its process runs or not.
type node struct {
	w       *world
	name    string
	member  cluster.Member
	kernel  *kernel
	disk    *disk
	clock   *clock
	proc    *process // nil: it does not run
	left    bool     // for good
	leaving bool     // it is about to
	memory  *memory
	aside   atomic.Bool // its disk is an old copy, and is to be moved aside
}

// A process is one run of a director. After crash nothing that it still does has any effect.
type process struct {
	n      *node
	d      *director.Director
	probes *prober
	peers  *peers
	mount  *mounted
	boxes  []*datagrams
	dead   atomic.Bool
	cancel context.CancelFunc
	done   chan struct{}
	ended  error // of the loop; after done

	mu      sync.Mutex
	streams []*stream
}

// preempt is how long a preferred holder waits that has come back.
const preempt = 2 * time.Second

// paths is how many ways there are between directors.
const paths = 2

func newMember(i, rank int) cluster.Member {
	m := cluster.Member{Name: fmt.Sprintf("d%d", i), Rank: rank, Role: cluster.RoleBoth,
		Stream: netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(200 + i)}), 7462)}
	for p := range paths {
		m.Beats = append(m.Beats, netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, byte(100 + p), byte(200 + i)}), 7464))
	}
	return m
}

func (w *world) newNode(m cluster.Member) *node {
	w.network.attach(m.Name, m.Beats[0].Addr(), m.Beats[1].Addr())
	n := &node{w: w, name: m.Name, member: m, kernel: newKernel(), clock: newClock(), memory: newMemory()}
	n.disk = w.emptyDisk(n)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.nodes = append(w.nodes, n)
	return n
}

// put puts another disk into a machine.
func (n *node) put(d *disk) {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	n.disk = d
}

// quit takes it out for good.
func (n *node) quit() {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	n.left = true
}

// ring is the directors' common key.
type ring struct{}

func (ring) Keys() [][]byte { return [][]byte{make([]byte, 16)} }

// start runs the director from what is on its disk.
func (n *node) start() error {
	p := &process{n: n, done: make(chan struct{}), probes: &prober{w: n.w, node: n.name, known: map[string]*probed{}}}
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	p.mount = n.disk.open()
	n.proc = p
	stored, err := director.Load(p.mount)
	if err != nil {
		return fmt.Errorf("start %s: %w", n.name, err)
	}
	var conns []net.PacketConn
	for _, a := range n.member.Beats {
		b := n.w.network.listenPacket(a)
		p.boxes = append(p.boxes, b)
		conns = append(conns, b)
	}
	log := n.w.log.With("director", n.name)
	b := beat.New(beat.Options{Self: n.member, Conns: conns, Ring: ring{}, Now: n.clock.read, Sleep: time.Sleep, Log: slog.New(slog.DiscardHandler)})
	b.SetMembers(n.w.members())
	p.peers = newPeers(p, b, log)
	g := &grip{n.kernel, p}
	opened := make(chan error, 1)
	go func() {
		d, err := director.Open(ctx, stored, director.Options{Name: n.name, Rank: n.member.Rank, Peers: p.peers, Expects: true, PreemptAfter: preempt,
			Plane: g, PlaneKind: "mem", Host: g, Prober: p.probes, Log: log, Now: n.clock.read})
		p.d = d
		opened <- err
	}()
	if err := <-opened; err != nil {
		return fmt.Errorf("start %s: %w", n.name, err)
	}
	go p.run(ctx)
	return nil
}

// run is the life of a process.
func (p *process) run(ctx context.Context) {
	defer close(p.done)
	var all sync.WaitGroup
	all.Go(func() { _ = p.peers.beater.Run(ctx) })
	all.Go(func() { p.probes.run(ctx, p.d.Report) })
	p.n.w.network.listen(p.n.member.Stream, func(c *stream, peer string) {
		if p.take(c) {
			_ = p.peers.replica.Accept(ctx, c, peer)
		}
		c.Close()
	})
	all.Go(func() { _ = p.peers.replica.Run(ctx) })
	all.Go(func() { p.peers.run(ctx) })
	p.ended = p.d.Run(ctx)
	if p.ended != nil { // as cmd/director does: the process ends
		p.stop(false)
	}
	all.Wait()
}

// take notes a connection, so that it ends with the process.
func (p *process) take(c *stream) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dead.Load() {
		return false
	}
	p.streams = append(p.streams, c)
	return true
}

// stop ends a process at once; lost: the whole machine has lost power, and nobody is told.
func (p *process) stop(lost bool) {
	p.mu.Lock()
	if p.dead.Swap(true) {
		p.mu.Unlock()
		return
	}
	streams := p.streams
	p.mu.Unlock()
	n := p.n
	n.disk.crash()
	n.kernel.mu.Lock()
	n.kernel.ended = time.Now()
	n.kernel.mu.Unlock()
	n.w.network.shut(n.member.Stream)
	for _, b := range p.boxes {
		b.Close()
	}
	for _, c := range streams {
		if lost {
			c.lose()
		} else {
			c.Close()
		}
	}
	p.cancel()
}

// crash ends the process and waits until nothing of it is left.
func (n *node) crash(lost bool) {
	p := n.proc
	if p == nil {
		return
	}
	n.proc = nil
	p.stop(lost)
	<-p.done
}

// running tells whether there is a process that acts.
func (n *node) running() bool { return n.proc != nil && !n.proc.dead.Load() }

// peers is how a director's loop speaks with the others: heartbeats and streams.
type peers struct {
	p       *process
	beater  *beat.Beater
	replica *replica.Replica

	mu   sync.Mutex
	last cluster.Beat
}

var _ director.Peers = (*peers)(nil)

func newPeers(p *process, b *beat.Beater, log *slog.Logger) *peers {
	id, _ := p.mount.Identity()
	return &peers{p: p, beater: b, replica: replica.New(replica.Options{
		Self: p.n.name, StoreID: id, Boot: p.mount.boot, Local: local{p}, Dial: p.dial, Memory: p.n.memory, Log: log, Now: p.n.clock.read,
		OldCopy: func(string) { p.n.aside.Store(true) },
	})}
}

// local is the loop as the streams see it: it is not there yet when they are made.
type local struct{ p *process }

func (l local) Table() *affinity.Table   { return l.p.d.Table() }
func (l local) Digest() *affinity.Digest { return l.p.d.Digest() }
func (l local) Merge(ctx context.Context, from string, records []affinity.Change) error {
	return l.p.d.Merge(ctx, from, records)
}
func (l local) Answer(ctx context.Context, from string, question []byte) ([]byte, error) {
	return l.p.d.Answer(ctx, from, question)
}

// A memory is what a director remembers of the others' disks.
type memory struct {
	mu     sync.Mutex
	stores map[string]string
	boots  map[string]uint64
}

func newMemory() *memory { return &memory{stores: map[string]string{}, boots: map[string]uint64{}} }

func (m *memory) Recall(director string) (storeID string, boot uint64, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	storeID, ok = m.stores[director]
	return storeID, m.boots[director], ok
}

func (m *memory) Remember(director, storeID string, boot uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stores[director], m.boots[director] = storeID, boot
}

// run tells the streams, too, who is there.
func (o *peers) run(ctx context.Context) {
	t := time.NewTicker(200 * time.Millisecond)
	defer t.Stop()
	for {
		o.replica.SetView(o.beater.View())
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// dial is for streams to others.
func (p *process) dial(ctx context.Context, m cluster.Member) (net.Conn, error) {
	c, err := p.n.w.network.dial(ctx, netip.AddrPortFrom(p.n.member.Stream.Addr(), 0), m.Stream)
	if err != nil {
		return nil, err
	}
	if !p.take(c) {
		c.Close()
		return nil, errGone
	}
	return c, nil
}

func (o *peers) View() cluster.View       { return o.beater.View() }
func (o *peers) Changed() <-chan struct{} { return o.beater.Changed() }

func (o *peers) Say(b cluster.Beat) {
	o.mu.Lock()
	o.last = b
	o.mu.Unlock()
	o.beater.Say(b)
}

// said is the loop's last word on itself.
func (o *peers) said() cluster.Beat {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.last
}

func (o *peers) Wrote(changes []affinity.Change, revision uint64) { o.replica.Wrote(changes, revision) }
func (o *peers) Synced() (withReady, withAll bool)                { return o.replica.Synced() }

func (o *peers) Streams() []string { return nil }
func (o *peers) Settled() bool     { return o.replica.Settled() }
func (o *peers) Await(ctx context.Context, revision uint64, n int) []string {
	return o.replica.Await(ctx, revision, n)
}

func (o *peers) Ask(ctx context.Context, name string, question []byte) ([]byte, error) {
	return o.replica.Ask(ctx, name, question)
}

// refused tells whether an error is a director's answer, so that nothing was changed.
func refused(err error) bool {
	var r *affinity.Refusal
	return errors.As(err, &r)
}
