package replica

import (
	"time"

	"tunneldirector/affinity"
	"tunneldirector/cluster"
)

// A peer is another director. The mutex of the Replica guards it.
//
//	                 dialled             round done, or digests equal
//	not connected ───────────▶ behind ───────────────────────────────▶ synced
//	      ▲                      ▲  │                                    │
//	      └──────────────────────┼──┴────── connection ended ◀───────────┤
//	                             └───────── queue full: dropped ◀────────┘
type peer struct {
	name   string
	back   chan struct{}  // poked when it has come back to life; capacity 1
	member cluster.Member // zero: not in the view
	beat   cluster.Beat
	alive  bool

	hello             hello // the last one
	dialled, accepted way
	calm              calm
	serving           int // Accepts that run
	count             traffic

	// What it has of ours.
	queue      []batch
	queued     int // records
	queueBytes int
	gen        int // rises when the queue is begun anew: what was not sent by then takes a round
	synced     bool
	behind     time.Time // since when it is not synced
	dropped    bool      // the queue was full
	acked      uint64    // it has all of ours up to this revision, if it is synced

	// What we have of it.
	had      bool // all that it had at
	hadAt    time.Time
	hadReady bool // and it was ready then
	refused  map[spot]time.Time
	refusals []Refusal
	nRefused int
	stalled  error // why its records are not merged now

	// Rounds.
	turns   int // in progress, begun by either
	rounds  int // that were begun here
	rounded time.Time
	differs time.Time // since when the roots differ; zero: they do not
	equal   time.Time // since when they are equal; zero: they are not
	wait    time.Duration
}

// A way is one of the two connections of a pair.
type way struct {
	link  *link
	up    time.Time
	level bool  // see calm
	err   error // why the last one ended
	errAt time.Time
}

// A batch is what this director wrote at once.
type batch struct {
	records  []affinity.Change
	revision uint64
	at       time.Time
}

const (
	maxQueued     = 200_000  // records that wait for one peer
	maxQueueBytes = 64 << 20 //
	maxRecords    = 1000     // in a Delta
	maxBytes      = 512 << 10
)

// How long a difference is watched before it is looked into.
const (
	yield     = 3 * time.Second // what the director with the higher name waits longer
	firstWait = 10 * time.Second
	maxWait   = 160 * time.Second
	afterTurn = time.Second      // between rounds
	fresh     = time.Second      // a beat that says a root is older than this connection, if that is younger than this
	refusedIs = 10 * time.Minute // so long a refused record is not asked for again
	maxKept   = 10_000           // refused records that are remembered
)

// peer finds a peer, or makes one. The mutex is held.
func (r *Replica) peer(name string) *peer {
	p := r.peers[name]
	if p == nil {
		p = &peer{name: name, back: make(chan struct{}, 1), wait: firstWait, refused: map[spot]time.Time{}}
		r.peers[name] = p
	}
	return p
}

// sweep drops peers that are gone. The mutex is held.
func (r *Replica) sweep() {
	for name, p := range r.peers {
		if p.member.Name == "" && p.serving == 0 && p.dialled.link == nil {
			delete(r.peers, name)
		}
	}
}

// SetView says who is there and what each says of itself. It never blocks.
func (r *Replica) SetView(v cluster.View) {
	r.mu.Lock()
	defer r.mu.Unlock()
	covered := r.last
	root, _ := r.o.Local.Digest().Root()
	for name, p := range r.peers {
		if _, there := v.Peer(name); !there {
			p.member, p.alive, p.differs, p.equal = cluster.Member{}, false, time.Time{}, time.Time{}
		}
	}
	for _, o := range v.Peers {
		if o.Member.Name == "" || o.Member.Name == r.o.Self {
			continue
		}
		p := r.peer(o.Member.Name)
		if o.Alive && !p.alive {
			select {
			case p.back <- struct{}{}:
			default:
			}
		}
		revived := o.Alive && !p.alive
		p.member, p.beat, p.alive = o.Member, o.Beat, o.Alive
		r.compareRoots(p, root, covered)
		if revived {
			p.revive(time.Now())
		}
	}
	r.sweep()
	r.poke()
	select {
	case r.members <- struct{}{}:
	default:
	}
}

// compareRoots draws the conclusions of what a peer's beats say of its digest. The mutex is held.
func (r *Replica) compareRoots(p *peer, root, covered uint64) {
	now := time.Now()
	switch {
	case !p.alive:
		p.differs, p.equal = time.Time{}, time.Time{}
	case p.beat.Revision == 0 && p.beat.Root == 0 && p.hello.Records > 0:
		// It was begun anew, and does not say yet what it has.
	case p.beat.Root != root:
		p.equal = time.Time{}
		if p.differs.IsZero() {
			p.differs = now
		}
	default:
		p.differs, p.wait = time.Time{}, firstWait
		if p.equal.IsZero() {
			p.equal = now
		}
		p.has(now, now)
		if p.dialled.link != nil && now.Sub(p.dialled.up) > fresh && !p.synced {
			p.hasOurs(covered)
		}
		p.levelAt(now.Add(-fresh))
	}
	p.hadOfReady(now)
}

// has notes that all that the peer had at a time is here.
func (p *peer) has(at, now time.Time) {
	p.had, p.hadAt = true, at
	p.hadOfReady(now)
}

// hadOfReady finds out, perhaps later, that the peer was ready then.
func (p *peer) hadOfReady(now time.Time) {
	if p.had && p.alive && p.beat.Ready && p.beat.ReadyFor >= now.Sub(p.hadAt) {
		p.hadReady = true
	}
}

// hasOurs notes that the peer has all of ours up to a revision, or had so when what is in the queue now was not in it.
func (p *peer) hasOurs(revision uint64) {
	p.synced, p.dropped, p.acked = true, false, max(p.acked, revision)
}

// begin starts the queue of a peer anew, empty: what is written from now on goes into it. The mutex is held.
func (p *peer) begin(now time.Time) {
	p.gen++
	p.queue, p.queued, p.queueBytes = nil, 0, 0
	p.synced, p.behind, p.dropped = false, now, false
}

// due is when the next round is to begin here. The mutex is held.
func (r *Replica) due(p *peer) (at time.Time, ok bool) {
	if p.dialled.link == nil || p.turns > 0 {
		return at, false
	}
	grace := time.Duration(0)
	if p.name < r.o.Self {
		grace = yield
	}
	if !p.synced {
		at = p.behind.Add(grace)
		if p.dropped {
			at = p.behind // the peer does not know
		}
	}
	if !p.differs.IsZero() {
		if d := p.differs.Add(p.wait + grace); at.IsZero() || d.Before(at) {
			at = d
		}
	}
	if at.IsZero() {
		return at, false
	}
	if next := p.rounded.Add(afterTurn); at.Before(next) && p.rounds > 0 {
		at = next
	}
	return at, true
}

// Wrote hands over records that this director wrote, to be sent to all peers. It never blocks.
func (r *Replica) Wrote(changes []affinity.Change, revision uint64) {
	b := batch{revision: revision, at: time.Now()}
	size := 0
	for i := range changes {
		if c := &changes[i]; c.Value != nil {
			b.records = append(b.records, affinity.Change{Kind: c.Kind, Key: c.Key, Value: c.Value})
			size += wireSize(c)
		}
	}
	if len(b.records) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = max(r.last, revision)
	for _, p := range r.peers {
		if p.dialled.link == nil {
			continue
		}
		p.queue, p.queued, p.queueBytes = append(p.queue, b), p.queued+len(b.records), p.queueBytes+size
		if p.queued > maxQueued || p.queueBytes > maxQueueBytes {
			p.begin(b.at)
			p.dropped = true
		}
	}
	r.poke()
}

// take gives the next records of the queue, as many as go into a Delta, and up to which revision they are complete (0: they
// end within a batch).
func (p *peer) take() (records []affinity.Change, revision uint64) {
	size := 0
	for len(p.queue) > 0 {
		b := &p.queue[0]
		n := 0
		for n < len(b.records) && len(records)+n < maxRecords && size < maxBytes {
			size += wireSize(&b.records[n])
			n++
		}
		records = append(records, b.records[:n]...)
		if b.records = b.records[n:]; len(b.records) > 0 {
			break
		}
		revision = b.revision
		p.queue = p.queue[1:]
	}
	p.queued -= len(records)
	p.queueBytes -= size
	return records, revision
}
