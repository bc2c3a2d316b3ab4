package beat

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"tunneldirector/cluster"
)

// keptFor is how long a director is kept that gossip does not name any more and that did not say that it leaves.
const keptFor = time.Hour

// A judge is the goroutine that owns the peers.
type judge struct {
	b        *Beater
	peers    map[string]*peer
	clock    listening
	draining int  // readers that have not said yet that their sockets are empty
	news     bool // something to poke for
}

func newJudge(b *Beater) *judge {
	return &judge{
		b: b, peers: map[string]*peer{},
		clock: listening{period: b.o.Interval / 2, slack: b.slack, settle: b.o.Interval, last: time.Now()},
	}
}

func (j *judge) run(ctx context.Context, events <-chan event) {
	tick := time.NewTicker(j.clock.period)
	defer tick.Stop()
	for {
		due := false
		select {
		case <-ctx.Done():
			return
		case e := <-events:
			j.hear(e)
		case <-j.b.told:
			j.adopt(*j.b.members.Load())
		case <-tick.C:
			due = true
			j.turn(time.Now())
		}
		if due || j.news {
			j.publish()
		}
	}
}

// adopt takes over who is a member.
func (j *judge) adopt(members []cluster.Member) {
	named := map[string]bool{}
	for _, m := range members {
		if m.Name == j.b.o.Self.Name {
			continue
		}
		named[m.Name] = true
		p := j.peers[m.Name]
		if p == nil {
			p = &peer{since: j.b.o.Now()}
			j.peers[m.Name] = p
			j.news = true
		}
		j.news = j.news || !sameMember(p.member, m)
		p.route(m, len(j.b.o.Conns))
		p.gone = time.Time{}
	}
	for name, p := range j.peers {
		if !named[name] && p.gone.IsZero() {
			p.gone = time.Now()
		}
	}
	j.forget(time.Now())
	j.aim()
}

func sameMember(a, b cluster.Member) bool {
	return a.Name == b.Name && a.Rank == b.Rank && a.Role == b.Role && a.Stream == b.Stream && a.Leaving == b.Leaving && slices.Equal(a.Beats, b.Beats)
}

// forget removes directors that have left, or have been away for too long.
func (j *judge) forget(now time.Time) {
	for name, p := range j.peers {
		left := p.member.Leaving || p.beat.Leaving
		if !p.gone.IsZero() && !p.alive && (left || now.Sub(p.gone) > keptFor) {
			delete(j.peers, name)
			j.news = true
			j.aim()
		}
	}
}

// aim tells the sender whom to send to: everybody known, for the dead may be alive and only hear nothing.
func (j *judge) aim() {
	var targets []target
	for name, p := range j.peers {
		for i, w := range p.paths {
			if w.addr.IsValid() {
				targets = append(targets, target{name, i, net.UDPAddrFromAddrPort(w.addr)})
			}
		}
	}
	slices.SortFunc(targets, func(x, y target) int { // path by path
		if x.path != y.path {
			return x.path - y.path
		}
		return strings.Compare(x.name, y.name)
	})
	j.b.targets.Store(&targets)
}

// hear takes what a reader tells.
func (j *judge) hear(e event) {
	if e.drained {
		if j.draining--; j.draining == 0 {
			j.bury()
		}
		return
	}
	name, faults := e.beat.From, j.b.faults
	if name == j.b.o.Self.Name {
		if e.beat.Start != j.b.start {
			faults.Add("twin", fmt.Sprintf("another director at %s has this one's name, %s: stop it, or give it another name", e.from.Addr(), name), 0)
		}
		return
	}
	p := j.peers[name]
	if p == nil {
		// Gossip may be a little later than the first beats, and the last beats later than its leave.
		faults.Add("stranger "+name, fmt.Sprintf("heartbeats of director %s come from %s, but gossip does not know it", name, e.from.Addr()), 5*time.Second)
		return
	}
	switch now := time.Now(); p.follows(e.beat, e.path, e.wall, j.b.echoes(e.beat.Echo)) {
	case taken:
		if p.take(e.beat, e.path, e.wall, j.clock.at(now), j.clock.trusted(now)) {
			j.news = true
		}
	case replayed:
		faults.Add("replay "+name, fmt.Sprintf("heartbeats of director %s come again on path %d, from %s: they are refused", name, e.path+1, e.from.Addr()), 5*time.Second)
	case superseded:
		faults.Add("twice "+name, fmt.Sprintf("director %s runs twice, once at %s, or somebody sends its old heartbeats: the one that was started first is refused", name, e.from.Addr()), 2*time.Second)
	case outdated:
		faults.Add("outdated "+name, fmt.Sprintf("heartbeats of director %s from %s are older than what it said before: its clock is off by more than %v, or somebody sends old ones", name, e.from.Addr(), cluster.MaxOffset), 2*time.Second)
	}
}

// turn looks for the silent. Before they are buried, the readers empty their sockets.
func (j *judge) turn(now time.Time) {
	if j.clock.turn(now) {
		j.b.o.Log.Debug("this director did not run for a while: silence of its peers does not count", "late", j.clock.late)
	}
	j.forget(now)
	if j.draining > 0 || !j.suspects() {
		return
	}
	for _, c := range j.b.o.Conns {
		if c.SetReadDeadline(now) == nil { // it is past: the reader notices
			j.draining++
		}
	}
}

func (j *judge) suspects() bool {
	for _, p := range j.peers {
		if p.silent(&j.clock, j.b.o.DeadAfter) {
			return true
		}
	}
	return false
}

// bury takes down who was silent, and has nothing in any socket.
func (j *judge) bury() {
	for name, p := range j.peers {
		was := p.alive
		if p.judge(&j.clock, j.b.o.DeadAfter, j.b.o.Now()) {
			j.news = true
		}
		if was && !p.alive {
			j.b.o.Log.Warn("director is not heard any more", "director", name, "heard", p.heard)
		}
	}
}

// publish makes the snapshot that others read.
func (j *judge) publish() {
	peers := make([]cluster.Peer, 0, len(j.peers))
	for _, p := range j.peers {
		peers = append(peers, p.snapshot())
	}
	slices.SortFunc(peers, func(x, y cluster.Peer) int { return strings.Compare(x.Member.Name, y.Member.Name) })
	j.b.peers.Store(&peers)
	if j.news {
		j.news = false
		poke(j.b.changed)
	}
}
