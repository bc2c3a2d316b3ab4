package director

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"tunneldirector/affinity"
	"tunneldirector/director/observe"
)

// A Director is one node's wanted state and what keeps the kernel like it.
type Director struct {
	o       Options
	store   Store
	started time.Time

	// Owned by Run.
	work      *affinity.Table
	assigns   bool // placements and lives are this director's to write
	clock     affinity.Clock
	local     local
	turn      uint64 // placements made, for round robin
	sweep     sweep
	planeErr  error // the last; the plane is replaced whole until it is nil
	replaceAt time.Time
	unsettled map[string]Verdict      // by real server: not acted on yet
	condemned map[affinity.Index]bool // failed over in the plane, not latched on disk yet
	early     []Verdict               // that came while a commit was under way
	fatal     error                   // the disk may hold what the table does not
	cutAt     time.Time               // when this director was last seen to be, perhaps, cut off
	alone     bool                    // no other plane is in the kernel any more
	headless  map[string]time.Time    // real servers whose terminator's control process is gone, since when
	shut      map[string]bool         // real servers that get no new pins, by the last look at their agents and probes
	drains    map[string]*drain       // by real server
	releases  []release
	waiting   []move                   // not handed over yet: the plane refused
	overdue   map[affinity.Index]*debt // of which no agent was told, by the real server that is to
	again     []observe.Sighting       // that the disk refused
	deadlines map[string]deadline      // of drains
	forgotten affinity.Stamp           // tombstones before it are gone
	watch     wallWatch
	learned   int      // tunnels that nobody announced, at the last count and since
	heard     bool     // agents have said something since the last tick
	targets   []Target // as the prober knows them
	joint     joint

	always chan struct{} // closed

	requests chan *request
	merges   chan *merge
	leaves   chan struct{}
	verdicts chan Verdict
	stopped  chan struct{} // closed when Run ends

	// Read by anybody.
	published atomic.Pointer[affinity.Table]
	digest    *affinity.Digest
	health    atomic.Pointer[health]
	stamp     atomic.Uint64 // the clock's last
	turned    atomic.Int64  // when the loop last began a turn, Unix nanoseconds
	reserved  atomic.Pointer[[]netip.Prefix]
	holding   atomic.Pointer[map[string]time.Time] // addresses
	changed   *bell
	events    *events
}

// local is what the host said last.
type local struct {
	own      []netip.Addr
	reserved []netip.Prefix
}

type request struct {
	ops  []affinity.Op
	dry  bool // judge them, make none
	done chan []affinity.Result
}

// ErrRefused is wrapped by the error of a Store that wrote nothing. Any other error of Commit ends the director.
var ErrRefused = errors.New("the store refuses writes")

// ErrStopped is returned to those who ask a director that is shutting down.
var ErrStopped = errors.New("the director is shutting down")

// A step is one commit. Store.Commit is atomic up to 5,000 records, and a change makes two at most, so a step takes
// maxOps of one caller, and others' on top while they are few.
const (
	maxOps    = 2000
	maxGather = 500
)

// Open makes the plane hold the table and returns a director that is complete but does not act until Run. A table that the
// plane cannot do is an error that wraps Unable, and then nothing was programmed.
func Open(ctx context.Context, s *Stored, o Options) (*Director, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	d := &Director{o: o, started: o.Now(), requests: make(chan *request),
		stopped: make(chan struct{}), verdicts: make(chan Verdict, 256), events: newEvents(), unsettled: map[string]Verdict{}, condemned: map[affinity.Index]bool{}, headless: map[string]time.Time{}, shut: map[string]bool{}, deadlines: map[string]deadline{}, drains: map[string]*drain{}, overdue: map[affinity.Index]*debt{}}
	d.merges, d.leaves, d.changed = make(chan *merge), make(chan struct{}, 1), newBell()
	d.joint = joint{lonely: d.started, doubts: map[string]*doubt{}, unreached: map[string]time.Time{}, cuts: map[string]cut{}, disowned: map[netip.Addr]time.Time{}, siblings: map[affinity.GroupID]sibling{}}
	d.assigns = o.Peers == nil
	d.turned.Store(time.Now().UnixNano())
	d.holding.Store(&map[string]time.Time{})
	d.always = make(chan struct{})
	close(d.always)
	d.take(s)
	if err := Check(o.Plane, asked(d.work, nil)); err != nil {
		return nil, fmt.Errorf("the stored table asks for what plane %s cannot do; nothing was programmed:\n%w", o.PlaneKind, err)
	}
	if err := d.refreshHost(); err != nil {
		return nil, err
	}
	d.note(func(h *health) {
		h.another = o.Supplant != nil
		if o.Peers != nil {
			h.unready = "it has just begun"
		}
	})
	d.publish(d.work)
	if err := d.replacePlane(ctx); err != nil { // what is there from before goes on; it is tried again
		d.planeFailed(fmt.Errorf("program the data plane: %w", err))
	}
	d.holdNow(ctx) // the VIPs come last: what they draw is forwarded at once
	d.supplant(ctx)
	if !d.assigns {
		return d, nil
	}
	return d, d.placeUnpinned(ctx)
}

func (d *Director) publish(t *affinity.Table) {
	d.work = t
	d.stamp.Store(uint64(d.clock.Last()))
	d.published.Store(t)
	d.changed.ring()
}

// Table is the current state, immutable.
func (d *Director) Table() *affinity.Table { return d.published.Load() }

// Do applies changes in order and answers each. Up to 2,000 are one durable step; more are several.
func (d *Director) Do(ctx context.Context, ops []affinity.Op) ([]affinity.Result, error) {
	var out []affinity.Result
	for part := range slices.Chunk(ops, maxOps) {
		var results []affinity.Result
		var err error
		if other := d.elsewhere(part); other != "" {
			results, err = d.forward(ctx, other, part)
		} else {
			results, err = d.ask(ctx, part, false)
			d.awaitPlaced(ctx, part, results)
		}
		if err != nil {
			return out, err
		}
		out = append(out, results...)
	}
	return out, nil
}

// Try answers changes as if they were made together, and makes none.
func (d *Director) Try(ctx context.Context, ops []affinity.Op) ([]affinity.Result, error) {
	return d.ask(ctx, ops, true)
}

func (d *Director) ask(ctx context.Context, ops []affinity.Op, dry bool) ([]affinity.Result, error) {
	r := &request{ops, dry, make(chan []affinity.Result, 1)}
	select {
	case d.requests <- r:
	case <-d.stopped:
		return nil, ErrStopped
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	select {
	case results := <-r.done:
		return results, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-d.stopped:
	}
	select {
	case results := <-r.done: // answered in the end
		return results, nil
	default:
		return nil, ErrStopped
	}
}

// Report hands a verdict about a real server to the loop. It may be called from any goroutine.
func (d *Director) Report(ctx context.Context, v Verdict) {
	select {
	case d.verdicts <- v:
	case <-ctx.Done():
	}
}

// Run acts until ctx ends. What forwards in the kernel goes on forwarding.
func (d *Director) Run(ctx context.Context) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	slow := time.NewTicker(time.Second)
	defer slow.Stop()
	defer close(d.stopped)
	d.sweep.start()
	d.sweep.lately = true
	d.watchTargets()
	d.countLearned()
	minutely := time.NewTicker(time.Minute)
	defer minutely.Stop()
	var peers <-chan struct{}
	if !d.lone() {
		peers = d.o.Peers.Changed()
		d.lookAtPeers(ctx)
	}
	var said <-chan struct{}
	if d.o.Agents != nil {
		said = d.o.Agents.Changed()
	}
	for {
		d.beginTurn()
		var sweeping <-chan struct{} // mending goes on as long as nobody asks for anything
		if d.sweep.pass != 0 && !d.work.Freeze().On && d.planeErr == nil && d.settled() {
			sweeping = d.always
		}
		select {
		case v := <-d.verdicts:
			d.judge(ctx, v)
			continue
		default:
		}
		select {
		case <-ctx.Done():
			return nil
		case v := <-d.verdicts:
			d.judge(ctx, v)
		case r := <-d.requests:
			d.step(ctx, d.gather(r))
			d.judgeWaiting(ctx)
		case m := <-d.merges:
			d.merge(ctx, d.gatherMerges(m))
			d.judgeWaiting(ctx)
		case <-peers:
			d.lookAtPeers(ctx)
		case <-d.leaves:
			d.leave(ctx)
			d.tellLeaving()
		case <-tick.C:
			d.background(ctx)
			d.say()
			if d.heard {
				d.heard = false
				d.hearAgents(ctx)
			}
		case <-sweeping:
			d.background(ctx)
		case <-said:
			d.heard = true
		case <-minutely.C:
			if d.assigns {
				d.unlearn(ctx)
			}
			d.countLearned()
		case <-slow.C:
			d.lookAgain(ctx)
		}
		if d.fatal != nil {
			return d.fatal
		}
	}
}

// hangs is how long a turn of the loop may take; a push of a complete set is the longest, with some seconds at 1,000,000 tunnels.
const hangs = 10 * time.Second

// Turns tells whether the loop turns. One that hangs must not keep addresses.
func (d *Director) Turns() bool { return time.Since(time.Unix(0, d.turned.Load())) < hangs }

// gather takes the requests that wait already: one commit serves them all.
func (d *Director) gather(first *request) []*request {
	batch, n := []*request{first}, len(first.ops)
	for n < maxGather {
		select {
		case r := <-d.requests:
			batch = append(batch, r)
			n += len(r.ops)
		default:
			return batch
		}
	}
	return batch
}

// step applies a batch: the whole line of a push.
func (d *Director) step(ctx context.Context, batch []*request) {
	tx := d.begin()
	answers := make([][]affinity.Result, len(batch))
	if r := d.notReady(); r != nil { // what is here may be half of the table
		for _, q := range batch {
			q.done <- slices.Repeat([]affinity.Result{{Err: r}}, len(q.ops))
		}
		return
	}
	for i, r := range batch {
		if r.dry {
			answers[i] = tx.try(r.ops)
			continue
		}
		answers[i] = make([]affinity.Result, len(r.ops))
		for j, op := range r.ops {
			answers[i][j] = tx.do(op)
		}
	}
	d.tellRefused(batch, answers)
	err := d.commit(ctx, tx)
	for i, r := range batch {
		for j := range answers[i] {
			answers[i][j].Revision = d.work.Revision()
			if err != nil && answers[i][j].Err == nil && !r.dry {
				answers[i][j] = affinity.Result{Err: err}
			}
		}
		r.done <- answers[i]
	}
}

// TombstonesLive is how long a deleted tunnel is remembered: a late push of an older generation is refused that long.
const TombstonesLive = 30 * 24 * time.Hour

// forget drops tombstones that have served their time, on the hour, so that all directors forget the same ones at the same time.
func (d *Director) forget() {
	before := d.forgetful()
	if before == d.forgotten || d.clock.Logical {
		return
	}
	d.forgotten = before
	next := d.work.Clone()
	if old := next.ForgetTombstones(before); len(old) > 0 {
		d.publish(next)
		d.digest.Note(old)
		d.o.Log.Info("old tombstones forgotten", "records", len(old))
	}
}

// forgetful is the stamp before which tombstones are forgotten now.
func (d *Director) forgetful() affinity.Stamp {
	return affinity.NewStamp(d.reckoned().Add(-TombstonesLive).Truncate(time.Hour), 0)
}

// lookAgain judges what was held, and refreshes what others may have changed.
func (d *Director) lookAgain(ctx context.Context) {
	if d.o.Prober != nil {
		for _, v := range d.o.Prober.Verdicts() {
			d.judge(ctx, v)
		}
	}
	d.judgeWaiting(ctx)
	d.lookAtProbing()
	d.forget()
	d.lookAtPeers(ctx)
	d.settleSiblings(ctx)
	d.joinSplit(ctx)
	d.releaseDue()
	d.adoptOverdue()
	d.reopen()
	d.heard = d.heard || len(d.again) > 0
	d.watchTargets() // an agent may have fallen silent
	before := d.local
	if err := d.refreshHost(); err != nil {
		d.o.Log.Warn("read the host's addresses", "error", err)
		return
	}
	if !before.equal(d.local) {
		d.o.Log.Info("own addresses changed", "own", d.local.own)
		d.program(ctx, affinity.Dirty{Config: true})
	}
	d.noteClock()
	if d.lone() { // else done with the look at the peers
		d.holdNow(ctx)
	}
	d.supplant(ctx)
}
