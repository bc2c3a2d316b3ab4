package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"tunneldirector/affinity"
	"tunneldirector/affinity/badgerstore"
	"tunneldirector/cluster"
	"tunneldirector/cluster/beat"
	"tunneldirector/cluster/ca"
	"tunneldirector/cluster/gossip"
	"tunneldirector/cluster/replica"
	loop "tunneldirector/director"
	"tunneldirector/director/config"
	"tunneldirector/director/crowd"
	"tunneldirector/director/observe"
)

// peerProtocol is the ALPN of streams between directors.
const peerProtocol = "tunneldirector-peer/1"

// errOldCopy ends a director whose store is one of the past: it is moved aside, and filled again by the others.
var errOldCopy = errors.New("this director's store is an old copy of itself")

// joined is what makes a director one of several: gossip finds the others, beats say who is alive, replicas carry records.
//
//	gossip ─ members ─▶ beater ─ view ─▶ loop, replica          loop ─ records ─▶ replica ─▶ others
type joined struct {
	cfg      config.Config
	own      *ca.Credential
	ring     *gossip.Keyring
	gossip   *gossip.Gossip
	beater   *beat.Beater
	replica  *replica.Replica
	local    *local
	memory   *memory
	listener net.Listener
	beats    []net.PacketConn
	examiner atomic.Pointer[examiner] // nil: it is not there yet
	left     atomic.Bool              // it said so, and the others know
	old      chan string              // a peer that says the store is an old copy
	door     *door
	log      *slog.Logger
}

// local is the table as the replica sees it. The loop needs the replica, so that it is made later.
type local struct {
	*loop.Director
	node func(ctx context.Context, from string, question []byte) ([]byte, error)
}

// The first byte of a question says who answers.
const (
	askLoop = 'l'
	askNode = 'n'
)

// Answer answers what another director asks.
func (l *local) Answer(ctx context.Context, from string, question []byte) ([]byte, error) {
	if len(question) == 0 {
		return nil, errors.New("an empty question")
	}
	if question[0] == askNode {
		return l.node(ctx, from, question[1:])
	}
	return l.Director.Answer(ctx, from, question[1:])
}

// openJoined opens all that other directors are to reach this one by; nil without a section cluster.
func openJoined(cfg config.Config, disk *badgerstore.Store, log *slog.Logger) (*joined, error) {
	if cfg.Cluster == nil {
		return nil, nil
	}
	j := &joined{cfg: cfg, memory: openMemory(cfg.DataDir, log), old: make(chan string, 1), door: newDoor(), log: log}
	if err := j.open(disk); err != nil {
		j.close()
		for _, conn := range j.beats {
			_ = conn.Close()
		}
		return nil, err
	}
	return j, nil
}

// open reads who this director is, and takes its sockets.
func (j *joined) open(disk *badgerstore.Store) (err error) {
	c := j.cfg.Cluster
	if j.own, err = ca.Open(ca.Files(c.TLS), ca.RoleDirector, j.cfg.Name, j.log); err != nil {
		return fmt.Errorf("cluster.tls: %w", err)
	}
	name := j.own.Identity().Cluster
	if err := sameCluster(c.Name, name); err != nil {
		return err
	}
	if w := authorityTrouble(c.Authority); w != "" {
		j.log.Warn("authority", "says", w)
	}
	if j.ring, err = gossip.OpenKeyring(c.Keyring); err != nil {
		return fmt.Errorf("cluster.keyring: %w", err)
	}
	if j.listener, err = listenStreams(c.Listen); err != nil {
		return err
	}
	for i, a := range c.Heartbeat {
		conn, err := listenBeats(i, a)
		if err != nil {
			return err
		}
		j.beats = append(j.beats, conn)
	}
	self := cluster.Member{Name: j.cfg.Name, Rank: c.Rank, Role: cluster.Role(c.Role), Stream: c.Listen, Beats: c.Heartbeat}
	if err := gossipFree(c.Gossip); err != nil {
		return err
	}
	if j.gossip, err = gossip.Open(gossip.Options{Self: self, Cluster: name, Bind: c.Gossip, Join: c.Join, Known: j.memory.gossipers, Keyring: j.ring, Log: j.log}); err != nil {
		return fmt.Errorf("cluster.gossip: %w", err)
	}
	j.beater = beat.New(beat.Options{Self: self, Conns: j.beats, Ring: j.ring, DeadAfter: c.DeadAfter, Log: j.log})
	meta := disk.Meta()
	j.local = &local{node: j.answerLiving}
	j.replica = replica.New(replica.Options{Self: j.cfg.Name, StoreID: meta.ID, Boot: meta.Boot, Local: j.local, Dial: j.dial, Memory: j.memory, OldCopy: j.isOld, Log: j.log})
	return nil
}

// expects tells whether there are others: said in the node's file, or known from before.
func (j *joined) expects() bool { return len(j.cfg.Cluster.Join) > 0 || len(j.memory.gossipers()) > 0 }

func (j *joined) close() {
	if j.listener != nil {
		_ = j.listener.Close()
	}
}

// dial opens a stream to a director, which proves that it is that one.
func (j *joined) dial(ctx context.Context, m cluster.Member) (net.Conn, error) {
	d := net.Dialer{Timeout: 3 * time.Second, LocalAddr: &net.TCPAddr{IP: j.cfg.Cluster.Listen.Addr().AsSlice()}}
	raw, err := d.DialContext(ctx, "tcp", m.Stream.String())
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, j.own.ClientConfig(ca.RoleDirector, peerProtocol))
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, err
	}
	who, err := ca.Peer(conn.ConnectionState())
	if err == nil && who.Name != m.Name {
		err = fmt.Errorf("at %s is director %s, and not %s", m.Stream, who.Name, m.Name)
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

func (j *joined) isOld(peer string) {
	select {
	case j.old <- peer:
	default:
	}
}

// run takes part until ctx ends.
func (j *joined) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return j.gossip.Run(ctx) })
	g.Go(func() error { return j.beater.Run(ctx) })
	g.Go(func() error { return j.replica.Run(ctx) })
	g.Go(func() error { return j.accept(ctx) })
	g.Go(func() error { return j.connect(ctx) })
	g.Go(func() error { return ca.Renewer{Credential: j.own, Ask: j.renewal(), Log: j.log}.Run(ctx) })
	return g.Wait()
}

// renewal certifies here if the authority is here, else at the directors that are known.
func (j *joined) renewal() ca.Ask {
	if dir := j.cfg.Cluster.Authority; dir != "" {
		return ca.Locally(dir, j.own)
	}
	addresses := func() []string {
		var out []string
		for _, m := range j.gossip.Members() {
			out = append(out, m.Stream.String())
		}
		return out
	}
	return ca.Remotely(j.own, addresses, (&net.Dialer{}).DialContext)
}

// connect hands members and views on.
func (j *joined) connect(ctx context.Context) error {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	hourly := time.NewTicker(time.Hour)
	defer hourly.Stop()
	apart, asked := absence{}, time.Time{}
	if away := j.memory.away(); away > 0 {
		apart.seen = time.Now().Round(0).Add(-away)
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case peer := <-j.old:
			return fmt.Errorf("%w: director %s has seen a newer one", errOldCopy, peer)
		case <-j.gossip.Changed():
		case <-hourly.C:
			if len(j.beater.View().Alive()) > 1 {
				j.memory.touch()
			}
		case <-tick.C:
		}
		members := j.gossip.Members()
		j.beater.SetMembers(members)
		v := j.beater.View()
		if heardOfStranger(v, members) && time.Since(asked) > strangerAgain {
			j.gossip.Heard() // nor is it let in before gossip knows it
			asked = time.Now()
		}
		j.memory.meet(v.Peers, j.gossip.Addrs())
		j.replica.SetView(v)
		if away := apart.look(v, time.Now()); away > loop.TombstonesLive {
			return fmt.Errorf("%w: it was away for %v, and others forget deletions after %v", errOldCopy, away.Round(time.Hour), loop.TombstonesLive)
		}
	}
}

// strangerAgain is between two times that gossip is told of heartbeats: a director may be heard and never be let in.
const strangerAgain = 5 * time.Second

// heardOfStranger tells whether a director's heartbeats are heard, and gossip does not know it: it has come back sooner to the one than
// to the other. One that leaves is gone there first.
func heardOfStranger(v cluster.View, members []cluster.Member) bool {
	return slices.ContainsFunc(v.Peers, func(p cluster.Peer) bool {
		return p.Alive && !p.Beat.Leaving && !isMember(members, p.Member.Name)
	})
}

// accept serves other directors.
func (j *joined) accept(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	stop := context.AfterFunc(ctx, func() { _ = j.listener.Close() })
	defer stop()
	server := j.own.ServerConfig(ca.RoleDirector, peerProtocol, ca.RenewProtocol)
	for {
		raw, err := j.listener.Accept()
		switch {
		case ctx.Err() != nil:
			return g.Wait()
		case err != nil:
			j.log.Warn("accept a director", "error", err)
			time.Sleep(100 * time.Millisecond)
			continue
		}
		if from := crowd.From(raw); !j.door.Enter(from) {
			_ = raw.Close()
			if j.door.says("crowd", time.Now()) {
				j.log.Warn("too many connections at once that have not proved to be directors: some are closed", "address", from)
			}
			continue
		}
		g.Go(func() error { j.serve(ctx, tls.Server(raw, server)); return nil })
	}
}

// serve serves one connection to its end.
func (j *joined) serve(ctx context.Context, conn *tls.Conn) {
	defer conn.Close()
	shake, cancel := context.WithTimeout(ctx, shakeWithin)
	defer cancel()
	err := conn.HandshakeContext(shake)
	j.door.Leave(crowd.From(conn))
	var who ca.Identity
	if err == nil {
		who, err = ca.Peer(conn.ConnectionState())
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return
	case err != nil:
		if j.door.says("handshake", time.Now()) {
			j.log.Warn("a director was not let in", "address", conn.RemoteAddr().String(), "error", err)
		}
		return
	case !isMember(j.gossip.Members(), who.Name): // nor is its certificate renewed
		if j.door.says("stranger "+who.Name, time.Now()) {
			j.log.Warn("a director is not let in: gossip does not know it", "director", who.Name, "address", conn.RemoteAddr().String())
		}
		return
	case conn.ConnectionState().NegotiatedProtocol == ca.RenewProtocol:
		if err := serveRenewal(ctx, conn, j.cfg.Cluster.Authority, j.log); !errors.Is(err, observe.ErrServed) && ctx.Err() == nil {
			j.log.Warn("renew a certificate", "of", who.String(), "error", err)
		}
		return
	}
	if err := j.replica.Accept(ctx, conn, who.Name); err != nil && ctx.Err() == nil {
		j.log.Info("a director's stream has ended", "director", who.Name, "error", err)
	}
}

// View, Changed, Say, Wrote, Synced, Settled, Await and Ask make a joined the loop's Peers.

// View is who is alive.
func (j *joined) View() cluster.View { return j.beater.View() }

// Changed is poked when the View has changed.
func (j *joined) Changed() <-chan struct{} { return j.beater.Changed() }

// Say is the loop's word for the beats.
func (j *joined) Say(b cluster.Beat) { j.beater.Say(b) }

// Wrote hands records to the others.
func (j *joined) Wrote(changes []affinity.Change, revision uint64) {
	j.replica.Wrote(changes, revision)
}

// Synced tells whether what others held at this start is here.
func (j *joined) Synced() (withReady, withAll bool) { return j.replica.Synced() }

// Settled tells whether nothing that live directors had before now can still come by a comparison of tables.
func (j *joined) Settled() bool { return j.replica.Settled() }

// Await waits until others have what was written here.
func (j *joined) Await(ctx context.Context, revision uint64, n int) []string {
	return j.replica.Await(ctx, revision, n)
}

// Ask puts a question to another director's loop.
func (j *joined) Ask(ctx context.Context, name string, question []byte) ([]byte, error) {
	return j.replica.Ask(ctx, name, append([]byte{askLoop}, question...))
}

// Streams are the directors with which there is a connection though their heartbeats are not heard; sorted.
func (j *joined) Streams() []string {
	v := j.beater.View()
	var out []string
	for _, s := range j.replica.Status() {
		if p, ok := v.Peer(s.Name); (s.Dialled.Connected || s.Accepted.Connected) && !(ok && p.Alive) {
			out = append(out, s.Name)
		}
	}
	return out
}
