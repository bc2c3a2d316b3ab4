package replica

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tunneldirector/affinity"
	"tunneldirector/cluster"
)

// A desk is a Local: a table with a lock around it, which clones it for readers.
type desk struct {
	name   string
	digest affinity.Digest

	mu       sync.Mutex // guards what is below
	table    *affinity.Table
	clock    affinity.Clock
	revision uint64
	refuse   func(affinity.Change) error // why a record is refused
	full     error                       // why nothing is taken
	merges   int
}

func newDesk(name string) *desk {
	return &desk{name: name, table: affinity.NewTable("store-"+name, 0)}
}

func (d *desk) Table() *affinity.Table {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.table
}

func (d *desk) Digest() *affinity.Digest { return &d.digest }

// commit publishes a changed clone. The mutex is held.
func (d *desk) commit(t *affinity.Table) []affinity.Change {
	log, _ := t.Take()
	if len(log) > 0 {
		d.revision++
		t.SetRevision(d.revision)
	}
	d.table = t
	d.digest.Note(log)
	return log
}

func (d *desk) Merge(_ context.Context, _ string, records []affinity.Change) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.full != nil {
		return d.full
	}
	d.merges++
	t := d.table.Clone()
	var errs []error
	for _, c := range records {
		var err error
		if d.refuse != nil {
			err = d.refuse(c)
		}
		if err == nil {
			_, err = t.Merge(c.Kind, c.Key, c.Value, 0)
		}
		if err != nil {
			errs = append(errs, &RecordError{c.Kind, c.Key, err})
		}
	}
	d.commit(t)
	return errors.Join(errs...)
}

func (d *desk) Answer(_ context.Context, from string, question []byte) ([]byte, error) {
	if string(question) == "fail" {
		return nil, errors.New("it may not be")
	}
	return fmt.Appendf(nil, "%s asks %s: %s", from, d.name, question), nil
}

// write changes the table as the director itself does.
func (d *desk) write(f func(t *affinity.Table, h func() affinity.Header)) ([]affinity.Change, uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	t := d.table.Clone()
	f(t, func() affinity.Header {
		return affinity.Header{Stamp: d.clock.Next(time.Now(), 0), Origin: d.name, Format: affinity.Format}
	})
	log := d.commit(t)
	return log, d.revision
}

func tunnelOf(h affinity.Header, n int) *affinity.Tunnel {
	return &affinity.Tunnel{Header: h, ID: fmt.Sprintf("site-%07d", n), Service: "ipsec", Owner: "nms", Created: h.Stamp, Bandwidth: 2_000_000,
		Endpoints: []affinity.Endpoint{netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, byte(n >> 16), byte(n >> 8), byte(n)}), 0)},
		Subnets:   []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}), 32)}, State: affinity.StateDown}
}

// put puts tunnels.
func (d *desk) put(from, to int) ([]affinity.Change, uint64) {
	return d.write(func(t *affinity.Table, h func() affinity.Header) {
		for n := from; n < to; n++ {
			t.PutTunnel(tunnelOf(h(), n))
		}
	})
}

// scramble makes one random change.
func (d *desk) scramble(r *rand.Rand) ([]affinity.Change, uint64) {
	return d.write(func(t *affinity.Table, h func() affinity.Header) {
		n := r.IntN(40)
		switch r.IntN(6) {
		case 0:
			if tun, ok := t.Tunnel(tunnelOf(affinity.Header{}, n).ID); ok {
				gone := *tun
				gone.Header = h()
				t.DeleteTunnel(&gone)
			}
		case 1:
			name := fmt.Sprintf("service-%d", n%5)
			t.PutService(&affinity.Service{Header: h(), Name: name, Num: uint16(n%5 + 1), VIPs: []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, byte(n)})}})
		case 2:
			head := h()
			g := affinity.GroupID(tunnelOf(affinity.Header{}, n).ID)
			if was, ok := t.Version(affinity.KindPin, string(g)); ok {
				head.Epoch = was.Epoch
			}
			head.Epoch++
			t.SetPin(affinity.Pin{Header: head, Group: g, Primary: affinity.Index(1 + r.IntN(4)), Since: head.Stamp})
		default:
			t.PutTunnel(tunnelOf(h(), n))
		}
	})
}

// A node is one director.
type node struct {
	*desk
	boot    uint64
	replica *Replica
	stop    context.CancelFunc
	done    chan struct{}
	olds    chan string
}

// A world is some directors and the connections between them, within one bubble of virtual time.
type world struct {
	t     *testing.T
	nodes map[string]*node

	local func(*desk) Local // how directors that are started from now on see their tables; nil: as they are

	mu    sync.Mutex // guards what is below
	conns map[*pipe]bool
	cut   map[[2]string]bool // dialler, listener
	known map[string]memory
	blind bool            // beats tell no roots
	mute  map[string]bool // their beats are not heard
}

// memory is what a director remembers of others' stores.
type memory map[string]hello

type recall struct {
	w  *world
	of string
}

func (m recall) Recall(name string) (string, uint64, bool) {
	m.w.mu.Lock()
	defer m.w.mu.Unlock()
	h, ok := m.w.known[m.of][name]
	return h.Store, h.Boot, ok
}

func (m recall) Remember(name, store string, boot uint64) {
	m.w.mu.Lock()
	defer m.w.mu.Unlock()
	if m.w.known[m.of] == nil {
		m.w.known[m.of] = memory{}
	}
	m.w.known[m.of][name] = hello{Store: store, Boot: boot}
}

// A pipe is a connection between two directors.
type pipe struct{ from, to string }

func newWorld(t *testing.T) *world {
	w := &world{t: t, nodes: map[string]*node{}, conns: map[*pipe]bool{}, cut: map[[2]string]bool{}, known: map[string]memory{}}
	t.Cleanup(func() {
		for _, n := range w.nodes {
			n.halt()
		}
	})
	return w
}

// acked are the live peers that have all that a director wrote up to a revision.
func (n *node) acked(revision uint64) []string {
	n.replica.mu.Lock()
	defer n.replica.mu.Unlock()
	have, _ := n.replica.acked(revision)
	return have
}

// start runs a director over a table.
func (w *world) start(d *desk, boot uint64) *node {
	ctx, stop := context.WithCancel(w.t.Context())
	n := &node{desk: d, boot: boot, stop: stop, done: make(chan struct{}), olds: make(chan string, 10)}
	var local Local = d
	if w.local != nil {
		local = w.local(d)
	}
	n.replica = New(Options{Self: d.name, StoreID: d.table.StoreID(), Boot: boot, Local: local, Memory: recall{w, d.name},
		Dial:    func(_ context.Context, m cluster.Member) (net.Conn, error) { return w.dial(d.name, m.Name) },
		OldCopy: func(peer string) { n.olds <- peer },
		Log:     slog.New(slog.DiscardHandler),
	})
	w.mu.Lock()
	w.nodes[d.name] = n
	w.mu.Unlock()
	go func() {
		defer close(n.done)
		var looks sync.WaitGroup
		looks.Go(func() {
			for ctx.Err() == nil {
				n.replica.SetView(w.view(d.name))
				select {
				case <-time.After(100 * time.Millisecond):
				case <-ctx.Done():
				}
			}
		})
		if err := n.replica.Run(ctx); err != nil {
			w.t.Errorf("%s: run: %v", d.name, err)
		}
		looks.Wait()
	}()
	return n
}

func (n *node) halt() {
	n.stop()
	<-n.done
}

// view is what a director would hear of the others' beats.
func (w *world) view(of string) cluster.View {
	w.mu.Lock()
	defer w.mu.Unlock()
	v := cluster.View{Self: cluster.Member{Name: of}}
	for _, name := range sortedNames(w.nodes) {
		if name == of {
			continue
		}
		root, _ := w.nodes[name].digest.Root()
		if w.blind {
			root = 1
		}
		v.Peers = append(v.Peers, cluster.Peer{Member: cluster.Member{Name: name}, Alive: !w.mute[name], Beat: cluster.Beat{From: name, Root: root, Ready: true, ReadyFor: time.Hour}})
	}
	return v
}

// cutAll lets two directors make no connections, or again.
func (w *world) cutAll(a, b string, cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut[[2]string{a, b}], w.cut[[2]string{b, a}] = cut, cut
}

// muted lets a director's beats not be heard, or again.
func (w *world) muted(name string, mute bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mute = map[string]bool{name: mute}
}

func (w *world) dial(from, to string) (net.Conn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.nodes[to]
	if n == nil || w.cut[[2]string{from, to}] {
		return nil, errors.New("no route")
	}
	near, far := net.Pipe()
	go func() { _ = n.replica.Accept(w.t.Context(), far, from) }()
	p := &pipe{from, to}
	w.conns[p] = true
	return &closer{near, func() { far.Close() }}, nil
}

// closer is a connection that a test may break.
type closer struct {
	net.Conn
	other func()
}

func (c *closer) Close() error { c.other(); return c.Conn.Close() }

// breakAll ends every connection of a director that was dialled by it.
func (n *node) breakAll(why error) {
	n.replica.mu.Lock()
	defer n.replica.mu.Unlock()
	for _, p := range n.replica.peers {
		for _, l := range []*link{p.dialled.link, p.accepted.link} {
			if l != nil {
				l.stop(why)
			}
		}
	}
}

// write changes a node's table and hands the records on.
func (n *node) change(f func() ([]affinity.Change, uint64)) uint64 {
	log, revision := f()
	n.replica.Wrote(log, revision)
	return revision
}

// await waits until ok, at most so long in virtual time.
func (w *world) await(what string, within time.Duration, ok func() bool) time.Duration {
	w.t.Helper()
	begun := time.Now()
	for {
		synctest.Wait()
		if ok() {
			return time.Since(begun)
		}
		if time.Since(begun) > within {
			w.t.Fatalf("%s: not after %v\n%s", what, within, w.describe())
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (w *world) describe() string {
	out := ""
	for _, name := range sortedNames(w.nodes) {
		n := w.nodes[name]
		root, count := n.digest.Root()
		out += fmt.Sprintf("%s: root %x, %d records\n", name, root, count)
		for _, s := range n.replica.Status() {
			out += fmt.Sprintf("  %+v\n", s)
		}
	}
	return out
}

// equal tells whether all tables are.
func (w *world) equal() bool {
	var roots []uint64
	for _, n := range w.nodes {
		root, _ := n.digest.Root()
		roots = append(roots, root)
	}
	slices.Sort(roots)
	return len(slices.Compact(roots)) == 1
}

// records are all records of a table as bytes.
func records(t *affinity.Table) map[string]string {
	out := map[string]string{}
	t.Records(func(k affinity.Kind, key string) bool {
		c, _ := t.Record(k, key)
		out[string(rune(k))+key] = string(c.Value)
		return true
	})
	return out
}
