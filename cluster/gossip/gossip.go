package gossip

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
	"golang.org/x/sync/errgroup"

	"tunneldirector/cluster"
	"tunneldirector/cluster/beat/fault"
)

const (
	// streamTimeout bounds a join and whatever else takes a connection; who does not answer in a LAN by then is not there.
	streamTimeout = 3 * time.Second
	// reclaim is how long a director must be dead before another address may have its name. A restart elsewhere is not to wait.
	reclaim = time.Second
	// leaveTimeout is how long each half of a leave takes at most, if its context does not say.
	leaveTimeout = 3 * time.Second
)

// A pace is how often what is tried again and again. Tests go faster.
type pace struct {
	retry    time.Duration // the first try again to join anybody; later ones wait longer, up to rejoin
	rejoin   time.Duration // configured directors that are no members are asked: a split cluster comes together again
	conflict time.Duration // all are asked while another address has this director's name: they learn meanwhile that it is dead
	reread   time.Duration // the keyring is looked at
	twin     time.Duration // a conflict of names must last to be a fault: it does while a director that was killed starts elsewhere
}

// Options are what gossip needs.
type Options struct {
	Self    cluster.Member
	Cluster string         // name of the cluster: another one's members are not heard
	Bind    netip.AddrPort // UDP and TCP; the others use it, too
	Join    []string       // gossip addresses of others, host:port or host; this one's own may be among them
	// Known are gossip addresses of others from an earlier life of this director, joined besides Join; nil: none. It must not block.
	Known   func() []netip.AddrPort
	Keyring *Keyring
	Log     *slog.Logger
}

// A Gossip is this director's part in the gossip.
type Gossip struct {
	o       Options
	pace    pace
	list    *memberlist.Memberlist
	ring    *memberlist.Keyring
	own     netip.AddrPort // as the others know it
	faults  *fault.Book
	changed chan struct{}
	again   chan struct{} // join at once
	heard   chan struct{} // so, too
	leaving atomic.Bool

	mu    sync.Mutex // nodes: memberlist's callbacks write them, anybody reads
	nodes map[string]node

	ending sync.Mutex // a leave and the end of Run
	ended  bool
}

// A node is another director as memberlist knows it.
type node struct {
	member cluster.Member // empty if its metadata could not be read
	addr   netip.AddrPort
}

// Open takes the sockets. Nobody is joined before Run, which also lets go of them.
func Open(o Options) (*Gossip, error) {
	lan := pace{retry: 500 * time.Millisecond, rejoin: 15 * time.Second, conflict: 2 * time.Second, reread: time.Second, twin: 15 * time.Second}
	return open(o, lan, memberlist.DefaultLANConfig())
}

func open(o Options, at pace, conf *memberlist.Config) (*Gossip, error) {
	if o.Known == nil {
		o.Known = func() []netip.AddrPort { return nil }
	}
	if o.Cluster == "" || o.Self.Name == "" || !o.Bind.IsValid() || o.Bind.Addr().IsUnspecified() {
		return nil, fmt.Errorf("open gossip of director %q of cluster %q on %v: the names and an address of this machine are needed", o.Self.Name, o.Cluster, o.Bind)
	}
	g := &Gossip{
		o: o, pace: at, faults: fault.New(o.Log), nodes: map[string]node{},
		changed: make(chan struct{}, 1), again: make(chan struct{}, 1), heard: make(chan struct{}, 1),
	}
	gone := o.Self
	gone.Leaving = true
	if _, err := encodeMeta(gone); err != nil { // the callback cannot fail
		return nil, fmt.Errorf("open gossip: %w", err)
	}
	keys := o.Keyring.Keys()
	ring, err := memberlist.NewKeyring(keys, keys[0])
	if err != nil {
		return nil, fmt.Errorf("open gossip: %w", err)
	}
	g.ring = ring
	conf.Name, conf.Label, conf.Keyring = o.Self.Name, o.Cluster, ring
	conf.BindAddr, conf.BindPort = o.Bind.Addr().String(), int(o.Bind.Port())
	conf.AdvertiseAddr, conf.AdvertisePort = conf.BindAddr, conf.BindPort
	conf.TCPTimeout, conf.DeadNodeReclaimTime = streamTimeout, min(reclaim, at.conflict)
	conf.Delegate, conf.Events, conf.Conflict = delegate{g}, delegate{g}, delegate{g}
	conf.Logger = log.New(&logWriter{log: o.Log, faults: g.faults, rate: newRate()}, "", 0)
	if g.list, err = memberlist.Create(conf); err != nil {
		return nil, fmt.Errorf("open gossip on %v: %w", o.Bind, err)
	}
	self := g.list.LocalNode()
	addr, _ := netip.AddrFromSlice(self.Addr)
	g.own = netip.AddrPortFrom(addr.Unmap(), self.Port)
	return g, nil
}

// Run joins the others, again and again if need be, and follows the keyring, until ctx is done. It leaves without a word: see Leave.
func (g *Gossip) Run(ctx context.Context) error {
	tasks, ctx := errgroup.WithContext(ctx)
	tasks.Go(func() error { g.join(ctx); return nil })
	tasks.Go(func() error { g.followKeys(ctx); return nil })
	err := tasks.Wait()
	g.ending.Lock()
	defer g.ending.Unlock()
	g.ended = true
	if down := g.list.Shutdown(); down != nil {
		err = errors.Join(err, fmt.Errorf("close gossip: %w", down))
	}
	return err
}

// Members are the other directors that gossip knows and does not take for dead, by name.
func (g *Gossip) Members() []cluster.Member {
	g.mu.Lock()
	defer g.mu.Unlock()
	var list []cluster.Member
	for _, n := range g.nodes {
		if n.member.Name != "" {
			list = append(list, n.member)
		}
	}
	slices.SortFunc(list, func(x, y cluster.Member) int { return strings.Compare(x.Name, y.Name) })
	return list
}

// Addrs are where Members gossip, by name.
func (g *Gossip) Addrs() map[string]netip.AddrPort {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := map[string]netip.AddrPort{}
	for name, n := range g.nodes {
		if n.member.Name != "" {
			out[name] = n.addr
		}
	}
	return out
}

// Changed is poked when Members are others, or other than they were.
func (g *Gossip) Changed() <-chan struct{} { return g.changed }

// Heard says that heartbeats of a director are heard that is no member, as after a partition: those that are none are asked now, and
// not when it is time again.
func (g *Gossip) Heard() { poke(g.heard) }

// Problems are what is wrong with the gossip, as sentences.
func (g *Gossip) Problems() []string { return g.faults.List() }

// Leave says to the others that this director leaves, waits until that is spread, and leaves. It takes at most until the
// deadline of ctx. Nobody is joined afterwards.
func (g *Gossip) Leave(ctx context.Context) error {
	g.leaving.Store(true)
	g.ending.Lock()
	defer g.ending.Unlock()
	if g.ended {
		return errors.New("leave the cluster: gossip has ended")
	}
	timeout := leaveTimeout
	if deadline, ok := ctx.Deadline(); ok {
		timeout = max(time.Until(deadline)/2, time.Millisecond) // 0 would be for ever
	}
	err := g.list.UpdateNode(timeout)
	if err = errors.Join(err, g.list.Leave(timeout)); err != nil {
		return fmt.Errorf("leave the cluster: %w", err)
	}
	return nil
}

// followKeys takes over what becomes of the keyring's file.
func (g *Gossip) followKeys(ctx context.Context) {
	tick := time.NewTicker(g.pace.reread)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		changed, err := g.o.Keyring.Reread()
		if err != nil {
			g.faults.Add("keyring", fmt.Sprintf("%v: the keys stay as they were", err), 0)
			continue
		}
		g.faults.Clear("keyring")
		if !changed {
			continue
		}
		keys := g.o.Keyring.Keys()
		if err := install(g.ring, keys); err != nil {
			g.faults.Add("keyring", fmt.Sprintf("take over the keyring: %v", err), 0)
			continue
		}
		var names []string
		for _, key := range keys {
			names = append(names, Fingerprint(key))
		}
		g.o.Log.Info("keyring changed", "seals", names[0], "opens", names)
	}
}

// install makes memberlist's ring the keys. memberlist hands its list out to readers and shortens it in place: only a removal
// of the last key leaves them alone. So the ring is cut from its end, and what is wanted comes back.
func install(ring *memberlist.Keyring, keys [][]byte) error {
	if err := ring.AddKey(keys[0]); err != nil {
		return err
	}
	if err := ring.UseKey(keys[0]); err != nil {
		return err
	}
	for has := ring.GetKeys(); slices.ContainsFunc(has, func(k []byte) bool { return index(keys, k) < 0 }); has = ring.GetKeys() {
		if err := ring.RemoveKey(has[len(has)-1]); err != nil {
			return err
		}
	}
	for _, key := range keys {
		if err := ring.AddKey(key); err != nil {
			return err
		}
	}
	return nil
}

// poke says "look again" to who listens.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
