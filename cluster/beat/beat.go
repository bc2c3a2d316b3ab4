// Package beat carries cluster.Beats between directors: over UDP, sealed, ten times a second to every member on every path.
// It says who is alive, as a cluster.View. It decides nothing, and knows members only from SetMembers.
//
// A peer is dead when it was not heard on any path for DeadAfter. A starved machine must neither look dead nor call others
// dead. So the thread that sends runs before others where the kernel allows it, and who listens counts only the time in which
// it could hear (listening), and empties its sockets before it judges.
//
//	            beat                              silent on all paths for DeadAfter,
//	never heard ────▶ alive ────────────────────▶ sockets empty ───────────────────▶ dead
//	                    ▲                                                              │
//	                    └──────────── a newer beat (Start, Seq) ───────────────────────┘
//
// A datagram that was recorded is refused by Start and Seq once a later one was heard; a director that has just started and
// has not heard a peer yet has nothing to compare with, and takes the first one that opens. A director whose clock was set back
// before it was started again proves by an Echo that it speaks now.
package beat

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"tunneldirector/cluster"
	"tunneldirector/cluster/beat/fault"
)

// Options are what a Beater needs.
type Options struct {
	Self  cluster.Member
	Conns []net.PacketConn // one per path, in the order of Self.Beats; Run closes them
	Ring  Ring
	// Interval between beats (100 ms), DeadAfter so much silence a peer is dead (600 ms), HungAfter so long without Say the
	// beats say Hung (10 s).
	Interval, DeadAfter, HungAfter time.Duration
	// Now is the wall clock (time.Now), for stamps and offsets. Silence is not measured by it.
	Now func() time.Time
	// Sleep is how the sender waits, for virtual time. Nil: in the kernel, on a thread of its own that runs before others.
	Sleep func(time.Duration)
	Log   *slog.Logger
}

// A Beater says who it is, and hears who else is there.
type Beater struct {
	o      Options
	start  int64
	faults *fault.Book
	raise  func() error        // see raise; nil: the sender has no thread of its own
	sleep  func(time.Duration) // see sleep
	slack  time.Duration       // see listening

	seq     atomic.Uint64
	said    atomic.Pointer[word]
	members atomic.Pointer[[]cluster.Member]
	peers   atomic.Pointer[[]cluster.Peer]
	targets atomic.Pointer[[]target]
	told    chan struct{} // members changed
	changed chan struct{}
}

// A word is what the loop said of itself.
type word struct {
	beat cluster.Beat
	at   time.Time // when it said so
}

// stale is after how long the loop's word on what it holds, and on which real servers answer, counts no more: its process may have
// been stopped meanwhile, its addresses gone, and real servers come back or died. A loop that turns says it many times a second.
const stale = time.Second

// echoLife is how many beats of this director may have been sent since the one that an Echo names.
const echoLife = 100

// New makes a Beater. It does nothing before Run.
func New(o Options) *Beater {
	def := func(d *time.Duration, to time.Duration) {
		if *d <= 0 {
			*d = to
		}
	}
	def(&o.Interval, 100*time.Millisecond)
	def(&o.DeadAfter, 600*time.Millisecond)
	def(&o.HungAfter, 10*time.Second)
	if o.Now == nil {
		o.Now = time.Now
	}
	b := &Beater{
		o: o, start: o.Now().UnixNano(), faults: fault.New(o.Log), raise: raise, sleep: sleep, slack: o.Interval,
		told: make(chan struct{}, 1), changed: make(chan struct{}, 1),
	}
	if o.Sleep != nil {
		b.sleep, b.raise = o.Sleep, nil
	}
	b.said.Store(&word{})
	b.members.Store(&[]cluster.Member{})
	b.peers.Store(&[]cluster.Peer{})
	b.targets.Store(&[]target{})
	return b
}

// Run sends and hears until ctx is done; then it says the last word once more, and closes the sockets.
func (b *Beater) Run(ctx context.Context) error {
	if len(b.o.Conns) == 0 || b.o.Self.Name == "" || len(b.o.Self.Name) > maxName {
		return fmt.Errorf("send heartbeats as %q on %d paths: a name of at most %d bytes and a path are needed", b.o.Self.Name, len(b.o.Conns), maxName)
	}
	g, ctx := errgroup.WithContext(ctx)
	events := make(chan event, 256)
	for i, conn := range b.o.Conns {
		r := &reader{b: b, path: i, conn: conn, sealer: sealer{ring: b.o.Ring}, events: events}
		g.Go(func() error { return r.run(ctx) })
	}
	sent := make(chan struct{})
	g.Go(func() error {
		defer close(sent)
		return b.send(ctx)
	})
	g.Go(func() error {
		newJudge(b).run(ctx, events)
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		<-sent
		var err error
		for _, c := range b.o.Conns {
			err = errors.Join(err, c.Close())
		}
		return err
	})
	return g.Wait()
}

// SetMembers tells who the other directors are; this one is skipped. It never blocks. A director that is named no more is kept, as
// dead if it is not heard, until it said that it leaves or for an hour.
func (b *Beater) SetMembers(members []cluster.Member) {
	list := slices.Clone(members)
	b.members.Store(&list)
	poke(b.told)
}

// Say takes over what the director says of itself: all but From, Start, Seq, Wall, Hung and Echo, which are filled in here. A list
// that is too long is left out, and Many says so; who has left one out already says it itself. Say proves that the loop turns, which
// is its only caller, and never blocks. Nothing is sent before it was called once.
func (b *Beater) Say(beat cluster.Beat) {
	beat.Unreached, beat.Holds = slices.Clone(beat.Unreached), slices.Clone(beat.Holds)
	b.said.Store(&word{beat: fit(beat), at: time.Now()})
}

// own is the beat of this moment, as it is sent and as View has it.
func (b *Beater) own() cluster.Beat {
	w := b.said.Load()
	beat := w.beat
	beat.From, beat.Start, beat.Seq, beat.Wall = b.o.Self.Name, b.start, b.seq.Load(), b.o.Now().Truncate(time.Millisecond)
	age := time.Since(w.at)
	if beat.Ready {
		beat.ReadyFor += age
	}
	if age > stale {
		beat.Holds, beat.Probes, beat.Many = nil, false, false
	}
	beat.Hung = !w.at.IsZero() && age > b.o.HungAfter
	if peers := *b.peers.Load(); len(peers) > 0 {
		p := peers[beat.Seq%uint64(len(peers))]
		beat.Echo = cluster.Echo{Of: cluster.HashOf(p.Member.Name), Start: p.Beat.Start, Seq: p.Beat.Seq}
	}
	return fit(beat)
}

// echoes tells whether a beat names one of this director's of the last while, so that it is no older than that.
func (b *Beater) echoes(e cluster.Echo) bool {
	now := b.seq.Load()
	return e.Of == cluster.HashOf(b.o.Self.Name) && e.Start == b.start && e.Seq <= now && now-e.Seq <= echoLife
}

// View is what is known of all now. The lists in it must not be changed.
func (b *Beater) View() cluster.View {
	return cluster.View{Self: b.o.Self, Beat: b.own(), Peers: slices.Clone(*b.peers.Load())}
}

// Changed is poked when a View says something new of a peer: that it is there, alive, or what it says of itself, or on which
// paths it is heard. Times, counters, the table's revision and digest are no news.
func (b *Beater) Changed() <-chan struct{} { return b.changed }

// Problems are what is wrong with heartbeats, as sentences.
func (b *Beater) Problems() []string {
	out := b.faults.List()
	for _, p := range *b.peers.Load() {
		if n := len(p.Member.Beats); n != len(b.o.Conns) {
			out = append(out, fmt.Sprintf("director %s has %d heartbeat paths, this one %d: cluster.heartbeat must have as many entries everywhere", p.Member.Name, n, len(b.o.Conns)))
		}
		for i, w := range p.Paths {
			switch {
			case !p.Alive || w.Lost < 1:
			case w.Heard.IsZero():
				out = append(out, fmt.Sprintf("director %s was never heard on path %d (%v)", p.Member.Name, i+1, w.Addr))
			default:
				out = append(out, fmt.Sprintf("director %s has not been heard on path %d (%v) since %s", p.Member.Name, i+1, w.Addr, w.Heard.UTC().Format(time.RFC3339)))
			}
		}
	}
	return out
}

// poke says "look again" to who listens.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
