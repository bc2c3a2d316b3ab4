package director

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"tunneldirector/affinity"
	"tunneldirector/director/api"
)

// A Target is a real server to be probed.
type Target struct {
	Name   string
	Addrs  []netip.Addr
	VIPs   []netip.Addr // of its services
	Check  affinity.Check
	Method affinity.Method
	// Agent is the port at the VIPs where the real server's agent answers probes; 0: it has none. AgentUp: its stream is up.
	Agent   uint16
	AgentUp bool
}

func (t Target) equal(o Target) bool {
	return t.Name == o.Name && t.Check == o.Check && t.Method == o.Method && t.Agent == o.Agent && t.AgentUp == o.AgentUp &&
		slices.Equal(t.Addrs, o.Addrs) && slices.Equal(t.VIPs, o.VIPs)
}

// A Prober measures real servers and reports Verdicts. It decides nothing about the table.
type Prober interface {
	// Watch replaces the targets.
	Watch(targets []Target)
	// Verdicts are the last of each target that has one.
	Verdicts() []Verdict
	// Answering counts the targets that answered within the last probe intervals, of how many.
	Answering() (answering, targets int)
	// Probed is how the last probe of a real server went, in words, and the last round trip; zero if unknown.
	Probed(name string) (cause string, rtt time.Duration)
}

// A Doubter is a Prober that can tell why a real server should get no new tunnels, though it is alive.
type Doubter interface {
	// Doubt is the reason: it answers much later than when it is idle, or its agent not at all. "": none.
	Doubt(name string) string
}

// A Verdict is what probes say of a real server.
type Verdict struct {
	RealServer string
	Alive      bool
	Back       bool // not alive, but the last round was answered
	Cause      string
}

//	        first answer            probes: dead, and believed
//	new ────────────────▶ alive #1 ─────────────────────────────▶ dead #1 (latched: its index stays failed over)
//	                                                                 │ answers again
//	                       alive #2 (new index) ◀────────────────────┘
//
// A death is held, not believed, while nobody answers, while a link of the director is down, and while frozen (rule 8); not for the
// first two where another director, which reaches others, says it too.
// Those that were held while the director may have been cut off are held for afterCut more, and while they answer: real servers do
// not come back to it all in one round, and the first one's answers prove nothing about the others.

// afterCut is longer than probes take to find a real server alive again, by default, and the next look at what is held.
const afterCut = 3 * time.Second

// judge acts on a verdict.
func (d *Director) judge(ctx context.Context, v Verdict) {
	life, known := d.work.LifeOf(v.RealServer)
	_, exists := d.work.RealServer(v.RealServer)
	d.noteReach(v)
	switch {
	case !exists:
		d.settle(v.RealServer)
	case v.Alive && known && d.condemned[life.Index] && !d.lone():
		d.absolve(v.RealServer, "it answers again: "+v.Cause)
	case v.Alive && known && d.condemned[life.Index]:
		d.died(ctx, life, Verdict{RealServer: v.RealServer, Cause: "did not answer, and answers again: " + v.Cause})
	case v.Alive:
		d.settle(v.RealServer)
		if !known || !life.Alive {
			d.born(ctx, v)
		}
	case known && life.Alive:
		why := d.holdDeath(v.RealServer)
		if _, held := d.unsettled[v.RealServer]; why == "" && held && v.Back {
			why = "it has begun to answer again"
		}
		if why != "" {
			d.unsettle(v, "held because "+why)
			return
		}
		if !d.lone() {
			d.settle(v.RealServer)
			d.doubtLife(ctx, life, v)
			return
		}
		d.died(ctx, life, v)
	default:
		d.settle(v.RealServer)
	}
}

// condemn fails an incarnation over in the data plane, by one write. It comes before the disk, and holds until the table
// says so too.
func (d *Director) condemn(life *affinity.Life, v Verdict) {
	if d.condemned[life.Index] {
		return
	}
	began := d.o.Now()
	d.condemned[life.Index] = true
	if err := d.o.Plane.SetAlive(life.Index, false); err != nil {
		d.planeFailed(fmt.Errorf("fail over real server %s: %w", v.RealServer, err))
	}
	d.o.Log.Error("real server dead, its tunnels are on their backups", "real_server", v.RealServer, "incarnation", life.Incarnation, "cause", v.Cause, "plane_us", d.o.Now().Sub(began).Microseconds())
}

// unsettle keeps a verdict that could not be acted on; it is judged again every second.
func (d *Director) unsettle(v Verdict, why string) {
	if d.unsettled[v.RealServer] != v {
		d.o.Log.Error("verdict not acted on", "real_server", v.RealServer, "alive", v.Alive, "cause", v.Cause, "why", why)
		d.tell(api.Event{Kind: "held", Object: v.RealServer, Why: v.Cause + "; not acted on: " + why})
	}
	d.unsettled[v.RealServer] = v
	d.note(func(h *health) { h.held[v.RealServer] = v.Cause + "; " + why })
}

func (d *Director) settle(name string) {
	delete(d.unsettled, name)
	d.note(func(h *health) { delete(h.held, name) })
}

// holdDeath says why a death is not believed now; "" if it is.
func (d *Director) holdDeath(name string) string {
	if f := d.work.Freeze(); f.On {
		return "automatic moves are frozen by " + f.By
	}
	why := d.cutOff()
	if why != "" {
		d.cutAt = d.o.Now()
	} else if _, held := d.unsettled[name]; held && d.o.Now().Sub(d.cutAt) < afterCut {
		why = "this director may have been cut off until a moment ago"
	}
	if why != "" && d.witnessed(d.view(), name) {
		return ""
	}
	return why
}

// cutOff says why it may be the director itself that reaches nobody; "" if somebody answers.
func (d *Director) cutOff() string {
	if !d.o.Host.LinksUp() {
		return "a link of this director towards the real servers is down"
	}
	if d.o.Prober == nil {
		return ""
	}
	if n, of := d.o.Prober.Answering(); n == 0 {
		return fmt.Sprintf("none of %d real servers answers, so this director may be what is cut off", of)
	}
	return ""
}

// died latches a death: the data plane first, by one write, then the disk.
func (d *Director) died(ctx context.Context, life *affinity.Life, v Verdict) {
	d.condemn(life, v)
	tx := d.begin()
	tx.kill(life, v.Cause)
	for _, other := range d.work.Lives() { // born on the other side of a partition
		if other.RealServer == life.RealServer && other.Alive && other != life {
			d.condemn(other, v)
			tx.kill(other, v.Cause)
		}
	}
	if d.persist(ctx, tx, v) {
		d.forgive()
	}
	d.sweep.start()
}

// noteReach notes whether a real server answers this director, which the others are told.
func (d *Director) noteReach(v Verdict) {
	switch _, known := d.joint.unreached[v.RealServer]; {
	case d.lone():
	case v.Alive:
		d.answers(v.RealServer, v.Cause)
	case !known:
		d.joint.unreached[v.RealServer] = d.o.Now()
		d.say()
	}
}

// forgive forgets which incarnations were condemned that the table says are dead: their indexes may be given out again.
func (d *Director) forgive() {
	for index := range d.condemned {
		if !d.work.AliveAt(index) {
			delete(d.condemned, index)
		}
	}
}

// born gives a real server that answers a new incarnation.
func (d *Director) born(ctx context.Context, v Verdict) {
	if !d.assigns {
		return // the assigner's probes find it, too
	}
	tx := d.begin()
	if !tx.birth(v.RealServer, v.Cause) {
		d.unsettle(v, "no data-plane index is free for a new incarnation")
		return
	}
	d.persist(ctx, tx, v)
	d.sweep.start()
}

// persist commits what follows from a verdict. If the disk refuses, it is judged again.
func (d *Director) persist(ctx context.Context, tx *tx, v Verdict) bool {
	if err := d.commit(ctx, tx); err != nil {
		d.unsettle(v, err.Error())
		return false
	}
	d.settle(v.RealServer)
	return true
}

// kill latches an incarnation's death.
func (x *tx) kill(life *affinity.Life, cause string) {
	if !x.assigns {
		return
	}
	dead := *life
	dead.Header = x.header(affinity.KindLife, affinity.LifeKey(life.Index))
	dead.Header.Epoch = life.Header.Epoch + 1
	dead.Alive, dead.Cause, dead.Since = false, cause, dead.Header.Stamp
	x.t.SetLife(&dead)
	x.event("real-server", life.RealServer, func(e *api.Event) { e.Why = "dead: " + cause })
}

// retire kills a real server's current incarnation, if it lives.
func (x *tx) retire(name, cause string) {
	if life, ok := x.t.LifeOf(name); ok && life.Alive {
		x.kill(life, cause)
		x.d.sweep.start()
	}
}

// birth makes a new incarnation; false without a free index.
func (x *tx) birth(name, cause string) bool {
	index, ok := x.freeIndex(name)
	if !ok || !x.assigns {
		return false
	}
	incarnation := uint32(1)
	if old, ok := x.t.LifeOf(name); ok {
		incarnation = old.Incarnation + 1
	}
	h := x.header(affinity.KindLife, affinity.LifeKey(index))
	h.Epoch = x.t.LifeEpoch(index) + 1
	x.t.SetLife(&affinity.Life{Header: h, RealServer: name, Incarnation: incarnation, Index: index, Alive: true, Since: h.Stamp, Cause: cause})
	x.event("real-server", name, func(e *api.Event) { e.Why = fmt.Sprintf("alive: %s (incarnation %d)", cause, incarnation) })
	x.d.sweep.roomAppeared = true
	if x.d.o.Agents != nil {
		x.d.o.Agents.Again(name)
	}
	return true
}

// freeIndex is an index for a new incarnation: one of this director's own, else that of the real server's dead one, if no pin names
// it, else any.
func (x *tx) freeIndex(name string) (affinity.Index, bool) {
	if i, ok := x.t.FreeIndex(x.d.indexes()); ok {
		return i, true
	}
	if l, ok := x.t.LifeOf(name); ok && !l.Alive {
		named := false
		x.t.Pairs(func(p, b affinity.Index, _ affinity.Load) { named = named || p == l.Index || b == l.Index })
		if !named {
			return l.Index, true
		}
	}
	return x.t.FreeIndex(1, 1)
}

// bearUnprobed takes a real server for alive where nobody probes.
func (x *tx) bearUnprobed(name string) {
	_, exists := x.t.RealServer(name)
	if life, ok := x.t.LifeOf(name); exists && x.d.o.Prober == nil && (!ok || !life.Alive) {
		x.birth(name, "nobody probes")
	}
}

// watchTargets tells the prober whom to probe, if that is not what it does.
func (d *Director) watchTargets() {
	if d.o.Prober == nil {
		return
	}
	var targets []Target
	for _, rs := range d.work.RealServers() {
		t := Target{Name: rs.Name, Addrs: rs.Addrs, Check: rs.Check}
		for _, name := range rs.Services {
			if s, ok := d.work.Service(name); ok {
				t.Method = s.Method
			}
		}
		t.VIPs = vipsOf(d.work, rs)
		if d.o.Agents != nil {
			if a, ok := d.o.Agents.Agent(rs.Name); ok {
				t.Agent, t.AgentUp = a.ProbePort, a.Connected
			}
		}
		targets = append(targets, t)
	}
	if d.targets != nil && slices.EqualFunc(targets, d.targets, Target.equal) {
		return
	}
	d.targets = targets
	d.o.Prober.Watch(targets)
}
