package director

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"tunneldirector/affinity"
	"tunneldirector/cluster"
	"tunneldirector/director/api"
)

// Peers is how a director speaks with the others. All methods may be called from any goroutine, and none blocks but Ask.
type Peers interface {
	// View is who is alive, and what each says of itself.
	View() cluster.View
	// Changed is poked when the View has changed in more than its times.
	Changed() <-chan struct{}
	// Say is this director's own word in the beats to come; it also proves that its loop turns.
	Say(cluster.Beat)
	// Wrote hands over records that this director has written and its disk has: to be sent to all others.
	Wrote(changes []affinity.Change, revision uint64)
	// Synced tells whether this director has had, since it started, all that a live peer held: of one that was ready then, or of every live one.
	Synced() (withReady, withAll bool)
	// Settled tells whether tables are not being compared, so that what lacks here lacks at every live director. It answers true after
	// a while even if a peer cannot be compared with.
	Settled() bool
	// Streams are directors with which there are streams though no heartbeat of theirs is heard.
	Streams() []string
	// Await waits until n of the others (below 0: all live ones) have all that Wrote was given up to a revision, durable and in their
	// data planes, or until ctx ends, and names those that have.
	Await(ctx context.Context, revision uint64, n int) []string
	// Ask puts a question to another director's loop.
	Ask(ctx context.Context, name string, question []byte) (answer []byte, err error)
}

// settled tells whether what is here is all that the live directors have.
func (d *Director) settled() bool { return d.lone() || d.o.Peers.Settled() }

// joint is what the loop knows of its being one of several.
type joint struct {
	ready    time.Time // zero: it is not
	lonely   time.Time // since when no ready peer was seen
	assigner string    // as it was last seen
	mine     time.Time // since when this director is the assigner by its view
	leaving  bool
	resumes  time.Time // when it decides again what to hold
	sick     bool
	full     bool          // the disk refused the last commit
	offset   time.Duration // of the clock before the others'

	living    map[string]string        // the others, as they were last told of
	unreached map[string]time.Time     // real servers that do not answer; since when they do so to others
	doubts    map[string]*doubt        // by real server: deaths that are not latched
	holds     map[string]time.Time     // addresses that are held, since when
	rivals    map[netip.Addr]string    // who else says that it holds what is held, by the last look
	disowned  map[netip.Addr]time.Time // addresses whose owner is another one, since when; of one that cannot say what it holds
	probing   time.Time                // since when there is something to probe

	cuts     map[string]cut // by director: when it was last out of reach
	siblings map[affinity.GroupID]sibling
}

const (
	// aloneAfter is how long a director with a table waits for others before it goes on alone.
	aloneAfter = 5 * time.Second
	// fillingAfter is how long one that has the table waits for those that are being filled, if nobody else is ready.
	fillingAfter = 3 * aloneAfter
	// handOver is how long a director has been the assigner in its own view before it acts as one: the one before has seen it by then.
	handOver = 300 * time.Millisecond
)

// lone tells whether there are no other directors, ever.
func (d *Director) lone() bool { return d.o.Peers == nil }

// view is what is known of all directors; of a lone one, nothing.
func (d *Director) view() cluster.View {
	if d.lone() {
		return cluster.View{}
	}
	return d.o.Peers.View()
}

// indexes are those that this director gives out: every MaxRank-th from its rank on, so that two assigners that cannot talk
// never give out the same. A lone director gives out all.
func (d *Director) indexes() (first, stride int) {
	if d.lone() {
		return 1, 1
	}
	return d.o.Rank, cluster.MaxRank
}

// lookAtPeers draws the conclusions of what the others say.
func (d *Director) lookAtPeers(ctx context.Context) {
	if d.lone() {
		return
	}
	d.beginTurn() // this one may have begun before the process was stopped
	now, v := d.o.Now(), d.view()
	d.noteCuts(v)
	d.tellPeersLives(v)
	d.becomeReady(now, v)
	d.watchClock(v)
	d.takeAssigning(now, v)
	d.settleDoubts(ctx, v)
	d.say()
	d.holdNow(ctx)
	d.say() // what is held now
}

// becomeReady: with ready peers, when all that one of them has is here; without any for a while, if there is something to
// forward by, or nothing at any live director, or nobody is expected.
func (d *Director) becomeReady(now time.Time, v cluster.View) {
	if !d.joint.ready.IsZero() {
		return
	}
	withReady, withAll := d.o.Peers.Synced()
	unheard := d.o.Peers.Streams()
	_, records := d.digest.Root()
	alive, ready := 0, 0
	for _, p := range v.Peers {
		if p.Alive {
			alive++
			if p.Beat.Ready {
				ready++
			}
		}
	}
	why := ""
	switch {
	case ready > 0:
		d.joint.lonely = now
		if withReady {
			why = "it holds all that a ready director has"
		}
	case len(unheard) > 0:
		d.joint.lonely = now
	case now.Sub(d.joint.lonely) < aloneAfter:
	case alive > 0 && withAll:
		why = "no director is ready, and all that the live ones have is here"
	case alive > 0:
		if now.Sub(d.joint.lonely) >= fillingAfter && d.hasMost(v) {
			why = "no director is ready, and nobody has more than what is here; degraded"
		}
	case records > 0:
		why = "no other director was heard; degraded"
	case !d.o.Expects:
		why = "no other director is configured"
	}
	if why != "" {
		d.joint.ready = now
		d.o.Log.Info("director is ready", "why", why, "tunnels", d.work.Len())
		d.tell(api.Event{Kind: "director", Object: d.o.Name, Why: "ready: " + why})
		d.note(func(h *health) { h.unready = "" })
		return
	}
	d.note(func(h *health) { h.unready = unreadyWords(alive, ready, records, unheard) })
}

// hasMost tells whether no live director has more records; of those that have as many the one of the lowest rank has.
func (d *Director) hasMost(v cluster.View) bool {
	_, records := d.digest.Root()
	return records > 0 && !slices.ContainsFunc(v.Peers, func(p cluster.Peer) bool {
		return p.Alive && (p.Beat.Records > uint64(records) || p.Beat.Records == uint64(records) && p.Member.Rank < d.o.Rank)
	})
}

func unreadyWords(alive, ready, records int, unheard []string) string {
	switch {
	case len(unheard) > 0:
		return fmt.Sprintf("%v speak with it, but their heartbeats are not heard: is the keyring the same, and UDP to the ports of cluster.heartbeat let through?", unheard)
	case ready > 0:
		return "the table is being fetched from the other directors"
	case alive > 0:
		return "no director is ready yet; the live ones compare what they have"
	}
	if records > 0 {
		return "it waits a few seconds for other directors before it goes on alone"
	}
	return "the table is empty and no other director answers; start one that has it, or take cluster.join out if there is none"
}

// notReady refuses changes while this director has not fetched the table from the others.
func (d *Director) notReady() *affinity.Refusal {
	if d.lone() || !d.joint.ready.IsZero() {
		return nil
	}
	return affinity.Refuse(affinity.Unwritable, "director "+d.o.Name, affinity.Fault{Field: "director", Value: d.o.Name, Problem: "is not ready: " + d.health.Load().unready, Remedy: "ask another director, or wait"})
}

// watchClock lets stamps count on by themselves while the wall clock is off the others'.
func (d *Director) watchClock(v cluster.View) {
	off := v.Offset()
	d.joint.offset = off
	wild := off.Abs() > cluster.MaxOffset
	if wild != d.clock.Logical && (wild || d.clockTrusted()) {
		d.clock.Logical = wild
		d.o.Log.Warn("clock against the other directors'", "ahead", off, "stamps_by_logic_alone", wild)
		d.tell(api.Event{Kind: "clock", Object: d.o.Name, Why: fmt.Sprintf("%v ahead of the other directors' median; stamps count on by themselves: %t", off.Round(time.Millisecond), wild)})
	}
	d.note(func(h *health) { h.offset = off })
}

// takeAssigning begins or ends this director's being the assigner.
func (d *Director) takeAssigning(now time.Time, v cluster.View) {
	name := v.Assigner()
	if name != d.joint.assigner {
		d.o.Log.Info("assigner", "is", name, "was", d.joint.assigner)
		d.tell(api.Event{Kind: "assigner", Object: name, From: d.joint.assigner, To: name, Why: "as this director sees it"})
		d.joint.assigner = name
		d.note(func(h *health) { h.assigner = name })
	}
	switch {
	case name != d.o.Name || d.joint.ready.IsZero() || d.joint.leaving:
		d.joint.mine = time.Time{}
		d.assigns = false
	case d.joint.mine.IsZero():
		d.joint.mine = now
	case !d.assigns && now.Sub(d.joint.mine) >= handOver && d.settled():
		d.assigns = true
		d.sweep.takeOver()
		d.o.Log.Info("this director assigns now")
		d.tell(api.Event{Kind: "director", Object: d.o.Name, Why: "it assigns now"})
	}
}

// say tells the others how this director is.
func (d *Director) say() {
	if !d.lone() {
		d.beginTurn()
		d.o.Peers.Say(d.beat())
	}
}

// beat is what there is to say.
func (d *Director) beat() cluster.Beat {
	now := d.o.Now()
	root, records := d.digest.Root()
	b := cluster.Beat{
		From:  d.o.Name,
		Ready: !d.joint.ready.IsZero(), Leaving: d.joint.leaving, Sick: d.joint.sick, Assigns: d.assigns,
		Revision: d.work.Revision(), Root: root, Records: uint64(records), Full: d.joint.full,
	}
	v := d.view()
	v.Beat = b
	b.Assigner = v.Heard()
	if b.Ready {
		b.ReadyFor = now.Sub(d.joint.ready)
	}
	for a := range d.joint.holds {
		b.Holds = append(b.Holds, cluster.HashOf(a))
	}
	if d.o.Prober != nil && !d.joint.probing.IsZero() && now.Sub(d.joint.probing) >= afterCut {
		b.Probes = true
		for name := range d.joint.unreached {
			b.Unreached = append(b.Unreached, cluster.HashOf(name))
		}
	}
	slices.Sort(b.Holds)
	slices.Sort(b.Unreached)
	if len(b.Holds) > cluster.MaxHashes || len(b.Unreached) > cluster.MaxHashes {
		b.Many, b.Holds, b.Unreached = true, nil, nil
	}
	return b
}

// Leave has the other directors take over, and waits until they hold what this one held, or ctx ends. It stays a member
// that forwards what still comes; it does not come back by itself.
func (d *Director) Leave(ctx context.Context) error {
	if d.lone() {
		return nil
	}
	select {
	case d.leaves <- struct{}{}:
	case <-d.stopped:
		return ErrStopped
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	for {
		if h := *d.holding.Load(); len(h) == 0 || d.health.Load().last {
			return nil
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-d.stopped:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("leave: nobody took over %v: %w", slices.Sorted(maps.Keys(*d.holding.Load())), context.Cause(ctx))
		}
	}
}
